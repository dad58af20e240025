"""The metrics of a stack against those of each member alone, by torchmetrics."""

import pytest
import torch
from torch import Tensor

from multilayer.lockstep.metrics import stacked_metrics
from multilayer.losses import Task
from multilayer.metrics import metrics_for_task


def alone(task: Task, predictions: Tensor, target: Tensor, n_classes: int) -> dict[str, Tensor]:
    """What torchmetrics gives for one member."""
    metrics = metrics_for_task(task, n_classes)
    metrics.update(predictions, target)
    return dict(metrics.compute())


def check(task: Task, predictions: Tensor, target: Tensor, n_classes: int = 2) -> None:
    """Every metric of every member agrees."""
    stacked = stacked_metrics(task, predictions, target)
    for k in range(len(predictions)):
        expected = alone(task, predictions[k], target[k], n_classes)
        assert stacked.keys() == expected.keys()
        for name, value in expected.items():
            assert float(stacked[name][k]) == pytest.approx(float(value), abs=3e-6), name


def test_multiclass_metrics_with_and_without_ties() -> None:
    """Coarse probabilities tie often."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(3, 400, 5, generator=generator).softmax(dim=2)
    probabilities[0] = (probabilities[0] * 4).round() / 4
    probabilities[0] /= probabilities[0].sum(dim=1, keepdim=True).clamp_min(0.25)
    check("multiclass", probabilities, torch.randint(0, 5, (3, 400), generator=generator), 5)


def test_multiclass_metrics_where_a_class_is_never_predicted() -> None:
    """It counts for nothing in F1 if it is not there either."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(2, 200, 4, generator=generator)
    probabilities[:, :, 3] = -20
    target = torch.randint(0, 3, (2, 200), generator=generator)
    target[1, 0] = 3
    stacked = stacked_metrics("multiclass", probabilities.softmax(dim=2), target)
    for k in range(2):
        metrics = metrics_for_task("multiclass", 4)
        metrics.update(probabilities[k].softmax(dim=1), target[k])
        assert float(stacked["f1"][k]) == pytest.approx(float(metrics["f1"].compute()), abs=1e-6)


def test_binary_metrics_with_and_without_ties() -> None:
    """Also for predictions of exactly 0, 1 and a half."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 300, generator=generator)
    probabilities[1] = (probabilities[1] * 4).round() / 4
    check("binary", probabilities, torch.randint(0, 2, (3, 300), generator=generator))


def test_regression_metrics_far_from_zero() -> None:
    """R squared does not lose its digits."""
    generator = torch.Generator().manual_seed(0)
    target = 1000 + torch.randn(3, 300, generator=generator)
    check("regression", target + 0.5 * torch.randn(3, 300, generator=generator), target)
