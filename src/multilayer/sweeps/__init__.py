"""The ledger of a sweep: which jobs it has, who trains which of them, and how each ended."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
