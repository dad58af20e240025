"""`multilayer evaluate`: the metrics of a finished run, from its folder or checkpoint alone."""

import logging
from dataclasses import dataclass
from typing import Any

import torch

from multilayer.core.device import choose_device
from multilayer.core.errors import UserError, first_line
from multilayer.data.batches import Minibatches
from multilayer.data.datamodule import EVALUATION_BATCH_SIZE
from multilayer.data.preprocessing import preprocess, refuse_far_targets
from multilayer.data.split import Split
from multilayer.data.table import read_frame_like, read_table
from multilayer.data.text_format import TextFormat
from multilayer.runs.folder import find_checkpoint
from multilayer.training.factory import make_data
from multilayer.training.loaded_run import LoadedRun, load_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The metrics, and the rows they were taken on."""

    metrics: dict[str, float]
    rows: str


def evaluate(config: dict[str, Any]) -> Evaluation:
    """Evaluate a run on one of its own splits, or on the rows of a file.

    Raises `UserError` where the run or the file cannot be read.
    """
    device = choose_device(config["device"])
    trained = load_run(find_checkpoint(config["run"]), allowed=config["trusted_packages"])
    path = config["data"]["path"]
    if path is None:
        minibatches = split_of(trained, config["split"], device)
        source = f"{config['split']} rows"
    else:
        minibatches = rows_of_file(trained, path, device)
        source = f"rows of {path}"
    metrics = trained.module.to(device).evaluate(minibatches)
    return Evaluation(metrics, f"{minibatches.n_rows} {source}")


def split_of(trained: LoadedRun, split: Split, device: torch.device) -> Minibatches:
    """The rows of a split of the run's own data, read again."""
    data = make_data(trained.config, trained.preprocessing, trained.columns)
    try:
        data.setup()
    except OSError as error:  # such as a path that no system has: it may be a stranger's
        raise UserError(f"the run's data cannot be read: {first_line(error)}") from error
    if data.fingerprint != trained.data_fingerprint:
        log.warning("the data has changed since the training: these are other rows")
    return data.minibatches(split, device)


def rows_of_file(trained: LoadedRun, path: str, device: torch.device) -> Minibatches:
    """The rows of a file with the columns of the run's data."""
    text = TextFormat.of(trained.config["data"])
    frame, origin = read_frame_like(path, trained.columns, text)
    table = read_table(frame, trained.columns, origin)
    if table.columns.task == "regression":
        refuse_far_targets(trained.preprocessing, table)
    features, target = preprocess(trained.preprocessing, table)
    return Minibatches(features, target, batch_size=EVALUATION_BATCH_SIZE, device=device)
