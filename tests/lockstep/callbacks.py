"""Callbacks of a user's own that go wrong."""

from typing import Any

import pytorch_lightning as pl


class Raises(pl.Callback):
    """Raises in one of its hooks, from an epoch on; never where that is -1."""

    def __init__(self, hook: str, epoch: int = 0) -> None:
        def run(trainer: pl.Trainer, *args: Any, **arguments: Any) -> None:
            if 0 <= epoch <= trainer.current_epoch:
                raise RuntimeError(f"no {hook} today")

        setattr(self, hook, run)
