"""A trained module, rebuilt from its checkpoint alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multilayer.core.errors import UserError
from multilayer.core.files import refusing
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Columns
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.factory import count_weights, make_module
from multilayer.training.instantiate import check_trusted_targets
from multilayer.training.module import SupervisedModule
from multilayer.training.runtime import restore_threads

REFUSALS = (RuntimeError, IndexError, TypeError, ValueError)
"""What torch raises for tensors that do not fit each other, a network or a loss."""


@dataclass(frozen=True)
class LoadedRun:
    """A trained module with the config and the columns it was trained on."""

    module: SupervisedModule
    config: dict[str, Any]
    columns: Columns
    preprocessing: Preprocessing
    data_fingerprint: str


def load_run(path: Path, *, allowed: list[str]) -> LoadedRun:
    """Rebuild a trained module from its checkpoint alone, ready to predict on the CPU.

    Only networks, losses and data sets from the allowed packages are instantiated.

    Raises `UserError` for a file that is no checkpoint of ours, or names what it may not.
    """
    checkpoint = read_checkpoint(path)
    config = checkpoint["multilayer"]["config"]
    check_trusted_targets({name: config[name] for name in ("data", "model", "loss")}, allowed)
    with refusing(path, "does not give a module that predicts", *REFUSALS):
        trained = rebuild(checkpoint)
        check_predictions(trained)
    restore_threads(checkpoint["multilayer"]["threads"])
    return trained


def rebuild(checkpoint: dict[str, Any]) -> LoadedRun:
    """The module of a checkpoint, with its weights."""
    metadata, weights = checkpoint["multilayer"], checkpoint["state_dict"]
    config, columns = metadata["config"], Columns(**metadata["columns"])
    preprocessing = Preprocessing.of(
        columns, numeric_scaling=config["data"].get("numeric_scaling", "standard")
    )
    load_weights(preprocessing, part_of(weights, "preprocessing."))
    check_width(config, columns, preprocessing, weights)
    fingerprint = metadata["data_fingerprint"]
    module = make_module(config, columns, preprocessing, data_fingerprint=fingerprint)
    load_weights(module, weights)
    return LoadedRun(module.eval(), config, columns, preprocessing, fingerprint)


def check_width(
    config: dict[str, Any],
    columns: Columns,
    preprocessing: Preprocessing,
    weights: dict[str, Tensor],
) -> None:
    """Raise `UserError` where the config describes a network far larger than the weights."""
    n = count_weights(config, columns, preprocessing)
    n_stored = sum(value.numel() for value in weights.values())
    if n > 2 * n_stored + 2**20:  # there may be some that are not stored
        raise UserError(
            f"the weights do not fit the config: it describes a network of {n:,} numbers, and "
            f"{n_stored:,} are stored"
        )


@torch.no_grad()
def check_predictions(trained: LoadedRun) -> None:
    """Raise an error where raw rows do not come out as predictions of the task, or with no loss."""
    columns = trained.columns
    rows = torch.zeros(3, len(columns.features), dtype=trained.preprocessing.raw_dtype)
    rows[1] = torch.nan
    for position, n_labels in columns.n_labels.items():
        rows[2, position] = n_labels  # one that is not known
    for part in (rows, rows[:2]):  # what is as long as one of them would pass for a number
        shape = tuple(trained.module(part).shape)
        expected = (len(part), len(columns.classes))[: 2 if columns.task == "multiclass" else 1]
        if shape != expected:
            raise UserError(f"its predictions have the shape {shape}, expected {expected}")
    target = torch.zeros(3) if columns.task == "regression" else torch.zeros(3).long()
    trained.module.evaluate([(rows, target)])


def part_of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights, which must fit the network that the config describes."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit the config: {error}") from error
