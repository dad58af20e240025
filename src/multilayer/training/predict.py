"""`multilayer predict`: the predictions of a finished run for the rows of a table."""

from typing import Any

import polars as pl
import torch
from torch import Tensor

from multilayer.core.errors import UserError, quoted
from multilayer.data.batches import preprocess_features
from multilayer.data.dataset import EVALUATION_BATCH_SIZE
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_features
from multilayer.data.table_files import check_input, check_output
from multilayer.data.table_io import read_as_written, write_frame
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat
from multilayer.training.loaded_run import LoadedRun, load_named


def predict(config: dict[str, Any]) -> pl.DataFrame:
    """Predict each row of `input` and write the table to `output`.

    Args:
        config: the composed config of the command, as plain data.

    Returns:
        The table.

    Raises:
        UserError: The run or the input cannot be used, or the output cannot be written.
    """
    check_output(config["output"], inputs=check_input(config["input"], "input"))
    loaded, device = load_named(config)
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
def _predictions_of(loaded: LoadedRun, features: Tensor, device: torch.device) -> Tensor:
    """The predictions for preprocessed features `(N, n_features)`, on the CPU."""
    task_model = loaded.task_model.to(device)
    parts = torch.split(features, EVALUATION_BATCH_SIZE)
    return torch.cat([task_model.predict_features(part) for part in parts]).cpu()


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
