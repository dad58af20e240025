"""`multilayer evaluate`: the metrics of a finished run."""

import logging
from dataclasses import dataclass
from typing import Any

import torch

from multilayer.core.errors import UserError, first_line
from multilayer.core.text import counted
from multilayer.data.batches import Minibatches, preprocess_table
from multilayer.data.dataset import EVALUATION_BATCH_SIZE
from multilayer.data.split import Split
from multilayer.data.table_builder import encode_table
from multilayer.data.table_files import check_input
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat
from multilayer.runs.config import is_refit
from multilayer.training.components import make_data
from multilayer.training.loaded_run import LoadedRun, load_named

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The metrics, and a description of the rows they were computed on."""

    metrics: dict[str, float]
    rows: str


def evaluate(config: dict[str, Any]) -> Evaluation:
    """Evaluate a run on one of its splits, or on the rows of a file.

    Args:
        config: the composed config of the command, as plain data.

    Raises:
        UserError: The run or the file cannot be read.
    """
    loaded, device = load_named(config)
    path = config["data"]["path"]
    if path is None:
        minibatches = _split_of(loaded, config["split"], device)
        row, where = f"{config['split']} row", ""
    else:
        minibatches = _rows_of_file(loaded, path, device)
        row, where = "row", f" of {path}"
    metrics = loaded.task_model.to(device).evaluate(minibatches)
    return Evaluation(metrics, counted(minibatches.n_rows, row) + where)


def _split_of(loaded: LoadedRun, split: Split, device: torch.device) -> Minibatches:
    """The rows of one split of the run's own data, read again."""
    if is_refit(loaded.config) and split == "validation":
        raise UserError("split=validation: a refit has been trained on these rows; it has none")
    data = make_data(loaded.config, loaded.preprocessing, loaded.columns)
    try:
        data.setup()
    except OSError as error:  # such as a path that cannot exist: the run may be someone else's
        raise UserError(f"the run's data cannot be read: {first_line(error)}") from error
    if data.fingerprint != loaded.data_fingerprint:
        log.warning("the data has changed since the training: these are other rows")
    return data.minibatches(split, device)


def _rows_of_file(loaded: LoadedRun, path: str, device: torch.device) -> Minibatches:
    """The rows of a file that has the columns of the run's data."""
    check_input(path, "data.path")
    text = TextFormat.of(loaded.config["data"])
    frame, origin = read_frame_like(path, loaded.columns, text)
    table = encode_table(frame, loaded.columns, origin)
    features, target = preprocess_table(loaded.preprocessing, table)
    return Minibatches(features, target, batch_size=EVALUATION_BATCH_SIZE, device=device)
