"""Prints the network's layers and their parameters at the start."""

import pytorch_lightning as pl
from rich.console import Console
from rich.table import Table
from torch import nn

from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.training.runtime import count_parameters


class NetworkSummary(EpochsOnly, pl.callbacks.ModelSummary):
    """A row for each layer of the network, with its number of trained parameters."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table."""
        if trainer.is_global_zero:
            network = getattr(pl_module, "network", pl_module)
            Console(stderr=True).print(network_table(network))


def network_table(network: nn.Module) -> Table:
    """The table."""
    table = Table("layer", "parameters", header_style="bold")
    for name, layer in network.named_children():
        table.add_row(f"{name} {describe(layer)}", f"{count_parameters(layer):,}")
    total = f"{count_parameters(network):,}"
    table.add_row(type(network).__name__, total, style="bold")
    return table


def describe(layer: nn.Module) -> str:
    """The layer in one line: its own words if it has them, or else those of what it holds.

    >>> describe(nn.Sequential(nn.Linear(4, 2), nn.Identity(), nn.ReLU()))
    'Linear(in_features=4, out_features=2, bias=True), ReLU()'
    """
    parts = [part for part in layer.children() if changes_something(part)]
    return ", ".join(map(str, parts)) if parts else str(layer).partition("\n")[0]


def changes_something(part: nn.Module) -> bool:
    """Whether a part of a layer does more than hand its input on."""
    return not isinstance(part, nn.Identity) and getattr(part, "p", 1) != 0
