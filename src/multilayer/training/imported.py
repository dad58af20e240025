"""Classes of packages that take seconds to import, where they have been imported already."""

import sys
from typing import Any


def if_imported(*paths: str) -> tuple[Any, ...]:
    """The classes at dotted paths whose modules are imported: nothing is of the others.

    >>> isinstance("text", if_imported("builtins.str", "no_such_module.Class"))
    True
    """
    parts = (path.rpartition(".") for path in paths)
    found = (getattr(sys.modules.get(module), name, None) for module, _, name in parts)
    return tuple(each for each in found if each is not None)
