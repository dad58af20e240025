"""Multilayer perceptrons on PyTorch Lightning, configured with Hydra.

The public names are imported when they are first used: torch takes seconds to import, and the
command line answers without it. They stand in `__init__.pyi`.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("multilayer")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
