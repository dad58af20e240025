"""Facts about metrics for the commands that do not import torch."""

from math import isnan
from typing import SupportsFloat

CROSS_ENTROPY = "cross_entropy"
"""The loss of classes without label smoothing and class weights, whatever is trained on."""

MORE_IS_BETTER = ("accuracy", "f1", "auroc", "r2")
"""The metrics whose larger values are better."""

LESS_IS_BETTER = ("loss", CROSS_ENTROPY, "calibration_error", "mae", "rmse")
"""The others, and the loss."""

NEEDED = {
    "auroc": "it needs rows of two classes",
    "f1": "it needs a row of class 1, or one that is predicted to be",
    "r2": "it needs two rows whose targets differ",
}
"""What the rows must have for a metric to be defined, for those that can be undefined."""


STANDARDIZED = "the loss is of the standardized target; mae and rmse are in the target's units"
"""What is said of a regression, whose loss stands next to an error in units."""


def is_undefined(name: str, value: SupportsFloat) -> bool:
    """Whether a metric is not defined for the rows; a loss of NaN has diverged.

    >>> nan = float("nan")
    >>> is_undefined("validation/auroc", nan), is_undefined("validation/loss", nan)
    (True, False)
    """
    return any(part in NEEDED for part in name.split("/")) and isnan(value)
