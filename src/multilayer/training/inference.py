"""A finished run from its folder or checkpoint alone: `multilayer evaluate` and `predict`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from multilayer.core.device import choose_device
from multilayer.core.errors import UserError, first_line, quoted
from multilayer.core.files import refusing
from multilayer.data.batches import Minibatches, preprocess_features, preprocess_table
from multilayer.data.datamodule import EVALUATION_BATCH_SIZE
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.split import Split
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_features, encode_table
from multilayer.data.table_files import check_input, check_output
from multilayer.data.table_io import read_as_written, write_frame
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import find_checkpoint
from multilayer.training.factory import count_weights, make_data, make_module
from multilayer.training.instantiate import check_trusted_targets
from multilayer.training.module import SupervisedModule
from multilayer.training.runtime import restore_threads

log = logging.getLogger(__name__)


_REFUSALS = (RuntimeError, IndexError, TypeError, ValueError)
"""What torch raises for tensors that do not fit each other, a network or a loss."""


@dataclass(frozen=True)
class _Evaluation:
    """The metrics, and a description of the rows they were computed on."""

    metrics: dict[str, float]
    rows: str


def evaluate(config: dict[str, Any]) -> _Evaluation:
    """Evaluate a run on one of its own splits, or on the rows of a file.

    Args:
        config: the composed config of the command, as plain data.

    Raises:
        UserError: The run or the file cannot be read.
    """
    loaded, device = _load(config)
    path = config["data"]["path"]
    if path is None:
        minibatches = _split_of(loaded, config["split"], device)
        source = f"{config['split']} rows"
    else:
        minibatches = _rows_of_file(loaded, path, device)
        source = f"rows of {path}"
    metrics = loaded.module.to(device).evaluate(minibatches)
    return _Evaluation(metrics, f"{minibatches.n_rows} {source}")


def _split_of(loaded: "_LoadedRun", split: Split, device: torch.device) -> Minibatches:
    """The rows of one split of the run's own data, read again."""
    data = make_data(loaded.config, loaded.preprocessing, loaded.columns)
    try:
        data.setup()
    except OSError as error:  # such as a path that cannot exist: the run may be someone else's
        raise UserError(f"the run's data cannot be read: {first_line(error)}") from error
    if data.fingerprint != loaded.data_fingerprint:
        log.warning("the data has changed since the training: these are other rows")
    return data.minibatches(split, device)


def _rows_of_file(loaded: "_LoadedRun", path: str, device: torch.device) -> Minibatches:
    """The rows of a file that has the columns of the run's data."""
    text = TextFormat.of(loaded.config["data"])
    frame, origin = read_frame_like(path, loaded.columns, text)
    table = encode_table(frame, loaded.columns, origin)
    features, target = preprocess_table(loaded.preprocessing, table)
    return Minibatches(features, target, batch_size=EVALUATION_BATCH_SIZE, device=device)


def predict(config: dict[str, Any]) -> pl.DataFrame:
    """Predict each row of `input` and write the table to `output`.

    Args:
        config: the composed config of the command, as plain data.

    Returns:
        The table.

    Raises:
        UserError: The run or the input cannot be used, or the output cannot be written.
    """
    check_output(config["output"], inputs=check_input(config["input"]))
    loaded, device = _load(config)
    text = TextFormat.of(loaded.config["data"])
    frame, origin = read_frame_like(config["input"], loaded.columns, text)
    features = preprocess_features(
        loaded.preprocessing,
        encode_features(frame, loaded.columns, origin),
        loaded.columns.features,
        origin.describe,
    )
    table = _to_frame(_predictions_of(loaded, features, device), loaded.columns)
    if config["keep_input_columns"]:
        table = _joined(read_as_written(config["input"], text), table)
    write_frame(table, config["output"])
    return table


@torch.no_grad()
def _predictions_of(loaded: "_LoadedRun", features: Tensor, device: torch.device) -> Tensor:
    """The module's predictions for preprocessed features `(N, n_features)`, on the CPU."""
    module = loaded.module.to(device)
    parts = torch.split(features, EVALUATION_BATCH_SIZE)
    return torch.cat([module.predict_features(part) for part in parts]).cpu()


