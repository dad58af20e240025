"""Stacked optimizers against torch's own, on the same gradients."""

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from multilayer.stacking.optimizers import _STACKED, group_of, stack_optimizer

TORCHS = [kind for kind in _STACKED if kind.__module__.startswith("torch.")]
"""Not those that other tests declare."""

# For each optimizer the numbers of three members, and flags that all of them share.
CASES: list[tuple[type[Optimizer], list[dict[str, Any]], dict[str, Any]]] = [
    (SGD, [{"lr": 0.1}, {"lr": 0.01, "weight_decay": 0.1}, {"lr": 1e-4}], {}),
    (
        SGD,
        [
            {"lr": 0.1, "momentum": 0.9},
            {"lr": 0.01, "momentum": 0.5, "dampening": 0.3, "weight_decay": 0.01},
            {"lr": 0.3, "dampening": 0.5},  # which torch ignores without momentum
        ],
        {},
    ),
    (SGD, [{"lr": 0.1, "momentum": m} for m in (0.9, 0.5, 0.1)], {"nesterov": True}),
    (
        Adam,
        [
            {"lr": 0.1, "betas": (0.9, 0.999)},
            {"lr": 1e-3, "betas": (0.5, 0.9), "eps": 1e-3},
            {"lr": 0.03, "betas": (0.0, 0.99), "weight_decay": 0.1},
        ],
        {},
    ),
    (Adam, [{"lr": 0.1}, {"lr": 0.01}, {"lr": 1.0}], {"amsgrad": True, "maximize": True}),
    (
        AdamW,
        [{"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.01}, {"lr": 1e-3, "weight_decay": 0.5}],
        {},
    ),
    (AdamW, [{"lr": 0.1}, {"lr": 0.01}, {"lr": 1.0}], {"amsgrad": True}),
    (AdamW, [{"lr": 0.1}, {"lr": 0.01}, {"lr": 1e-3, "weight_decay": 0.5}], {"maximize": True}),
    (Adadelta, [{"lr": 1.0}, {"rho": 0.5, "eps": 1e-3}, {"lr": 0.1, "weight_decay": 0.1}], {}),
    (
        Adagrad,
        [
            {"lr": 0.1},
            {"lr": 0.01, "lr_decay": 0.1, "eps": 1e-3},
            {"lr": 1.0, "initial_accumulator_value": 0.5, "weight_decay": 0.1},
        ],
        {},
    ),
    (RMSprop, [{"lr": 0.1}, {"lr": 0.01, "alpha": 0.5}, {"lr": 1e-3, "weight_decay": 0.1}], {}),
    (
        RMSprop,
        [{"lr": 0.1, "momentum": 0.9}, {"lr": 0.01, "eps": 1e-3}, {"lr": 1e-3, "alpha": 0.9}],
        {"centered": True},
    ),
]


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize(("kind", "numbers", "flags"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_hundred_steps_agree_with_torch(
    kind: type[Optimizer],
    numbers: list[dict[str, Any]],
    flags: dict[str, Any],
    dtype: torch.dtype,
    tolerance: float,
    eagerly: bool,
) -> None:
    """Each member as torch's optimizer with its numbers; the rate halves on the way."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 5003 if eagerly else 20)
    weights = torch.randn(shape, generator=generator, dtype=dtype)
    alone = [torch.nn.Parameter(row.clone()) for row in weights]
    optimizers = [kind([p], **own, **flags) for p, own in zip(alone, numbers, strict=True)]
    groups = [group_of(optimizer) for optimizer in optimizers]
    stacked = stack_optimizer(kind, groups)
    state = list(stacked.initial_state(weights, groups).values())
    for step in range(1, 101):
        grads = torch.randn(shape, generator=generator, dtype=dtype)
        if step == 50:
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] /= 2
        for parameter, optimizer, grad in zip(alone, optimizers, grads, strict=True):
            parameter.grad = grad.clone()
            optimizer.step()
        group = {
            name: torch.tensor([[group_of(own)[name] for own in optimizers]], dtype=torch.float64)
            for name in stacked.varying
        }
        n = stacked.coefficients(group, torch.full((1, 3), step))
        columns = {name: value.view(3, 1).to(dtype) for name, value in n.items()}
        take, out = stacked.step_eagerly if eagerly else stacked.step, torch.empty_like(weights)
        take(out, weights, grads, state, columns)
        weights = out
    expected = torch.stack([parameter.detach() for parameter in alone])
    difference = (weights - expected).norm(dim=1) / expected.norm(dim=1)
    assert difference.max() < tolerance


def test_members_are_updated_alike_whoever_is_beside_them() -> None:
    """To the last bit, also with another number of threads; the kernel goes over many numbers."""
    generator = torch.Generator().manual_seed(0)
    groups = [group_of(Adam([torch.zeros(1)], lr=0.1 / k)) for k in range(1, 4)]
    stacked = stack_optimizer(Adam, groups)
    weights, grads = torch.randn(2, 3, 50_003, generator=generator)
    numbers = {name: torch.rand(3, 1, generator=generator) for name in stacked.coefficient_names()}

    def update(members: slice) -> Tensor:
        own = weights[members]
        state = list(stacked.initial_state(own, groups).values())
        n = {name: value[members] for name, value in numbers.items()}
        out = torch.empty_like(own)
        stacked.step_eagerly(out, own, grads[members], state, n)
        return out

    together, before = update(slice(3)), torch.get_num_threads()
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        for k in range(3):
            assert torch.equal(update(slice(k, k + 1))[0], together[k])
    torch.set_num_threads(before)


def test_every_optimizer_of_torch_that_is_stacked_is_tested() -> None:
    """None is left out above."""
    assert {kind for kind, _, _ in CASES} == set(TORCHS)


def test_what_is_remembered_has_torchs_names() -> None:
    """So that a checkpoint holds what torch's optimizer looks for."""
    for kind, numbers, flags in CASES:
        parameter = torch.nn.Parameter(torch.zeros(4))
        own = {"momentum": 0.5} | numbers[0] if kind is SGD else numbers[0]
        optimizer = kind([parameter], **own, **flags)
        parameter.grad = torch.ones(4)
        optimizer.step()
        remembered = {
            name
            for name, value in optimizer.state[parameter].items()
            if isinstance(value, torch.Tensor) and value.ndim
        }
        assert set(stack_optimizer(kind, [group_of(optimizer)]).state_names) == remembered


def test_numbers_that_are_0_for_all_are_left_out() -> None:
    """What they would do is not even computed; one member's is enough for it."""

    def unused_terms(kind: type[Optimizer], *numbers: dict[str, Any]) -> list[str]:
        groups = [group_of(kind([torch.zeros(1)], **each)) for each in numbers]
        return stack_optimizer(kind, groups).unused_terms

    assert unused_terms(SGD, {"lr": 1}, {"lr": 2}) == ["weight_decay", "momentum"]
    assert unused_terms(SGD, {"lr": 1}, {"lr": 2, "momentum": 0.1}) == ["weight_decay"]
    assert unused_terms(Adam, {"lr": 1, "weight_decay": 0.1}, {"lr": 2}) == ["momentum"]  # has none
    assert stack_optimizer(SGD, [group_of(SGD([torch.zeros(1)], weight_decay=0.1))]).decays
    assert not stack_optimizer(SGD, [group_of(SGD([torch.zeros(1)]))]).decays


@pytest.mark.parametrize("kind", TORCHS)
def test_the_names_of_its_numbers_are_known_beforehand(kind: type[Optimizer]) -> None:
    """In the order in which they are given to each step."""
    own = group_of(kind([torch.zeros(1)], lr=0.1))
    stacked = stack_optimizer(kind, [own])
    group = {name: torch.full((2, 3), own[name], dtype=torch.float64) for name in stacked.varying}
    numbers = stacked.coefficients(group, torch.tensor([[1, 1, 1], [2, 2, 2]]))
    assert stacked.coefficient_names() == tuple(numbers)
    assert all(each.expand(2, 3).dtype == torch.float64 for each in numbers.values())
    assert "lr" in stacked.varying


def test_adams_corrections_are_pythons_to_the_last_bit() -> None:
    """torch's own powers differ by where in a tensor a number lies, and so by who is beside it."""
    groups = [
        group_of(Adam([torch.zeros(1)], betas=(0.9, 1 - k / 10**4), eps=1.0)) for k in range(1, 41)
    ]
    stacked = stack_optimizer(Adam, groups)
    varying = {
        name: torch.tensor([[own[name] for own in groups]], dtype=torch.float64)
        for name in stacked.varying
    }
    steps = torch.arange(1, 101)[:, None].expand(100, 40)
    found = stacked.coefficients(varying, steps)["eps"].tolist()
    expected = [[sqrt(1 - own["beta2"] ** step) for own in groups] for step in range(1, 101)]
    assert found == expected


def test_adagrads_sum_has_torchs_name_and_start() -> None:
    """Each member's own; a checkpoint is looked into for it."""
    groups = [
        group_of(Adagrad([torch.zeros(1)], initial_accumulator_value=start)) for start in (0.0, 0.5)
    ]
    stacked = stack_optimizer(Adagrad, groups)
    (state,) = stacked.initial_state(torch.zeros(2, 2), groups).items()
    assert state[0] == "sum"
    assert state[1].tolist() == [[0.0, 0.0], [0.5, 0.5]]
