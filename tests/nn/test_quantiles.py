"""Quantile regression, against scikit-learn and the quantiles of the rows themselves."""

import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, r2_score
from torch import nn

from multilayer.core.errors import UserError
from multilayer.nn import QuantileLoss, WeightedLoss, metrics_of, with_weights
from multilayer.nn.losses import AutoLoss, levels_of, loss_for_task
from multilayer.nn.metrics import names_of_metrics
from multilayer.nn.quantiles import in_order

LEVELS = [0.1, 0.5, 0.9]
GENERATOR = torch.Generator().manual_seed(0)
TARGET = torch.randn(200, generator=GENERATOR) * 3 + 1
OUTPUT = torch.randn(200, 3, generator=GENERATOR)


def test_the_loss_is_scikit_learn_s() -> None:
    """The mean over the levels; of one level, also of outputs `(B,)`."""
    each = [
        mean_pinball_loss(TARGET, own, alpha=level)
        for level, own in zip(LEVELS, OUTPUT.unbind(1), strict=True)
    ]
    found = QuantileLoss(levels=LEVELS)(OUTPUT, TARGET)
    assert found.item() == pytest.approx(sum(each) / 3, rel=1e-5)
    single = QuantileLoss(levels=[0.9])
    assert single(OUTPUT[:, 2], TARGET).item() == pytest.approx(each[2], rel=1e-5)
    assert torch.equal(single(OUTPUT[:, 2:], TARGET), single(OUTPUT[:, 2], TARGET))


def test_its_least_is_at_the_quantiles() -> None:
    """Gradient descent on one number for each level finds those of the rows."""
    found = nn.Parameter(torch.zeros(3))
    loss, optimizer = QuantileLoss(levels=LEVELS), torch.optim.Adam([found], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        loss(found.expand(200, 3), TARGET).backward()
        optimizer.step()
    expected = TARGET.quantile(torch.tensor(LEVELS))
    torch.testing.assert_close(found.detach(), expected, atol=0.15, rtol=0)


def test_the_loss_has_the_gradient_of_finite_differences() -> None:
    """In float64."""
    output = OUTPUT[:5].double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda each: QuantileLoss(levels=LEVELS)(each, TARGET[:5].double()), output
    )


def test_sorted_quantiles_never_lose_more() -> None:
    """Where none cross they stay as they are."""
    loss = QuantileLoss(levels=LEVELS)
    assert (in_order(OUTPUT).diff(dim=1) >= 0).all()
    for output, target in zip(OUTPUT.split(1), TARGET.split(1), strict=True):
        assert loss(in_order(output), target) <= loss(output, target) + 1e-6
    straight = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(in_order(straight), straight)


@pytest.mark.parametrize("levels", [[], [0.0, 0.5], [0.5, 1.0], [0.5, 0.5], [0.9, 0.1], [-0.1]])
def test_levels_that_are_none_are_refused(levels: list[float]) -> None:
    """With what they are."""
    with pytest.raises(ValueError, match="levels must be"):
        QuantileLoss(levels=levels)


def test_outputs_that_are_not_one_for_each_level_are_refused() -> None:
    """torch would broadcast some of them."""
    loss = QuantileLoss(levels=LEVELS)
    pairs = (OUTPUT[:, :2], TARGET), (OUTPUT[:, 0], TARGET), (OUTPUT, TARGET[:, None])
    for output, target in pairs:
        with pytest.raises(UserError, match="must give 3 outputs a row, one for each level"):
            loss(output, target)


def test_it_is_for_regression_and_takes_weights() -> None:
    """Weights are how often a row is there."""
    loss = QuantileLoss(levels=LEVELS)
    with pytest.raises(UserError, match="QuantileLoss is for regression, and the data's task is b"):
        loss_for_task(loss, "binary")
    weights = torch.arange(200) % 3
    weighted = WeightedLoss(loss, "regression")
    assert levels_of(weighted) == LEVELS
    assert levels_of(AutoLoss()) is None
    expected = loss(OUTPUT.repeat_interleave(weights, dim=0), TARGET.repeat_interleave(weights))
    found = weighted(OUTPUT, with_weights(TARGET, weights.float()))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("stacked", [False, True])
def test_metrics_are_those_of_the_levels(stacked: bool) -> None:
    """Coverage is the share of rows up to the quantile; those of the median are scikit-learn's."""
    quantiles = in_order(OUTPUT)
    if stacked:
        pairs = torch.stack([quantiles + 1, quantiles]), torch.stack([TARGET, TARGET])
        both = metrics_of("regression", *pairs, levels=LEVELS)
        found = {name: value[1].item() for name, value in both.items()}
    else:
        one = metrics_of("regression", quantiles, TARGET, levels=LEVELS)
        found = {name: value.item() for name, value in one.items()}
    of_levels = ["coverage_0.1", "coverage_0.5", "coverage_0.9"]
    assert list(found) == [*of_levels, "mae", "pinball_loss", "r2"]
    for name, own in zip(of_levels, quantiles.unbind(1), strict=True):
        assert found[name] == pytest.approx((own >= TARGET).double().mean().item())
    median = quantiles[:, 1]
    assert found["mae"] == pytest.approx(mean_absolute_error(TARGET, median), rel=1e-5)
    assert found["r2"] == pytest.approx(r2_score(TARGET, median), rel=1e-5)
    each = zip(LEVELS, quantiles.unbind(1), strict=True)
    losses = [mean_pinball_loss(TARGET, own, alpha=level) for level, own in each]
    assert found["pinball_loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_metrics_without_a_median_have_no_errors_of_one() -> None:
    """And weights count; what is not a number covers nothing."""
    two, weights = in_order(OUTPUT)[:, ::2], torch.arange(200) % 3
    found = metrics_of("regression", two, TARGET, levels=[0.1, 0.9], weights=weights)
    repeated = [each.repeat_interleave(weights, dim=0) for each in (two, TARGET)]
    expected = metrics_of("regression", *repeated, levels=[0.1, 0.9])
    assert list(found) == ["coverage_0.1", "coverage_0.9", "pinball_loss"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert names_of_metrics("regression", [0.1, 0.9]) == ("pinball_loss",)
    broken = metrics_of("regression", two * torch.nan, TARGET, levels=[0.1, 0.9])
    assert all(value.isnan() for value in broken.values())
