"""The metrics of each task, for one network or for the K members of a stack.

torchmetrics takes about 4 ms for the metrics of one network, a fifth of an epoch of 1,257 rows;
these take 0.6 ms, and 0.16 ms for each network of a stack.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from multilayer.core.metric_names import COVERAGE, CROSS_ENTROPY
from multilayer.nn.losses import Task
from multilayer.nn.quantiles import MEDIAN, pinball_loss

METRICS: dict[Task, tuple[str, ...]] = {
    "binary": (CROSS_ENTROPY, "accuracy", "auroc", "calibration_error", "f1"),
    "multiclass": (CROSS_ENTROPY, "accuracy", "auroc", "calibration_error", "f1"),
    "regression": ("mae", "r2", "rmse"),
}
"""The names of each task's metrics, as they are reported after the loss."""

HEADLINE: dict[Task, str] = {"binary": "accuracy", "multiclass": "accuracy", "regression": "rmse"}
"""The one metric of each task that is shown next to the loss where there is little room."""

N_BINS = 15
"""The number of bins of the calibration error, of equal width from 0 to 1."""


@torch.no_grad()
def metrics_of(
    task: Task,
    predictions: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    levels: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """Each metric of predictions, as a scalar on their device, or `(K,)` of K networks.

    All of the task's but `cross_entropy`, which is worked out from logits. A metric that is not
    defined for the rows is NaN; see `metric_names.NEEDED`. In a multiclass
    task F1 and AUROC are means over the classes, and accuracy is over the rows. The expected
    calibration error has 15 bins (Guo et al. 2017): of the probability of class 1 in a binary task,
    of the most probable class in a multiclass one.

    Args:
        task: "binary", "multiclass" or "regression".
        predictions: probabilities of class 1 `(B,)`, probabilities `(B, n_classes)`, or values
            `(B,)` in the units of the target, or quantiles `(B, n_levels)` in them; of K networks
            with K as the first dimension.
        target: `(B,)` or `(K, B)`.
        weights: how much each row counts, of the same shape; None if all count alike.
        levels: of quantiles, in ascending order.

    Returns:
        The metrics by name.

    >>> metrics_of("regression", torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]))["mae"]
    tensor(0.5000, dtype=torch.float64)
    """
    if target.ndim == 1:
        one = None if weights is None else weights.unsqueeze(0)
        stacked = metrics_of(
            task, predictions.unsqueeze(0), target.unsqueeze(0), weights=one, levels=levels
        )
        return {name: value[0] for name, value in stacked.items()}
    if levels is not None:
        return _quantile_metrics(predictions, target, levels, weights)
    if task == "regression":
        return _regression_metrics(predictions, target, weights)
    of_classes = _binary_metrics if task == "binary" else _multiclass_metrics
    # A comparison with NaN is false, which would look like the prediction of a class. The sum of
    # probabilities is finite where all of them are.
    is_number = predictions.sum(dim=[*range(1, predictions.ndim)]).isfinite()
    wide = torch.promote_types(predictions.dtype, torch.float32)
    values = of_classes(predictions.to(wide), target.long(), weights)
    return {name: value.where(is_number, torch.nan) for name, value in values.items()}


def is_defined(name: str, task: Task, target: Tensor, n_classes: int) -> bool:
    """Whether a metric is defined for targets `(N,)`, if they were predicted perfectly."""
    is_multiclass = task == "multiclass"
    perfect = torch.nn.functional.one_hot(target, n_classes) if is_multiclass else target
    return not bool(metrics_of(task, perfect.float(), target)[name].isnan())


@torch.no_grad()
def cross_entropy(outputs: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """The cross entropy of classes, without smoothing and class weights, as a scalar or `(K,)`.

    Args:
        outputs: logits `(B,)` of class 1, or `(B, n_classes)`; of K networks with K as the first
            dimension.
        target: class indices `(B,)` or `(K, B)`.
        weights: how much each row counts, of the same shape; None if all count alike.

    >>> cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 3]))
    tensor(1.3863)
    """
    if outputs.ndim == target.ndim:
        each = F.binary_cross_entropy_with_logits(
            outputs, target.to(outputs.dtype), reduction="none"
        )
    else:
        each = F.cross_entropy(outputs.flatten(0, -2), target.flatten(), reduction="none")
    return _mean(each.view(target.shape), weights)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of the last dimension, `(..., N)` to `(...)`, as the weights have it."""
    if weights is None:
        return values.mean(dim=-1)
    wide = weights.to(_widest_float(weights.device))
    return ((values * wide).sum(dim=-1) / wide.sum(dim=-1)).to(values.dtype)


def _binary_metrics(
    probabilities: Tensor, target: Tensor, weights: Tensor | None
) -> dict[str, Tensor]:
    """Accuracy, AUROC, calibration error and F1 of class 1, `(K,)` each."""
    labels = (probabilities > 0.5).long()
    return {
        "accuracy": _mean((labels == target).float(), weights),
        "auroc": auroc(probabilities, target, weights),
        "calibration_error": _calibration_error(
            probabilities, target.to(probabilities.dtype), weights
        ),
        "f1": _f1(labels, target, 2, weights)[:, 1],
    }


def _multiclass_metrics(
    probabilities: Tensor, target: Tensor, weights: Tensor | None
) -> dict[str, Tensor]:
    """Accuracy, AUROC, calibration error and F1, `(K,)` each."""
    of_class = probabilities.mT.contiguous()  # (K, N, C) -> (K, C, N): the rows lie side by side
    positive = torch.zeros_like(of_class, dtype=torch.bool)
    positive.scatter_(1, target.unsqueeze(1), True)
    confidence = of_class.amax(dim=1)
    labels = _first_class_with(confidence, of_class)
    correct = labels == target
    of_each = None if weights is None else weights.unsqueeze(1).expand_as(of_class)
    return {
        "accuracy": _mean(correct.float(), weights),
        "auroc": auroc(of_class, positive, of_each).nanmean(dim=1),
        "calibration_error": _calibration_error(confidence, correct.to(confidence.dtype), weights),
        "f1": _f1(labels, target, of_class.shape[1], weights).nanmean(dim=1),
    }


def _first_class_with(confidence: Tensor, of_class: Tensor) -> Tensor:
    """The first class `(K, N)` whose probability `(K, C, N)` is the largest one of its row.

    torch's `max` takes four times as long for the classes.
    """
    last = of_class.shape[1] - 1
    is_largest = torch.eq(of_class, confidence.unsqueeze(1), out=torch.empty_like(of_class))
    places = torch.arange(last, -1, -1, device=of_class.device, dtype=of_class.dtype)
    return last - is_largest.mul_(places[:, None]).amax(dim=1).long()


def _regression_metrics(
    predictions: Tensor, target: Tensor, weights: Tensor | None
) -> dict[str, Tensor]:
    """MAE, R squared and RMSE, `(K,)` each.

    Computed in float64: in float32 a target far from 0 gives an R squared above 1.
    """
    wide = _widest_float(predictions.device)
    # In units of the largest number sums do not overflow, and in those of the largest difference
    # squares neither overflow nor vanish.
    both = torch.stack([predictions.to(wide), target.to(wide)])
    largest = _unit_of(both.abs().amax(dim=(0, 2)))
    predictions, target = both / largest[:, None]
    error, spread = predictions - target, target - _mean(target, weights).unsqueeze(1)
    if weights is not None:  # rows without any weight could be the largest
        counts = weights > 0
        error, spread = error.where(counts, 0), spread.where(counts, 0)
    unit = _unit_of(torch.cat([error, spread], dim=1).abs().amax(dim=1))
    error, spread = error / unit[:, None], spread / unit[:, None]
    if weights is None:
        residual, total = error.square().sum(dim=1), spread.square().sum(dim=1)
        differs = target.amax(dim=1) > target.amin(dim=1)
    else:
        residual, total = _mean(error.square(), weights), _mean(spread.square(), weights)
        low, high = target.where(counts, torch.inf), target.where(counts, -torch.inf)
        differs = high.amax(dim=1) > low.amin(dim=1)
    return {
        "mae": largest * (unit * _mean(error.abs(), weights)),
        "r2": (1 - residual / total).where(differs, torch.nan),
        "rmse": largest * (unit * _mean(error.square(), weights).sqrt()),
    }


def _quantile_metrics(
    quantiles: Tensor, target: Tensor, levels: Sequence[float], weights: Tensor | None
) -> dict[str, Tensor]:
    """Pinball loss, the share of rows up to each quantile, and of a median MAE and R squared."""
    wide = _widest_float(quantiles.device)
    reached = (target.unsqueeze(-1) <= quantiles).to(wide).where(quantiles.isfinite(), torch.nan)
    loss = pinball_loss(quantiles.to(wide), target.to(wide), levels)
    found = {
        f"{COVERAGE}{level}": _mean(own, weights)
        for level, own in zip(levels, reached.unbind(-1), strict=True)
    }
    if MEDIAN in levels:
        median = _regression_metrics(quantiles[..., levels.index(MEDIAN)], target, weights)
        found |= {name: median[name] for name in ("mae", "r2")}
    return dict(sorted({**found, "pinball_loss": _mean(loss, weights)}.items()))


def names_of_metrics(task: Task, levels: Sequence[float] | None = None) -> tuple[str, ...]:
    """The metrics of a task that say which network is better, as they are reported.

    >>> names_of_metrics("regression", [0.1, 0.9])
    ('pinball_loss',)
    """
    if levels is None:
        return METRICS[task]
    return ("mae", "pinball_loss", "r2") if MEDIAN in levels else ("pinball_loss",)


def _unit_of(largest: Tensor) -> Tensor:
    """A power of two near the largest numbers `(K,)`: dividing by it rounds nothing."""
    least = 4 * torch.finfo(largest.dtype).tiny
    return torch.exp2(largest.clamp_min(least).log2().floor() - 1)


def _widest_float(device: torch.device) -> torch.dtype:
    """The dtype in which to sum many rows; Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _counts(labels: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    """The sum of the weights `(K, N)` for each label, `(K, n_classes)`, in their own dtype.

    They are added one by one: in float32, from 2**24 rows on, adding 1 would change nothing.
    """
    zeros = torch.zeros(len(labels), n_classes, dtype=weights.dtype, device=labels.device)
    return zeros.scatter_add_(1, labels, weights)


def _f1(labels: Tensor, target: Tensor, n_classes: int, weights: Tensor | None = None) -> Tensor:
    """F1 of each class `(K, n_classes)`; NaN for one that is neither present nor predicted."""
    ones = torch.ones((), dtype=torch.int64, device=labels.device).expand_as(labels)
    if weights is not None:
        ones = weights.to(_widest_float(weights.device))
    hits = _counts(target, (labels == target) * ones, n_classes)
    both = _counts(labels, ones, n_classes) + _counts(target, ones, n_classes)
    return 2 * hits / both


def _calibration_error(
    confidence: Tensor, correct: Tensor, weights: Tensor | None = None
) -> Tensor:
    """The expected calibration error `(K,)` (Guo et al. 2017), from `(K, N)` each."""
    bins = (confidence * N_BINS).long().clamp(0, N_BINS)  # the last one is for 1; NaN goes anywhere
    surplus = (correct - confidence).to(_widest_float(confidence.device))
    if weights is not None:
        surplus = surplus * weights
    gap = _counts(bins, surplus, N_BINS + 1).abs().sum(dim=1)
    return gap.float() / (confidence.shape[1] if weights is None else weights.sum(dim=1))


def auroc(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> Tensor:
    """The area under the ROC curve over the last dimension, `(..., N)` to `(...)`.

    It is the fraction of pairs of a positive and a negative row in which the positive one has the
    higher score; ties count half. NaN if all rows are positive, or none is. With weights
    `(..., N)` each pair counts as much as the product of its two.
    """
    if weights is not None:
        return _weighted_auroc(scores, positive.bool(), weights)
    # Nonnegative floats sort like their bits. With the label appended as the lowest bit, ties count
    # as won. The few rows that have any are sorted once more with the labels reversed: a tie counts
    # as lost. Looking for them would have a GPU wait.
    as_bits = torch.int64 if scores.dtype == torch.float64 else torch.int32
    keys = (scores.contiguous().view(as_bits) << 1).bitwise_or_(positive)
    n_positive = positive.sum(dim=-1)
    in_order = _sort(keys)
    twice_won = 2 * _pairs_won(in_order & 1, n_positive)
    has_ties: Any = ...
    if keys.device.type == "cpu":
        array = in_order.numpy()  # torch takes four times as long
        has_ties = torch.as_tensor(((array[..., 1:] ^ array[..., :-1]) == 1).any(axis=-1))
    if has_ties is ... or has_ties.any():
        lost = _pairs_won(~_sort(keys[has_ties] ^ 1) & 1, n_positive[has_ties])
        twice_won[has_ties] = twice_won[has_ties] // 2 + lost
    return twice_won / (2 * n_positive * (positive.shape[-1] - n_positive))


def _weighted_auroc(scores: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """The same, of pairs that count as much as the product of their weights."""
    scores, order = scores.sort(dim=-1)
    wide = weights.to(_widest_float(weights.device))
    of_positive = torch.where(positive, wide, 0).gather(-1, order)
    of_negative = torch.where(positive, 0, wide).gather(-1, order)
    below = F.pad(of_negative.cumsum(dim=-1), (1, 0))
    start, end = (torch.searchsorted(scores, scores, right=right) for right in (False, True))
    won = (below.gather(-1, start) + below.gather(-1, end)) / 2
    return (of_positive * won).sum(dim=-1) / (of_positive.sum(dim=-1) * of_negative.sum(dim=-1))


def _pairs_won(positive: Tensor, n_positive: Tensor) -> Tensor:
    """The number of negatives below each positive, summed; `(..., N)` in ascending order."""
    wide = _widest_float(positive.device)  # integers have no matrix product, and sum slowly
    ranks = torch.arange(positive.shape[-1], device=positive.device, dtype=wide)
    return (positive.to(wide) @ ranks).long() - n_positive * (n_positive - 1) // 2


def _sort(keys: Tensor) -> Tensor:
    """Sort along the last dimension; on the CPU with numpy, which is ten times faster."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy(), axis=-1))
    return keys.sort(dim=-1).values
