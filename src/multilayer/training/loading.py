"""A trained run, rebuilt from its checkpoint alone."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from multilayer.core.device import choose_device
from multilayer.core.errors import UserError, unknown_name
from multilayer.core.files import refusing
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Columns
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import find_checkpoint
from multilayer.training.components import assemble, count_weights, make_own_module
from multilayer.training.instantiate import check_trusted_targets
from multilayer.training.predictor import Predictor
from multilayer.training.task_model import TaskModel

Device = Literal["auto", "cpu", "gpu", "mps"]

_REFUSALS = (RuntimeError, IndexError, TypeError, ValueError)
"""What torch raises for tensors that do not fit each other, a network or a loss."""


def load(
    run: str | Path, *, trusted_packages: Sequence[str] = (), device: Device = "auto"
) -> Predictor:
    """Load a trained run, to predict with it and to evaluate it.

    The checkpoint is all that is needed, and is data: it is not unpickled, and only networks,
    losses and data sets from trusted packages are instantiated.

    Args:
        run: The run folder, whose best checkpoint is loaded (the last one if there is no best), or
            a checkpoint file.
        trusted_packages: Packages of your own that the run's network, loss or data set is from.
        device: Where it predicts; "auto" prefers a GPU.

    Returns:
        The run, ready to predict.

    Raises:
        UserError: There is no such run, its checkpoint is damaged, or it names a class that is not
            trusted.

    >>> import tempfile, multilayer
    >>> config = multilayer.compose("train", ["data=iris", "trainer.max_epochs=1"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = multilayer.train(config, f"{folder}/run", quiet=True)
    ...     predictor = multilayer.load(f"{folder}/run")
    >>> predictor.task, predictor.classes.tolist()
    ('multiclass', ['setosa', 'versicolor', 'virginica'])
    """
    if isinstance(trusted_packages, str):
        raise UserError(f"trusted_packages must be a list of names, got {trusted_packages!r}")
    if device not in get_args(Device):
        raise UserError(unknown_name("device", str(device), get_args(Device)))
    chosen = choose_device(device)
    path = find_checkpoint(run)
    checkpoint = read_checkpoint(path)
    config = checkpoint["multilayer"]["config"]
    rebuilt = ("data", "model", "module", "loss")
    check_trusted_targets({name: config.get(name) for name in rebuilt}, trusted_packages)
    with refusing(path, "does not give a module that predicts", *_REFUSALS):
        predictor = _rebuild(checkpoint, path)
        _check_predictions(predictor)
    predictor.task_model.to(chosen)
    return predictor


def _rebuild(checkpoint: dict[str, Any], path: Path) -> Predictor:
    """The run of a checkpoint, with its weights, on the CPU."""
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
    return Predictor(task_model.eval(), config, columns, path, n_threads=metadata["threads"])


@torch.no_grad()
def _check_predictions(predictor: Predictor) -> None:
    """Raise an error unless raw rows are mapped to predictions of the task, and to a loss."""
    columns, task_model = predictor.columns, predictor.task_model
    rows = torch.zeros(3, len(columns.features), dtype=predictor.preprocessing.raw_dtype)
    rows[1] = torch.nan
    for position, n_labels in columns.n_labels.items():
        rows[2, position] = n_labels  # an unknown one
    for part in (rows, rows[:2]):  # with one size only, a fixed number of outputs would pass
        shape = tuple(task_model(part).shape)
        has_several = columns.task == "multiclass" or task_model.levels
        expected = (len(part), len(task_model.levels or columns.classes))[: 2 if has_several else 1]
        if shape != expected:
            raise UserError(f"its predictions have the shape {shape}, expected {expected}")
    target = torch.zeros(3) if columns.task == "regression" else torch.zeros(3).long()
    weights = [torch.ones(3)] if columns.weight else []
    task_model.evaluate([(rows, target, *weights)])


def _load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights; `UserError` if they do not fit the network that the config describes."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit the config: {error}") from error
