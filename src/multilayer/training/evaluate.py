"""`multilayer evaluate`: the metrics of a finished run."""

import logging
import os
from dataclasses import dataclass
from typing import Any

from multilayer.core.text import counted
from multilayer.data.table import Table
from multilayer.data.table_files import check_input
from multilayer.runs.config import expand_env
from multilayer.training.loading import load
from multilayer.training.predictor import Predictor

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
    trusted, device = config["trusted_packages"], config["device"]
    predictor = load(config["run"], trusted_packages=trusted, device=device)
    path, split = config["data"]["path"], config["split"]
    if path is not None:
        check_input(path, "data.path")
        table = predictor.encode(path)
        minibatches = predictor.preprocess(table)
        row, where = "row", f" of {path}{_known_from_training(predictor, path, table)}"
    else:
        minibatches = predictor.minibatches(split=split)
        row, where = f"{split} row", ""
    metrics = predictor.evaluate(minibatches, tests=path is not None or split == "test")
    return Evaluation(metrics, counted(minibatches.n_rows, row) + where)


def _known_from_training(predictor: Predictor, path: str, table: Table) -> str:
    """What the run knows of the rows of a file, in words after its name; nothing of new ones."""
    data = predictor.config["data"]
    named = {key for key in _FILES if data.get(key) and _is_same_file(path, key, data[key])}
    if named & {"path", "train_path"} or predictor.was_trained_on(table):
        log.warning(
            "these rows include those that the run was trained on, and say little about new ones; "
            "the run's test rows are evaluated without data.path"
        )
        return ", which was trained on"
    return ", which decided the best epoch" if named else ""


_FILES = ("path", "train_path", "validation_path")
"""The keys of a run's data that name files of which rows are trained on or validated with."""


def _is_same_file(path: str, key: str, other: str) -> bool:
    """Whether a file is the one that a key of a run's data names, seen from here."""
    named = expand_env(f"data.{key}", other)
    return os.path.exists(named) and os.path.samefile(named, path)
