"""The gradient of a chain of layers against autograd's."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from multilayer.nn.losses import BinaryCrossEntropy, CrossEntropy
from multilayer.nn.mlp import ACTIVATIONS, MLP
from multilayer.stacking.backprop import is_chain
from multilayer.stacking.block import Block, make_block
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import group_of, stack_optimizer
from multilayer.stacking.step import Step
from multilayer.training.module import (
    BinaryModule,
    MulticlassModule,
    RegressionModule,
    SupervisedModule,
)

SGD = torch.optim.SGD


def frozen(network: nn.Sequential) -> nn.Sequential:
    """A network whose first layer is not trained, nor the last bias."""
    network[0].requires_grad_(False)
    network[-1].bias.requires_grad_(False)  # type: ignore[union-attr]
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: MLP(5, 3, d_hidden=[4, 6], activation=name) for name in ACTIVATIONS},
    "dropout": lambda: MLP(5, 3, d_hidden=[8, 8], dropout=0.4),
    "linear": lambda: nn.Linear(5, 3),
    "no bias": lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 3)),
    "first dropped": lambda: nn.Sequential(nn.Dropout(0.3), nn.Tanh(), nn.Linear(5, 3)),
    "frozen": lambda: frozen(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))),
}


def step_of(own: list[SupervisedModule]) -> tuple[Step, Block]:
    """A step and a block of modules."""
    model, optimizer = StackedModel(own), stack_optimizer(SGD, [group_of(SGD([torch.zeros(1)]))])
    step = Step(model, optimizer)
    return step, make_block(model, own, range(len(own)))


def check(own: list[SupervisedModule], target: torch.Tensor) -> None:
    """Losses, outputs and gradients are autograd's, to the last bit whatever the others are.

    Whose place in memory is another one agrees to rounding: products depend on how it is aligned.
    """
    features = torch.randn(3, 16, 5, dtype=torch.float64)
    keys = torch.randint(-1000, 1000, (3, 2), dtype=torch.int32)
    step, block = step_of(own)
    assert step.chain
    found = step.losses_and_grad(block, features, target, keys)
    step.chain = None
    expected = step.losses_and_grad(block, features, target, keys)
    for mine, its in zip(found, expected, strict=True):
        assert mine.dtype == its.dtype
        torch.testing.assert_close(mine, its)
    assert found[2].any()
    other = deepcopy(own[0])
    for parameter in other.parameters():
        parameter.data.mul_(-1.5)
    step, block = step_of([other, *own[1:]])
    again = step.losses_and_grad(block, features, target, keys)
    assert not torch.equal(again[0][0], found[0][0])
    assert all(torch.equal(mine[1:], each[1:]) for mine, each in zip(again, found, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_chains_gradient_is_autograds(name: str) -> None:
    """In double precision, for a regression's loss and the cross entropy."""
    torch.manual_seed(0)
    for kind, loss in [(MulticlassModule, CrossEntropy()), (RegressionModule, nn.MSELoss())]:
        own = [kind(NETWORKS[name](), loss=loss, optimizer=SGD).double() for _ in range(3)]
        is_classes = kind is MulticlassModule
        check(own, torch.randint(0, 3, (3, 16)) if is_classes else torch.randn(3, 16, 3).double())


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 3.0]])
def test_the_cross_entropys_gradient_is_autograds(weights: list[float] | None) -> None:
    """With class weights, and label smoothing of each member's own."""
    torch.manual_seed(0)
    own = [
        MulticlassModule(
            MLP(5, 3, d_hidden=[4]),
            loss=CrossEntropy(label_smoothing=smoothing, class_weights=weights),
            optimizer=SGD,
        ).double()
        for smoothing in (0.0, 0.1, 0.5)
    ]
    check(own, torch.randint(0, 3, (3, 16)))


def test_a_single_outputs_gradient_is_autograds() -> None:
    """Whose logits are `(K, B)`."""
    torch.manual_seed(0)
    own = [
        BinaryModule(MLP(5, 1, d_hidden=[4]), loss=BinaryCrossEntropy(), optimizer=SGD).double()
        for _ in range(3)
    ]
    check(own, torch.randint(0, 2, (3, 16)))


def shared() -> nn.Module:
    """A layer that is used twice."""
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    "network",
    [
        MLP(5, 3, normalization="batch"),
        shared(),
        nn.Sequential(nn.Linear(5, 3), nn.SiLU(inplace=True)),
        nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1)),
    ],
    ids=["normalized", "shared", "in place", "by vmap"],
)
def test_any_other_networks_gradient_is_left_to_autograd(network: nn.Module) -> None:
    """A layer with other weights, weights that are used twice, and what changes its input."""
    assert not is_chain(StackedModel([MulticlassModule(network, optimizer=SGD)]))


def test_a_lower_precision_is_left_to_autograd() -> None:
    """`torch.autocast` chooses a precision for each operation, and for its gradient."""
    torch.manual_seed(0)
    own = [MulticlassModule(MLP(5, 3, d_hidden=[4]), optimizer=SGD) for _ in range(2)]
    step, block = step_of(own)
    assert step.chain
    rows = torch.randn(2, 16, 5), torch.randint(0, 3, (2, 16)), torch.zeros(2, 2).int()
    with torch.autocast("cpu", torch.bfloat16):
        found = step.losses_and_grad(block, *rows)
        step.chain = None
        expected = step.losses_and_grad(block, *rows)
    assert all(map(torch.equal, found, expected))
    assert not torch.equal(found[2], step.losses_and_grad(block, *rows)[2])


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0]])
def test_the_cross_entropy_of_bfloat16_logits_has_the_digits_of_float32(
    weights: list[float] | None,
) -> None:
    """Its smoothing too; its gradient by the logits is bfloat16 again."""
    torch.manual_seed(0)
    target = torch.randint(3, (3, 16))
    losses = [CrossEntropy(label_smoothing=each, class_weights=weights) for each in (0, 0.1, 0.3)]
    own: list[SupervisedModule] = [
        MulticlassModule(MLP(5, 3, d_hidden=[4]), loss=loss, optimizer=SGD).bfloat16()
        for loss in losses
    ]
    step, block = step_of(own)
    features = torch.randn(3, 16, 5, dtype=torch.bfloat16)
    keys = torch.zeros(3, 2, dtype=torch.int32)
    assert step.chain
    found, output, grad = step.losses_and_grad(block, features, target, keys)
    assert [each.dtype for each in (found, output, grad)] == [torch.float32] * 2 + [torch.bfloat16]
    alone = [own.float()(*each) for own, *each in zip(losses, output, target, strict=True)]
    torch.testing.assert_close(found, torch.stack(alone), rtol=1e-6, atol=0)
    step.chain = None
    _, _, by_autograd = step.losses_and_grad(block, features, target, keys)
    torch.testing.assert_close(grad, by_autograd, rtol=0.02, atol=2e-3)
