"""`multilayer evaluate`: the metrics of a finished run."""

from dataclasses import dataclass
from typing import Any

from multilayer.core.text import counted
from multilayer.data.table_files import check_input
from multilayer.training.loading import load


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
    minibatches = predictor.minibatches(path, split=split)
    row, where = (f"{split} row", "") if path is None else ("row", f" of {path}")
    return Evaluation(predictor.evaluate(minibatches), counted(minibatches.n_rows, row) + where)
