"""The metrics of each task against scikit-learn."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from multilayer.metrics import HEADLINE, metrics_for_task

N_ROWS = 300


def computed(task, predictions, target, n_classes=2, n_parts=1):
    """The metrics, updated with the rows in so many parts."""
    metrics = metrics_for_task(task, n_classes)
    parts = zip(np.array_split(predictions, n_parts), np.array_split(target, n_parts), strict=True)
    for some_predictions, some_target in parts:
        metrics.update(torch.from_numpy(some_predictions), torch.from_numpy(some_target))
    return {name: float(value) for name, value in metrics.compute().items()}


def calibration_error(confidence, right, n_bins=15):
    """Guo et al. 2017, equation 3: sum over bins of n_b / n |accuracy_b - confidence_b|."""
    edges = np.linspace(0, 1, n_bins + 1)
    total = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    return total


def binary_rows():
    """Probabilities of class 1 that tell something about the target, but overstate it."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, N_ROWS)
    logits = 2 * (target - 0.5) + 2 * rng.standard_normal(N_ROWS)
    return (1 / (1 + np.exp(-2 * logits))).astype(np.float32), target


def class_rows(n_classes):
    """Probabilities `(N, n_classes)`, and a target whose classes have unequal shares."""
    rng = np.random.default_rng(0)
    target = rng.choice(
        n_classes, N_ROWS, p=np.arange(1, n_classes + 1) / sum(range(n_classes + 1))
    )
    logits = 2 * np.eye(n_classes)[target] + 1.5 * rng.standard_normal((N_ROWS, n_classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p.astype(np.float32), target


def regression_rows(offset=0.0, deviation=1.0):
    """Values and a target around `offset`."""
    rng = np.random.default_rng(0)
    target = offset + deviation * rng.standard_normal(N_ROWS)
    values = target + 0.5 * deviation * rng.standard_normal(N_ROWS)
    return values.astype(np.float32), target.astype(np.float32)


def test_binary_metrics_are_scikit_learn_s():
    """Accuracy and F1 at a half, and the area under the ROC curve."""
    p, y = binary_rows()
    values = computed("binary", p, y)
    assert values["accuracy"] == pytest.approx(accuracy_score(y, p > 0.5), abs=1e-6)
    assert values["f1"] == pytest.approx(f1_score(y, p > 0.5), abs=1e-6)
    assert values["auroc"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)


def test_binary_calibration_compares_the_probability_of_class_1_with_its_share():
    """Over 15 bins of the probability of class 1."""
    p, y = binary_rows()
    values = computed("binary", p, y)
    assert values["calibration_error"] == pytest.approx(calibration_error(p, y), abs=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_multiclass_metrics_are_scikit_learn_s(n_classes):
    """Accuracy over the rows; F1 and the area under the ROC curve as means over the classes."""
    p, y = class_rows(n_classes)
    values = computed("multiclass", p, y, n_classes)
    assert values["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(1)), abs=1e-6)
    assert values["f1"] == pytest.approx(f1_score(y, p.argmax(1), average="macro"), abs=1e-6)
    area = (
        roc_auc_score(y, p[:, 1])
        if n_classes == 2
        else roc_auc_score(y, p, multi_class="ovr", average="macro")
    )
    assert values["auroc"] == pytest.approx(area, abs=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_multiclass_calibration_compares_confidence_with_accuracy(n_classes):
    """Over 15 bins of the largest probability, as in Guo et al. 2017."""
    p, y = class_rows(n_classes)
    values = computed("multiclass", p, y, n_classes)
    expected = calibration_error(p.max(1), p.argmax(1) == y)
    assert values["calibration_error"] == pytest.approx(expected, abs=1e-5)


def test_class_that_is_never_seen_counts_not_against_f1():
    """The mean is over the classes that the rows or the predictions hold, as scikit-learn's."""
    p, y = class_rows(3)
    unseen = np.concatenate([p, np.zeros((N_ROWS, 1), dtype=np.float32)], axis=1)
    metrics = metrics_for_task("multiclass", 4)
    metrics.update(torch.from_numpy(unseen), torch.from_numpy(y))
    expected = f1_score(y, p.argmax(1), average="macro")
    assert metrics["f1"].compute().item() == pytest.approx(expected, abs=1e-6)


def test_perfect_predictions_have_perfect_metrics():
    """Certain and right: every score is 1 and no calibration error is left."""
    y = np.arange(6) % 3
    values = computed("multiclass", np.eye(3, dtype=np.float32)[y], y, 3)
    assert values == {"accuracy": 1, "f1": 1, "auroc": 1, "calibration_error": 0}
    values = computed("binary", (y == 1).astype(np.float32), (y == 1).astype(np.int64))
    assert values == {"accuracy": 1, "f1": 1, "auroc": 1, "calibration_error": 0}


# Without an offset; years; house prices; sensor counts with a large offset.
@pytest.mark.parametrize(
    ("offset", "deviation"), [(0, 1), (2000, 10), (300_000, 100_000), (10_000, 1)]
)
def test_regression_metrics_are_scikit_learn_s(offset, deviation):
    """In the target's units, however far from 0 the target lies."""
    values, y = regression_rows(offset, deviation)
    metrics = computed("regression", values, y)
    wide, wide_y = values.astype(np.float64), y.astype(np.float64)
    assert metrics["rmse"] == pytest.approx(root_mean_squared_error(wide_y, wide), rel=1e-4)
    assert metrics["mae"] == pytest.approx(mean_absolute_error(wide_y, wide), rel=1e-4)
    assert metrics["r2"] == pytest.approx(r2_score(wide_y, wide), abs=1e-4)


@pytest.mark.parametrize("task", HEADLINE)
def test_metrics_of_parts_are_those_of_the_whole(task):
    """Rows may come in minibatches of any size."""
    rows = {
        "binary": binary_rows,
        "multiclass": lambda: class_rows(3),
        "regression": regression_rows,
    }
    predictions, target = rows[task]()
    whole = computed(task, predictions, target, 3)
    assert computed(task, predictions, target, 3, n_parts=7) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("task", HEADLINE)
def test_headline_is_one_of_the_metrics(task):
    """What a short table shows is computed."""
    assert HEADLINE[task] in metrics_for_task(task, 3)
