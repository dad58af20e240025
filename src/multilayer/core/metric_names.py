"""Facts about metrics for the commands that do not import torch."""

import re
from collections.abc import Collection
from importlib import import_module
from math import isnan
from typing import SupportsFloat

CROSS_ENTROPY = "cross_entropy"
"""The loss of classes without label smoothing and class weights, whatever is trained on."""

COVERAGE = "coverage_"
"""How the share of rows up to a quantile begins, before its level; best is the level itself."""

MORE_IS_BETTER = ("accuracy", "f1", "auroc", "r2")
"""The metrics whose larger values are better."""

LESS_IS_BETTER = ("loss", CROSS_ENTROPY, "calibration_error", "mae", "pinball_loss", "rmse")
"""The others, and the loss."""

NEEDED = {
    "auroc": "it needs rows of two classes",
    "f1": "it needs a row of class 1, or one that is predicted to be",
    "r2": "it needs two rows whose targets differ",
}
"""What the rows must have for a metric to be defined, for those that can be undefined."""


_ERRORS = ("rmse", "pinball_loss")
"""Of which a regression has one, in the units of the target."""


def units_note(names: Collection[str]) -> str:
    """What is said of a regression, whose loss stands next to errors in units; empty for classes.

    >>> units_note(["loss", "mae", "r2", "rmse"])
    "the loss is of the standardized target; mae and rmse are in the target's units"
    >>> units_note(["loss", "coverage_0.1", "pinball_loss"])
    "the loss is of the standardized target; pinball_loss is in the target's units"
    """
    if not any(name in names for name in _ERRORS):
        return ""
    *others, last = sorted(name for name in ("mae", *_ERRORS) if name in names)
    which = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    return f"the loss is of the standardized target; {which} in the target's units"


TESTED_PLAIN = "the loss of test rows is the cross_entropy, neither smoothed nor weighted by class"
"""What is said of a classification that was trained on another loss than it is tested by."""


def reported_as(name: str) -> str:
    """The name of a class of torchmetrics as metrics are named.

    >>> reported_as("MatthewsCorrCoef"), reported_as("AUROC"), reported_as("R2Score")
    ('matthews_corr_coef', 'auroc', 'r2_score')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def more_is_better(name: str) -> bool | None:
    """Whether larger values of a metric are better; None where that is not known.

    torchmetrics, which takes a second to import, is asked about a metric that is not the task's.

    >>> more_is_better("f1"), more_is_better("loss"), more_is_better("cohen_kappa")
    (True, False, True)
    """
    if name in (*MORE_IS_BETTER, *LESS_IS_BETTER):
        return name in MORE_IS_BETTER
    torchmetrics = import_module("torchmetrics")
    for kind in torchmetrics.__all__:
        if reported_as(kind) == name:
            of_two_classes = getattr(torchmetrics.classification, f"Binary{kind}", None)
            better: bool | None = (of_two_classes or getattr(torchmetrics, kind)).higher_is_better
            return better
    return None


def is_undefined(name: str, value: SupportsFloat) -> bool:
    """Whether a metric is not defined for the rows; a loss of NaN has diverged.

    >>> nan = float("nan")
    >>> is_undefined("validation/auroc", nan), is_undefined("validation/loss", nan)
    (True, False)
    """
    return any(part in NEEDED for part in name.split("/")) and isnan(value)
