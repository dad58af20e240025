"""Data sets of a user's own."""

from multilayer import BuiltinData
from multilayer.data import Minibatches


class Small(BuiltinData):
    """One of ours by another name."""


class Noisy(BuiltinData):
    """Changes the rows each time they are asked for."""

    def train_dataloader(self) -> Minibatches:
        """The features with noise."""
        minibatches = super().train_dataloader()
        minibatches.features = minibatches.features + 0.1 * minibatches.features.sin()
        return minibatches
