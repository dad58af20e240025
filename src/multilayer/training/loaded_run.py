"""A finished run, rebuilt from its checkpoint alone."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multilayer.core.device import choose_device
from multilayer.core.errors import UserError
from multilayer.core.files import refusing
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Columns
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import find_checkpoint
from multilayer.training.components import assemble, count_weights, make_own_module
from multilayer.training.instantiate import check_trusted_targets
from multilayer.training.runtime import restore_threads
from multilayer.training.task_model import TaskModel

_REFUSALS = (RuntimeError, IndexError, TypeError, ValueError)
"""What torch raises for tensors that do not fit each other, a network or a loss."""


@dataclass(frozen=True)
class LoadedRun:
    """A trained task model with the config and the columns that it was trained on."""

    task_model: TaskModel
    config: dict[str, Any]
    columns: Columns
    preprocessing: Preprocessing
    data_fingerprint: str


def load_named(config: dict[str, Any]) -> tuple[LoadedRun, torch.device]:
    """The run that a command's config names, and the device that it chooses."""
    device = choose_device(config["device"])
    loaded = load_run(find_checkpoint(config["run"]), allowed=config["trusted_packages"])
    return loaded, device


def load_run(path: Path, *, allowed: list[str]) -> LoadedRun:
    """Rebuild what was trained from its checkpoint alone, ready to predict on the CPU.

    Only networks, losses and data sets from trusted packages are instantiated.

    Args:
        path: the checkpoint file.
        allowed: further packages that the user trusts.

    Raises:
        UserError: It is not a checkpoint of ours, or names something else.
    """
    checkpoint = read_checkpoint(path)
    config = checkpoint["multilayer"]["config"]
    rebuilt = ("data", "model", "module", "loss")
    check_trusted_targets({name: config.get(name) for name in rebuilt}, allowed)
    with refusing(path, "does not give a module that predicts", *_REFUSALS):
        loaded = _rebuild(checkpoint)
        _check_predictions(loaded)
    restore_threads(checkpoint["multilayer"]["threads"])
    return loaded


def _rebuild(checkpoint: dict[str, Any]) -> LoadedRun:
    """The task model of a checkpoint, with its weights."""
    metadata, weights = checkpoint["multilayer"], checkpoint["state_dict"]
    config, columns = metadata["config"], Columns(**metadata["columns"])
    preprocessing = Preprocessing.of(
        columns, numeric_scaling=config["data"].get("numeric_scaling", "standard")
    )
    begin = "preprocessing."
    own = {name.removeprefix(begin): weights[name] for name in weights if name.startswith(begin)}
    _load_weights(preprocessing, own)
    n = count_weights(config, columns, preprocessing)
    n_stored = sum(value.numel() for value in weights.values())
    if n > 2 * n_stored + 2**20:  # some may not be stored
        raise UserError(
            f"the weights do not fit the config: it describes a network of {n:,} numbers, and "
            f"{n_stored:,} are stored"
        )
    fingerprint = metadata["data_fingerprint"]
    make = make_own_module(config, columns.task) or partial(TaskModel, task=columns.task)
    task_model = assemble(make, config, columns, preprocessing, data_fingerprint=fingerprint)
    _load_weights(task_model, weights)
    return LoadedRun(task_model.eval(), config, columns, preprocessing, fingerprint)


@torch.no_grad()
def _check_predictions(loaded: LoadedRun) -> None:
    """Raise an error unless raw rows are mapped to predictions of the task, and to a loss."""
    columns = loaded.columns
    rows = torch.zeros(3, len(columns.features), dtype=loaded.preprocessing.raw_dtype)
    rows[1] = torch.nan
    for position, n_labels in columns.n_labels.items():
        rows[2, position] = n_labels  # an unknown one
    for part in (rows, rows[:2]):  # with one size only, a fixed number of outputs would pass
        shape = tuple(loaded.task_model(part).shape)
        expected = (len(part), len(columns.classes))[: 2 if columns.task == "multiclass" else 1]
        if shape != expected:
            raise UserError(f"its predictions have the shape {shape}, expected {expected}")
    target = torch.zeros(3) if columns.task == "regression" else torch.zeros(3).long()
    loaded.task_model.evaluate([(rows, target)])


def _load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights; `UserError` if they do not fit the network that the config describes."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit the config: {error}") from error
