"""Estimators with scikit-learn's interface, trained by the stacks' steps: torch alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
