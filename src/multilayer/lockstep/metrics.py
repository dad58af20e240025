"""The metrics of `multilayer.metrics` for K members at once.

torchmetrics takes some 4 ms for the metrics of one network; here a stack takes little more.
"""

import numpy as np
import torch
from torch import Tensor

from multilayer.losses import Task

N_BINS = 15  # of the calibration error, as in torchmetrics


def stacked_metrics(task: Task, predictions: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Each metric of a task, `(K,)`, by the names of `metrics_for_task`.

    predictions: `(K, N)`, in a multiclass task `(K, N, n_classes)`.
    target: `(K, N)`.
    """
    if task == "regression":
        return regression_metrics(predictions, target)
    if task == "binary":
        labels = (predictions > 0.5).long()
        return {
            "accuracy": mean_of(labels == target),
            "auroc": auroc(predictions.unsqueeze(1), target.unsqueeze(1)).squeeze(1),
            "calibration_error": calibration_error(predictions, target.float()),
            "f1": f1(labels, target, n_classes=2)[0][:, 1],
        }
    n_classes = predictions.shape[2]
    confidence, labels = predictions.max(dim=2)
    correct = labels == target
    of_class = target.unsqueeze(1) == torch.arange(n_classes, device=target.device)[:, None]
    per_class, present = f1(labels, target, n_classes)
    return {
        "accuracy": mean_of(correct),
        "auroc": auroc(predictions.mT, of_class).mean(dim=1),  # (K, N, C) -> (K, C, N)
        "calibration_error": calibration_error(confidence, correct.float()),
        "f1": per_class.sum(dim=1) / present.sum(dim=1),
    }


def regression_metrics(predictions: Tensor, target: Tensor) -> dict[str, Tensor]:
    """RMSE, MAE and R squared, `(K,)` each."""
    error = predictions - target
    wide = torch.float32 if error.device.type == "mps" else torch.float64
    residual, spread = error.to(wide).square().sum(dim=1), target.to(wide)
    total = (spread - spread.mean(dim=1, keepdim=True)).square().sum(dim=1)
    return {
        "mae": error.abs().mean(dim=1),
        "r2": 1 - residual / total,
        "rmse": error.square().mean(dim=1).sqrt(),
    }


def mean_of(correct: Tensor) -> Tensor:
    """`(K, N)` bool to shares `(K,)`."""
    return correct.float().mean(dim=1)


def counts(labels: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    """The sum of the weights `(K, N)` for each label, `(K, n_classes)`."""
    zeros = torch.zeros(len(labels), n_classes, device=labels.device)
    return zeros.scatter_add_(1, labels, weights)


def f1(labels: Tensor, target: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """F1 of each class `(K, n_classes)`, and whether the class is there or predicted."""
    ones = torch.ones(labels.shape, device=labels.device)
    hits = counts(target, (labels == target).float(), n_classes)
    both = counts(labels, ones, n_classes) + counts(target, ones, n_classes)
    return 2 * hits / both.clamp_min(1), both > 0


def calibration_error(confidence: Tensor, correct: Tensor) -> Tensor:
    """The expected calibration error `(K,)` (Guo et al. 2017), from `(K, N)` each."""
    edges = torch.linspace(0, 1, N_BINS + 1, device=confidence.device)
    bins = torch.bucketize(confidence, edges, right=True).clamp_max(N_BINS + 1) - 1
    gap = counts(bins, correct - confidence, N_BINS + 1)
    return gap.abs().sum(dim=1) / confidence.shape[1]


def auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """The area under the ROC curve over the last dimension, `(..., N)` to `(...)`.

    It is the share of pairs of a positive and a negative row in which the positive one has the
    higher score; ties count half. 0 where all rows are positive, or none is.
    """
    # float32 from 0 to 1 sorts like its bits, which leave room for the label below them: in one
    # sort ties then count as won, and in the other as lost.
    bits = scores.contiguous().view(torch.int32) << 1
    label = positive.to(torch.int32)
    n_positive = positive.sum(dim=-1)
    n_pairs = n_positive * (positive.shape[-1] - n_positive)
    won = pairs_won(sort(bits | label) & 1, n_positive)
    won_but_ties = pairs_won(~sort(bits | (1 - label)) & 1, n_positive)
    share = (won + won_but_ties) / (2 * n_pairs.clamp_min(1))
    return torch.where(n_pairs > 0, share, 0.0).float()


def pairs_won(positive: Tensor, n_positive: Tensor) -> Tensor:
    """The number of negatives below each positive, summed; the rows `(..., N)` go upwards."""
    ranks = torch.arange(positive.shape[-1], dtype=torch.float64, device=positive.device)
    return positive.double() @ ranks - n_positive * (n_positive - 1) / 2


def sort(keys: Tensor) -> Tensor:
    """Sorted along the last dimension; on the CPU by numpy, which is ten times faster at it."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy(), axis=-1))
    return keys.sort(dim=-1).values
