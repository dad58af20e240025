"""Weights of rows, against rows that are there as often as they weigh, and scikit-learn."""

from typing import Any

import pytest
import torch
from sklearn import metrics as theirs
from torch import Tensor, nn

from multilayer.core.errors import UserError
from multilayer.nn import BinaryCrossEntropy, CrossEntropy, WeightedLoss, with_weights
from multilayer.nn.losses import Task, is_plain, total_weight
from multilayer.nn.metrics import METRICS, cross_entropy, metrics_of

N = 60
WEIGHTS = torch.tensor([0, 1, 2, 3, 1, 1]).repeat(10)

LOSSES: dict[str, tuple[Task, nn.Module]] = {
    "cross entropy": ("multiclass", CrossEntropy()),
    "its smoothing and class weights": (
        "multiclass",
        CrossEntropy(label_smoothing=0.1, class_weights=[1, 2, 4]),
    ),
    "binary": ("binary", BinaryCrossEntropy()),
    "its class weights": ("binary", BinaryCrossEntropy(label_smoothing=0.2, class_weights=[1, 3])),
    "mse": ("regression", nn.MSELoss()),
    "l1": ("regression", nn.L1Loss()),
    "huber": ("regression", nn.HuberLoss(delta=0.5)),
    "torch's own": ("multiclass", nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0]))),
}


def rows_of(task: Task) -> tuple[Tensor, Tensor]:
    """Outputs and targets of 60 rows."""
    generator = torch.Generator().manual_seed(3)
    shape = (N, 3) if task == "multiclass" else (N,)
    outputs = torch.randn(shape, generator=generator)
    if task == "regression":
        return outputs, outputs + torch.randn(N, generator=generator)
    n_classes = 3 if task == "multiclass" else 2
    return outputs, torch.randint(n_classes, (N,), generator=generator)


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_is_how_often_a_row_is_there(name: str) -> None:
    """The loss, its gradient, and what its mean is over."""
    task, loss = LOSSES[name]
    outputs, target = rows_of(task)
    outputs.requires_grad_()
    weighted = WeightedLoss(loss, task)
    packed = with_weights(target, WEIGHTS.float() / 4)
    ours = weighted(outputs, packed)
    (slope,) = torch.autograd.grad(ours, outputs)
    repeated = target.repeat_interleave(WEIGHTS)
    wanted = repeated if task == "multiclass" else repeated.float()
    expected = loss(outputs.repeat_interleave(WEIGHTS, dim=0), wanted)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, outputs)[0])
    torch.testing.assert_close(
        4 * total_weight(weighted, packed), total_weight(loss, repeated).float()
    )


def test_the_loss_that_is_given_stays_as_it_is() -> None:
    """It is copied, since it may be in use elsewhere."""
    loss = nn.MSELoss()
    weighted = WeightedLoss(loss, "regression")
    assert (loss.reduction, weighted.loss.reduction) == ("mean", "none")
    assert is_plain(WeightedLoss(CrossEntropy(), "multiclass"))
    assert not is_plain(WeightedLoss(CrossEntropy(label_smoothing=0.1), "multiclass"))


def test_a_minibatch_without_any_weight_has_no_loss_and_no_gradient() -> None:
    """Rather than 0 / 0."""
    outputs = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = WeightedLoss(nn.MSELoss(), "regression")(outputs, torch.zeros(2, 2))
    (slope,) = torch.autograd.grad(loss, outputs)
    assert loss == 0
    assert slope.tolist() == [0, 0]


class _MeanOnly(nn.Module):
    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs().mean()


def test_a_loss_that_gives_a_mean_alone_is_refused() -> None:
    """By its name, and with what it needs; also one that has the attribute and ignores it."""
    for loss, name in ((_MeanOnly(), "_MeanOnly"), (nn.functional.l1_loss, "l1_loss")):
        with pytest.raises(UserError, match=f"data.weight: the loss {name} takes no weights"):
            WeightedLoss(loss, "regression")
    ignoring = _MeanOnly()
    ignoring.reduction = "mean"  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"one number for each row .* got the shape \(\) for 2 r"):
        WeightedLoss(ignoring, "regression")(torch.zeros(2), torch.ones(2, 2))


@pytest.mark.parametrize("n_networks", [None, 3])
@pytest.mark.parametrize("task", METRICS)
def test_weighted_metrics_are_those_of_repeated_rows(task: Task, n_networks: int | None) -> None:
    """Also of a stack, each network with its own rows; predictions have ties."""
    outputs, target = rows_of(task)
    outputs = (outputs * 2).round() / 2
    predictions = {"binary": outputs.sigmoid(), "regression": outputs}.get(
        task, outputs.softmax(-1)
    )
    if n_networks is None:
        ours = metrics_of(task, predictions, target, weights=WEIGHTS / 2)
        order = torch.arange(N)
    else:
        orders = torch.stack([torch.randperm(N) for _ in range(n_networks)])
        found = metrics_of(task, predictions[orders], target[orders], weights=WEIGHTS[orders] / 2)
        ours = {name: value[1] for name, value in found.items()}
        order = orders[1]
    rows = order.repeat_interleave(WEIGHTS[order])
    expected = metrics_of(task, predictions[rows], target[rows])
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value.double(), expected[name].double(), msg=name)
    if task != "regression":
        torch.testing.assert_close(
            cross_entropy(outputs[order], target[order], WEIGHTS[order] / 2),
            cross_entropy(outputs[rows], target[rows]),
        )


def test_weighted_metrics_are_scikit_learn_s() -> None:
    """With weights that are no whole numbers."""
    weights = torch.rand(N, generator=torch.Generator().manual_seed(5)) * 3
    w = weights.numpy()

    def ours(task: Task, predictions: Tensor, target: Tensor) -> dict[str, float]:
        found = metrics_of(task, predictions, target, weights=weights)
        return {name: float(value) for name, value in found.items()}

    outputs, target = rows_of("binary")
    found, labels = ours("binary", outputs.sigmoid(), target), outputs > 0
    expected: dict[str, Any] = {
        "accuracy": theirs.accuracy_score(target, labels, sample_weight=w),
        "auroc": theirs.roc_auc_score(target, outputs, sample_weight=w),
        "f1": theirs.f1_score(target, labels, sample_weight=w),
    }
    outputs, target = rows_of("regression")
    found |= ours("regression", outputs, target)
    expected |= {
        "mae": theirs.mean_absolute_error(target, outputs, sample_weight=w),
        "r2": theirs.r2_score(target, outputs, sample_weight=w),
        "rmse": theirs.root_mean_squared_error(target, outputs, sample_weight=w),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_rows_without_weight_have_no_part_in_any_metric() -> None:
    """However far they are off, also in whether a metric is defined."""
    weights = torch.tensor([1.0, 1.0, 0.0])
    found = metrics_of(
        "regression",
        torch.tensor([1.0, 3.0, 1e30]),
        torch.tensor([1.0, 2.0, -1e20]),
        weights=weights,
    )
    assert found["mae"] == pytest.approx(0.5)
    assert found["r2"] == pytest.approx(-1)
    same = torch.tensor([2.0, 2.0, 5.0])
    assert metrics_of("regression", same, same, weights=weights)["r2"].isnan()
    chances, classes = torch.tensor([0.2, 0.4, 0.9]), torch.tensor([0, 0, 1])
    assert metrics_of("binary", chances, classes, weights=weights)["auroc"].isnan()
