"""A callback that ends the process before its first step."""

import os

from multilayer.training.epoch_callback import EpochCallback, Record


class EndProcess(EpochCallback):
    """Ends the process at once, as the first epoch begins."""

    def on_epoch_start(self, record: Record) -> None:
        """End it."""
        os._exit(0)
