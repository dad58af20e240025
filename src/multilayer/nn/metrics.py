"""The metrics of each task, for one network or for the K members of a stack.

torchmetrics takes some 4 ms for the metrics of one network, a fifth of an epoch of 1,257 rows; here
one takes 0.6 ms, and a stack little more.
"""

import numpy as np
import torch
from torch import Tensor

from multilayer.nn.losses import Task

METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("accuracy", "auroc", "calibration_error", "f1"),
    "multiclass": ("accuracy", "auroc", "calibration_error", "f1"),
    "regression": ("mae", "r2", "rmse"),
}
"""The names of each task's metrics."""

HEADLINE: dict[Task, str] = {"binary": "accuracy", "multiclass": "accuracy", "regression": "rmse"}
"""The one metric of each task that a short table shows beside the loss."""

N_BINS = 15
"""Of the calibration error, over equal parts of the probabilities from 0 to 1."""


def metrics_of(task: Task, predictions: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Each metric of a task, as a scalar on the device of the predictions.

    - `binary`: probabilities `(B,)` of class 1 and targets `(B,)`.
    - `multiclass`: probabilities `(B, n_classes)` and targets `(B,)`. F1 and AUROC are means
      over the classes, accuracy is over the rows.
    - `regression`: values `(B,)` and targets `(B,)`, in the units of the target.

    One that is not defined for the rows is NaN; see `metric_names.NEEDED`.

    `calibration_error` is the expected calibration error over 15 bins (Guo et al. 2017): of the
    probability of class 1 in a binary task, of the likeliest class otherwise.

    >>> metrics_of("regression", torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]))["mae"]
    tensor(0.5000, dtype=torch.float64)
    """
    stacked = stacked_metrics(task, predictions.unsqueeze(0), target.unsqueeze(0))
    return {name: value[0] for name, value in stacked.items()}


def stacked_metrics(task: Task, predictions: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Each metric of a task, `(K,)`; see `metrics_of`.

    predictions: `(K, N)`, in a multiclass task `(K, N, n_classes)`.
    target: `(K, N)`.
    """
    if task == "regression":
        return regression_metrics(predictions, target)
    of_classes = binary_metrics if task == "binary" else multiclass_metrics
    # Comparing with NaN gives false, which would look like the prediction of a class.
    is_number = predictions.flatten(1).isfinite().all(dim=1)
    wide = torch.promote_types(predictions.dtype, torch.float32)
    values = of_classes(predictions.to(wide), target.long())
    return {name: value.where(is_number, torch.nan) for name, value in values.items()}


def is_defined(name: str, task: Task, target: Tensor, n_classes: int) -> bool:
    """Whether a metric is defined for rows of these targets `(N,)`, predicted as they are."""
    predictions = target
    if task == "binary":
        predictions = target.float()
    elif task == "multiclass":
        predictions = torch.nn.functional.one_hot(target, n_classes).float()
    return not bool(metrics_of(task, predictions, target)[name].isnan())