def _to_frame(predictions: Tensor, columns: Columns) -> pl.DataFrame:
    """A table with `prediction`, and for classes the probability of each.

    The predicted class is the most probable one, in the type that the target had.
    """
    if columns.task == "regression":
        return pl.DataFrame({"prediction": predictions.numpy()})
    probabilities = predictions
    if columns.task == "binary":
        positive = predictions.reshape(-1)
        probabilities = torch.stack([1 - positive, positive], dim=1)  # (N,) -> (N, 2)
    likeliest = columns.class_series.gather(probabilities.argmax(1).tolist())
    named = {
        f"probability_{label}": probabilities[:, index].numpy()
        for index, label in enumerate(columns.classes)
    }
    return pl.DataFrame({"prediction": likeliest, **named})


def _joined(frame: pl.DataFrame, predicted: pl.DataFrame) -> pl.DataFrame:
    """The columns of the input and then the predictions."""
    taken = [name for name in predicted.columns if name in frame.columns]
    if taken:
        raise UserError(
            f"the input has columns {quoted(taken)}, as the predictions would be called; "
            "rename them, or leave the input's columns out with keep_input_columns=false"
        )
    return frame.hstack(predicted)


@dataclass(frozen=True)
class _LoadedRun:
    """A trained module with the config and the columns that it was trained on."""

    module: SupervisedModule
    config: dict[str, Any]
    columns: Columns
    preprocessing: Preprocessing
    data_fingerprint: str


def _load(config: dict[str, Any]) -> tuple[_LoadedRun, torch.device]:
    """The run that a command's config names, and the device that it chooses."""
    device = choose_device(config["device"])
    loaded = _load_run(find_checkpoint(config["run"]), allowed=config["trusted_packages"])
    return loaded, device


def _load_run(path: Path, *, allowed: list[str]) -> _LoadedRun:
    """Rebuild a trained module from its checkpoint alone, ready to predict on the CPU.

    Only networks, losses and data sets from trusted packages are instantiated.

    Args:
        path: the checkpoint file.
        allowed: further packages that the user trusts.

    Raises:
        UserError: It is not a checkpoint of ours, or names something else.
    """
    checkpoint = read_checkpoint(path)
    config = checkpoint["multilayer"]["config"]
    check_trusted_targets({name: config[name] for name in ("data", "model", "loss")}, allowed)
    with refusing(path, "does not give a module that predicts", *_REFUSALS):
        loaded = _rebuild(checkpoint)
        _check_predictions(loaded)
    restore_threads(checkpoint["multilayer"]["threads"])
    return loaded


def _rebuild(checkpoint: dict[str, Any]) -> _LoadedRun:
    """The module of a checkpoint, with its weights."""
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
    module = make_module(config, columns, preprocessing, data_fingerprint=fingerprint)
    _load_weights(module, weights)
    return _LoadedRun(module.eval(), config, columns, preprocessing, fingerprint)


@torch.no_grad()
def _check_predictions(loaded: "_LoadedRun") -> None:
    """Raise an error unless the module maps raw rows to predictions of its task, and to a loss."""
    columns = loaded.columns
    rows = torch.zeros(3, len(columns.features), dtype=loaded.preprocessing.raw_dtype)
    rows[1] = torch.nan
    for position, n_labels in columns.n_labels.items():
        rows[2, position] = n_labels  # an unknown one
    for part in (rows, rows[:2]):  # with one size only, a fixed number of outputs would pass
        shape = tuple(loaded.module(part).shape)
        expected = (len(part), len(columns.classes))[: 2 if columns.task == "multiclass" else 1]
        if shape != expected:
            raise UserError(f"its predictions have the shape {shape}, expected {expected}")
    target = torch.zeros(3) if columns.task == "regression" else torch.zeros(3).long()
    loaded.module.evaluate([(rows, target)])


def _load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights; `UserError` if they do not fit the network that the config describes."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit the config: {error}") from error
