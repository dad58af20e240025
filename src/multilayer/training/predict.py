"""`multilayer predict`: the predictions of a finished run for the rows of a table."""

from typing import Any

import polars as pl

from multilayer.core.errors import UserError, quoted
from multilayer.data.table_files import check_input, check_output
from multilayer.data.table_io import read_as_written, write_frame
from multilayer.data.text_format import TextFormat
from multilayer.training.loading import load


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
    trusted, device = config["trusted_packages"], config["device"]
    predictor = load(config["run"], trusted_packages=trusted, device=device)
    table = predictor.predict_frame(config["input"])
    if config["keep_input_columns"]:
        text = TextFormat.of(predictor.config["data"])
        table = _joined(read_as_written(config["input"], text), table)
    write_frame(table, config["output"])
    return table


def _joined(frame: pl.DataFrame, predicted: pl.DataFrame) -> pl.DataFrame:
    """The columns of the input and then the predictions."""
    taken = [name for name in predicted.columns if name in frame.columns]
    if taken:
        raise UserError(
            f"the input has columns {quoted(taken)}, as the predictions would be called; "
            "rename them, or leave the input's columns out with keep_input_columns=false"
        )
    return frame.hstack(predicted)
