"""Whether a data set gives its rows as they are, or does something to its minibatches."""

from typing import Any

from multilayer.data import DataModule

LOADERS = (
    "minibatches",
    "train_minibatches",
    "train_dataloader",
    "val_dataloader",
    "transfer_batch_to_device",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
)


def changed_loader(kind: Any) -> str | None:
    """What a data set does to its minibatches by itself; a stack takes the rows as they are."""
    for name in LOADERS:
        if getattr(kind, name, None) is not getattr(DataModule, name):
            return name
    return None
