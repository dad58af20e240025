"""The files that a guide shows, written for a test."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

EXTENDING = Path(__file__).parents[1] / "docs" / "guides" / "extending.md"


@contextmanager
def files_of_extending(names: Sequence[str], folder: Path) -> Iterator[None]:
    """Files of the page on extending are in a folder, and its package can be imported.

    Args:
        names: As the first line of each block says.
        folder: Where they are written.
    """
    text = EXTENDING.read_text()
    for name in names:
        (content,) = re.findall(rf"(?ms)^```\w+\n# {re.escape(name)}\n(.*?)^```$", text)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
