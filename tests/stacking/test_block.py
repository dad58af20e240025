"""A block's step against autograd and torch's optimizer, member by member."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from multilayer.stacking.block import Block, Layout, make_block
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import (
    group_of,
    stack_optimizer,
)
from multilayer.stacking.step import Step
from multilayer.training.module import RegressionModule

from .test_optimizers import TORCHS

RATES = (0.1, 0.5, 0.02)
NO_KEYS = torch.zeros(3, 2, dtype=torch.int32)


def modules(n: int = 3, width: int = 4) -> list[RegressionModule]:
    """Networks with a normalisation, whose running statistics a step changes."""
    torch.manual_seed(0)
    made = []
    for _ in range(n):
        layers = [nn.Linear(2, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 1)]
        layers[-1].bias.requires_grad_(False)  # type: ignore[union-attr]
        network = nn.Sequential(*layers)
        made.append(RegressionModule(network, optimizer=torch.optim.SGD))
    return made


def step_of(
    own: list[RegressionModule], clips: list[float] | None = None
) -> tuple[Step, Block, list[torch.optim.Optimizer]]:
    """A step and a block of modules, which take momentum and each its own rate."""
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(
            [each for each in module.parameters() if each.requires_grad],
            lr=rate,
            momentum=0.9,
            weight_decay=0.1,
        )
        for module, rate in zip(own, RATES, strict=False)
    ]
    groups = [group_of(each) for each in optimizers]
    model, optimizer = StackedModel(own), stack_optimizer(torch.optim.SGD, groups)
    step = Step(model, optimizer, clips=clips is not None)
    return step, make_block(model, own, range(len(own)), optimizer, groups), optimizers


def take(step: Step, block: Block, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take one step; the block has its new weights afterwards."""
    out = torch.empty_like(block.weights)
    found = step(block, out, *inputs)
    block.take_over(out)
    return found


def numbers_of(
    step: Step, optimizers: list[Any], n_done: int, clips: list[float] | None = None
) -> torch.Tensor:
    """What the members' updates multiply with in the next step."""
    counts = torch.full((len(optimizers),), n_done)
    return step.coefficients([[group_of(each) for each in optimizers]], clips, counts, 1)[0].float()


@pytest.mark.parametrize("clips", [None, [1e-3, 0.05, 1e3]], ids=["free", "clipped"])
def test_a_step_is_torchs_for_each_member(clips: list[float] | None) -> None:
    """Weights, momentum, running statistics, losses and outputs of three steps."""
    own = modules()
    alone = deepcopy(own)
    step, block, optimizers = step_of(own, clips)
    _, _, torchs = step_of(alone, clips)
    for n_done in range(3):
        features, target = torch.randn(3, 8, 2), torch.randn(3, 8)
        losses, outputs = take(
            step, block, features, target, numbers_of(step, optimizers, n_done, clips), NO_KEYS
        )
        for k, (module, optimizer) in enumerate(zip(alone, torchs, strict=True)):
            module.train()
            output = module.network(features[k]).squeeze(1)
            loss = module.loss(output, target[k])
            optimizer.zero_grad()
            loss.backward()
            if clips:
                clip_grad_norm_(module.parameters(), clips[k])
            optimizer.step()
            torch.testing.assert_close(losses[k], loss.detach())
            torch.testing.assert_close(outputs[k], output.detach())
            weights = step.layout.join(dict(module.named_parameters()))
            torch.testing.assert_close(block.weights[k], weights)
            for name, value in module.network.named_buffers():
                torch.testing.assert_close(block.rest[f"network.{name}"][k], value)
    assert block.n_steps.tolist() == [3, 3, 3]
    assert block.alive.all()


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("where", ["features", "rate"])
def test_a_member_whose_step_is_not_finite_stays_as_it_was(traced: bool, where: str) -> None:
    """Its weights, statistics and count of steps, for ever; the others go on."""
    step, block, optimizers = step_of(modules())
    step.traced = traced
    features, target = torch.randn(3, 8, 2), torch.randn(3, 8)
    if where == "features":
        features[1, 0, 0] = torch.inf
    else:
        optimizers[1].param_groups[0]["lr"] = 1e39  # infinite in float32
    before = deepcopy(block)
    losses, _ = take(step, block, features, target, numbers_of(step, optimizers, 0), NO_KEYS)
    assert block.alive.tolist() == [True, False, True]
    assert losses[[0, 2]].isfinite().all()
    assert losses[1].isfinite() == (where == "rate")  # the loss was before the step
    features = torch.randn(3, 8, 2)
    optimizers[1].param_groups[0]["lr"] = 0.1
    losses, _ = take(step, block, features, target, numbers_of(step, optimizers, 1), NO_KEYS)
    assert losses.isnan().tolist() == [False, True, False]
    assert block.n_steps.tolist() == [2, 0, 2]
    assert torch.equal(block.weights[1], before.weights[1])
    assert not torch.equal(block.weights[0], before.weights[0])
    for name in step.running:
        assert torch.equal(block.rest[name][1], before.rest[name][1]), name
        assert not torch.equal(block.rest[name][2], before.rest[name][2]), name


