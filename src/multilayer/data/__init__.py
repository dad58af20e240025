"""Data sets: tables, their splits, preprocessing and minibatches.

Only `DataModule` and the data sets built on it need Lightning.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
