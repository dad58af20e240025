"""Callbacks that average weights next to those that keep the best."""

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging

from multilayer.core.errors import UserError


def check_averaging(callbacks: Sequence[pl.Callback]) -> None:
    """Raise `UserError` where averaged weights are never validated, and others are kept."""
    keepers = [each for each in callbacks if hasattr(each, "validated")]  # as BestWeights
    keepers += [each for each in callbacks if isinstance(each, pl.callbacks.Checkpoint)]
    if keepers and any(isinstance(item, StochasticWeightAveraging) for item in callbacks):
        raise UserError(
            "callbacks: StochasticWeightAveraging puts averaged weights in place after the last "
            "validation, so that others are validated and kept; use "
            "pytorch_lightning.callbacks.WeightAveraging, which has the averaged ones validated"
        )