def binary_metrics(probabilities: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Accuracy, AUROC, calibration error and F1 of class 1, `(K,)` each."""
    labels = (probabilities > 0.5).long()
    return {
        "accuracy": mean_of(labels == target),
        "auroc": auroc(probabilities, target),
        "calibration_error": calibration_error(probabilities, target.to(probabilities.dtype)),
        "f1": f1(labels, target, n_classes=2)[:, 1],
    }


def multiclass_metrics(probabilities: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Accuracy, AUROC, calibration error and F1, `(K,)` each."""
    n_classes = probabilities.shape[2]
    confidence, labels = probabilities.max(dim=2)
    correct = labels == target
    of_class = target.unsqueeze(1) == torch.arange(n_classes, device=target.device)[:, None]
    return {
        "accuracy": mean_of(correct),
        "auroc": auroc(probabilities.mT, of_class).nanmean(dim=1),  # (K, N, C) -> (K, C, N)
        "calibration_error": calibration_error(confidence, correct.to(confidence.dtype)),
        "f1": f1(labels, target, n_classes).nanmean(dim=1),
    }


def regression_metrics(predictions: Tensor, target: Tensor) -> dict[str, Tensor]:
    """MAE, R squared and RMSE, `(K,)` each.

    They are taken in float64: in float32 a target far from 0 gives an R squared of more than 1.
    """
    wide = widest_float(predictions.device)
    # In units of the largest number sums do not overflow, and in those of the largest difference
    # squares neither overflow nor vanish.
    both = torch.stack([predictions.to(wide), target.to(wide)])
    largest = unit_of(both.abs().amax(dim=(0, 2)))
    predictions, target = both / largest[:, None]
    error, spread = predictions - target, target - target.mean(dim=1, keepdim=True)
    unit = unit_of(torch.cat([error, spread], dim=1).abs().amax(dim=1))
    error, spread = error / unit[:, None], spread / unit[:, None]
    residual, total = error.square().sum(dim=1), spread.square().sum(dim=1)
    differs = target.amax(dim=1) > target.amin(dim=1)
    return {
        "mae": largest * (unit * error.abs().mean(dim=1)),
        "r2": (1 - residual / total).where(differs, torch.nan),
        "rmse": largest * (unit * error.square().mean(dim=1).sqrt()),
    }


def unit_of(largest: Tensor) -> Tensor:
    """A power of two near the largest numbers `(K,)`: dividing by it rounds nothing."""
    least = 4 * torch.finfo(largest.dtype).tiny
    return torch.exp2(largest.clamp_min(least).log2().floor() - 1)


def widest_float(device: torch.device) -> torch.dtype:
    """What to sum many rows in; Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def mean_of(correct: Tensor) -> Tensor:
    """`(K, N)` bool to shares `(K,)`."""
    return correct.float().mean(dim=1)


def counts(labels: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    """The sum of the weights `(K, N)` for each label, `(K, n_classes)`, in their own dtype.

    They are added one by one: in float32 ones would no longer count from 2**24 rows on.
    """
    zeros = torch.zeros(len(labels), n_classes, dtype=weights.dtype, device=labels.device)
    return zeros.scatter_add_(1, labels, weights)


def f1(labels: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """F1 of each class `(K, n_classes)`; NaN where a class is neither there nor predicted."""
    ones = torch.ones((), dtype=torch.int64, device=labels.device).expand_as(labels)
    hits = counts(target, (labels == target).long(), n_classes)
    both = counts(labels, ones, n_classes) + counts(target, ones, n_classes)
    return 2 * hits / both


def calibration_error(confidence: Tensor, correct: Tensor) -> Tensor:
    """The expected calibration error `(K,)` (Guo et al. 2017), from `(K, N)` each."""
    edges = torch.linspace(0, 1, N_BINS + 1, device=confidence.device)
    bins = torch.bucketize(confidence, edges, right=True).clamp_max(N_BINS + 1) - 1
    surplus = (correct - confidence).to(widest_float(confidence.device))
    gap = counts(bins, surplus, N_BINS + 1).abs().sum(dim=1)
    return gap.float() / confidence.shape[1]


def auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """The area under the ROC curve over the last dimension, `(..., N)` to `(...)`.

    It is the share of pairs of a positive and a negative row in which the positive one has the
    higher score; ties count half. NaN where all rows are positive, or none is.
    """
    # Floats from 0 on sort like their bits, which leave room for the label below them: in one sort
    # ties then count as won, and in the other as lost.
    as_bits = torch.int64 if scores.dtype == torch.float64 else torch.int32
    bits = scores.contiguous().view(as_bits) << 1
    label = positive.to(as_bits)
    n_positive = positive.sum(dim=-1)
    n_pairs = n_positive * (positive.shape[-1] - n_positive)
    won = pairs_won(sort(bits | label) & 1, n_positive)
    won_but_ties = pairs_won(~sort(bits | (1 - label)) & 1, n_positive)
    return (won + won_but_ties) / (2 * n_pairs)


def pairs_won(positive: Tensor, n_positive: Tensor) -> Tensor:
    """The number of negatives below each positive, summed; the rows `(..., N)` go upwards."""
    ranks = torch.arange(positive.shape[-1], device=positive.device)
    return (positive * ranks).sum(dim=-1) - n_positive * (n_positive - 1) // 2


def sort(keys: Tensor) -> Tensor:
    """Sorted along the last dimension; on the CPU by numpy, which is ten times faster at it."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy(), axis=-1))
    return keys.sort(dim=-1).values
