"""The metrics of each task, from torchmetrics."""

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryCalibrationError,
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)

from multilayer.losses import Task


class R2(R2Score):
    """R squared summed in float64: in float32 a target far from 0 gives more than 1.

    Apple's GPUs have no float64, and sum in float32.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add predictions and targets, `(B,)` each."""
        wide = torch.float32 if preds.device.type == "mps" else torch.float64
        super().update(preds.to(wide), target.to(wide))


MORE_IS_BETTER = ("accuracy", "f1", "auroc", "r2")
"""The metrics of which more is better; of the loss and the others less is."""

HEADLINE: dict[Task, str] = {"binary": "accuracy", "multiclass": "accuracy", "regression": "rmse"}
"""The one metric of each task that a short table shows beside the loss."""


def metrics_for_task(task: Task, n_classes: int = 2) -> MetricCollection:
    """The metrics of a task, to be updated with predictions and targets.

    - `binary`: probabilities `(B,)` of class 1 and targets `(B,)`.
    - `multiclass`: probabilities `(B, n_classes)` and targets `(B,)`. F1 and AUROC are means
      over the classes, accuracy is over the rows.
    - `regression`: values `(B,)` and targets `(B,)`, in the units of the target.

    `calibration_error` is the expected calibration error over 15 bins (Guo et al. 2017): of the
    probability of class 1 in a binary task, of the likeliest class otherwise.

    >>> sorted(metrics_for_task("regression"))
    ['mae', 'r2', 'rmse']
    """
    if task == "binary":
        return MetricCollection(
            {
                "accuracy": BinaryAccuracy(),
                "f1": BinaryF1Score(),
                "auroc": BinaryAUROC(),
                "calibration_error": BinaryCalibrationError(),
            }
        )
    if task == "multiclass":
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(n_classes, average="micro"),
                "f1": MulticlassF1Score(n_classes, average="macro"),
                "auroc": MulticlassAUROC(n_classes),
                "calibration_error": MulticlassCalibrationError(n_classes),
            }
        )
    return MetricCollection(
        {"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError(), "r2": R2()}
    )
