"""Data sets: tables, their splits, preprocessing and minibatches.

A `Dataset` needs torch alone; a `DataModule` is one that Lightning takes too.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
