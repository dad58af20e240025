"""A run, from its config to its result: the module, its Trainer, evaluation, prediction."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
