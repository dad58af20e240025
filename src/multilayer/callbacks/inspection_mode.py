"""Looking at a network while it is trained, and leaving it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch

from multilayer.core.errors import UserError
from multilayer.data import DataModule
from multilayer.training.module import SupervisedModule


@contextmanager
def untouched(module: pl.LightningModule) -> Iterator[None]:
    """Within it the module evaluates; after it each layer's mode and the random numbers are back.

    A compiled network runs eagerly within: other shapes and modes would compile it anew.
    """
    layers = list(module.modules())
    modes = [layer.training for layer in layers]
    devices = [module.device] if module.device.type == "cuda" else []
    module.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode


def trained_here(
    trainer: pl.Trainer, module: pl.LightningModule
) -> tuple[SupervisedModule, DataModule]:
    """The module and the data, which must be of multilayer's kinds; else raises `UserError`."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(module, SupervisedModule) or not isinstance(data, DataModule):
        raise UserError(
            "callbacks diagnostics, figures and lr_sweep need multilayer's SupervisedModule and "
            f"DataModule, got {type(module).__name__} and {type(data).__name__}"
        )
    return module, data
