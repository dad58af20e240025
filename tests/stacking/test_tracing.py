"""A function as a graph."""

import weakref

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from multilayer.stacking.tracing import trace

ELSEWHERE = torch.tensor([1.0, 2.0])


def training(weights: Tensor, state: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """A bit of everything: autograd, vmap, a constant, several results, changes in place."""
    leaf = weights.detach().requires_grad_()

    def loss(own: Tensor) -> Tensor:
        return (rows @ own).tanh().square().sum()

    losses = torch.vmap(loss)(leaf)
    (grad,) = torch.autograd.grad(losses.sum(), leaf)
    with torch.no_grad():
        values, places = grad.sort(dim=1)
        state.mul_(torch.tensor(0.5)).add_(values)
        first, second = weights.unbind()
        first.sub_(second * 0.1)
    return losses.detach(), places, torch.where(state > 0, state, torch.nan)


def inputs_of(seed: int) -> list[Tensor]:
    """Its inputs."""
    own = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=own) for shape in ((2, 4), (2, 4), (5, 4))]


def test_a_graph_does_what_the_function_does() -> None:
    """With the inputs that it was made of and with others, to the last bit, and as torch's does."""
    traced = inputs_of(0)
    graph, first = trace(training, traced)
    torchs = make_fx(training)(*inputs_of(0))
    for seed in (0, 1):
        expected, mine, its = inputs_of(seed), inputs_of(seed), inputs_of(seed)
        results = training(*expected)
        for found in (graph(*mine), torchs(*its), *([first] if seed == 0 else [])):
            torch.testing.assert_close(found, results, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(mine, expected, rtol=0, atol=0)
        torch.testing.assert_close(its, expected, rtol=0, atol=0)
        if seed == 0:
            torch.testing.assert_close(traced, expected, rtol=0, atol=0)


def test_a_constant_keeps_its_value() -> None:
    """Where the function changes it in place."""
    graph, _ = trace(lambda each: (torch.tensor([1.0]).add_(each),), [torch.ones(1)])
    for _ in range(2):
        assert graph(torch.ones(1))[0].item() == 2


def test_what_a_graph_cannot_hold_is_an_error() -> None:
    """A graph would go on with today's values."""
    with pytest.raises(ValueError, match="depends on the value of a tensor"):
        trace(lambda each: (each if each.sum() > 0 else -each,), [torch.ones(2)])
    with pytest.raises(ValueError, match="depends on the value of a tensor"):
        trace(lambda each: (each.nonzero(),), [torch.ones(2)])
    with pytest.raises(ValueError, match=r"neither a parameter nor a buffer .*: \(2,\) of torch.f"):
        trace(lambda each: (each + ELSEWHERE,), [torch.ones(2)])


def test_what_is_no_longer_needed_is_let_go() -> None:
    """Otherwise tracing takes several times the memory of a step."""
    alive = []

    def function(each: Tensor) -> tuple[Tensor, ...]:
        for _ in range(5):
            each = each + 1
            alive.append(weakref.ref(each))
        return (each,)

    trace(function, [torch.ones(2)])
    assert sum(each() is not None for each in alive) <= 1