@pytest.mark.parametrize("traced", [False, True])
def test_what_is_finite_is_told_from_what_only_adds_up_to_more(traced: bool) -> None:
    """The sum of the second member's numbers is not finite, though all of them are."""
    step, _, _ = step_of(modules())
    step.traced = traced
    tensor = torch.tensor([[1.0, 2.0], [3e38, 3e38], [torch.inf, -torch.inf], [torch.nan, 0.0]])
    assert step.is_finite(tensor).tolist() == [True, True, False, False]
    assert step.is_finite(tensor[:1]).tolist() == [True]


def test_evaluating_changes_nothing_and_uses_the_running_statistics() -> None:
    """The loss of each module by itself, on rows that all share."""
    own = modules()
    step, block, _ = step_of(own)
    features, target = torch.randn(5, 2), torch.randn(5)
    before = deepcopy(block)
    losses, outputs = step.evaluate(block, features, target)
    for k, module in enumerate(own):
        output = module.eval().network(features).squeeze(1)
        torch.testing.assert_close(outputs[k], output)
        torch.testing.assert_close(losses[k], module.loss(output, target))
    assert all(map(torch.equal, block.tensors(), before.tensors()))
    assert step.model.training


def test_numbers_of_steps_are_counted_from_the_first() -> None:
    """A group for each step, or one for all; torch's SGD dampens from the second step on."""
    (module,) = modules(1)
    group = group_of(torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.5, dampening=0.2))
    stacked = stack_optimizer(torch.optim.SGD, [group])
    step = Step(StackedModel([module]), stacked, clips=True)
    names = step.coefficient_names
    groups = [group, group | {"lr": 0.3}]
    two = step.coefficients([[each] for each in groups], [7.0], torch.tensor([0]), 2)
    assert two.shape == (2, len(names), 1)
    by_name = dict(zip(names, two.unbind(1), strict=True))
    assert by_name["lr"].flatten().tolist() == [0.1, 0.3]
    assert by_name["gain"].flatten().tolist() == [1.0, 0.8]
    assert by_name["clip"].flatten().tolist() == [7.0, 7.0]
    later = step.coefficients([[groups[0]]], [7.0], torch.tensor([1]), 3)
    assert later[:, names.index("gain"), 0].tolist() == [0.8, 0.8, 0.8]


@pytest.mark.parametrize("kind", TORCHS)
def test_numbers_follow_from_a_members_own_count_of_steps(
    kind: type[torch.optim.Optimizer],
) -> None:
    """To the last bit those that it has alone, whoever is beside it, and however far."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 3000, (40,), generator=generator)
    groups = [group_of(kind([torch.zeros(1)], lr=0.1)) for _ in counts]
    names = [name for name in ("beta1", "beta2", "lr_decay", "dampening") if name in groups[0]]
    for group in groups:
        values = 1 - 0.1 * torch.rand(len(names), generator=generator)  # whose powers count
        group |= dict(zip(names, values.tolist(), strict=True))
    (module,), stacked = modules(1), stack_optimizer(kind, groups)
    step = Step(StackedModel([module]), stacked)
    beside = step.coefficients([groups], None, counts, 33)
    for k, group in enumerate(groups):
        alone = step.coefficients([[group]], None, counts[k : k + 1], 33)
        assert torch.equal(beside[:, :, k], alone[:, :, 0])


@pytest.mark.parametrize(
    ("width", "n_members"), [(1, 16), (2**17 - 1, 16), (2**17, 15), (2**18, 7), (2**22, 1)]
)
def test_a_block_holds_few_bytes_and_few_members(width: int, n_members: int) -> None:
    """16 of small networks, as many as 8 MB of weights hold of larger ones, and at least one.

    On a GPU, where each operation is started by itself, as many as there are.
    """
    step = Step.__new__(Step)
    step.layout = Layout(nn.Linear(width, 1, device="meta"))
    assert step.most_members(torch.device("cpu")) == n_members
    assert step.most_members(torch.device("cuda")) == 4096


def test_places_are_taken_out_and_moved() -> None:
    """All tensors of a member together, its count of steps and whether it trains among them."""
    _, block, _ = step_of(modules())
    for tensor in block.tensors():  # no two members alike in any of them
        values = torch.arange(tensor.numel()).view_as(tensor)
        tensor.copy_(values if tensor.dtype != torch.bool else values == 1)
    some = block.only([2, 0])
    assert len(some) == 2
    assert all(
        torch.equal(a[[2, 0]], b) for a, b in zip(block.tensors(), some.tensors(), strict=True)
    )
    some.move(block, 1, 0)
    assert some.n_steps.tolist() == [1, 0]
    assert some.alive.tolist() == [True, False]
    assert all(
        torch.equal(a[[1, 0]], b) for a, b in zip(block.tensors(), some.tensors(), strict=True)
    )


def test_what_no_optimizer_has_is_not_trained() -> None:
    """A frozen bias; it is among the rest, with the statistics of the normalisation."""
    step, block, _ = step_of(modules())
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight"]
    assert list(step.layout.shapes) == [f"network.{name}" for name in names]
    assert block.weights.shape == (3, 8 + 4 + 4 + 4 + 4)
    assert {name: tuple(each.shape) for name, each in block.rest.items()} == {
        "network.3.bias": (3, 1),
        "network.1.running_mean": (3, 4),
        "network.1.running_var": (3, 4),
        "network.1.num_batches_tracked": (3,),
    }
    parts = step.layout.split(block.weights)
    assert parts["network.0.weight"].shape == (3, 4, 2)
    assert parts["network.0.weight"].data_ptr() == block.weights.data_ptr()
