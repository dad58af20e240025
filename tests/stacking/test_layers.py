"""Layers that compute for K members at once, against torch's own, member by member."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from multilayer.nn.embeddings import PLRMLP, CategoryEmbeddings
from multilayer.nn.losses import BinaryCrossEntropy, CrossEntropy
from multilayer.nn.mlp import ACTIVATIONS, MLP, DenseLayer, Perceptron
from multilayer.stacking.layers import (
    ELEMENTWISE,
    LAYER_CONVERSIONS,
    STACKED_LAYERS,
    STACKED_LOSSES,
    all_stacked,
    per_member_attr,
)
from multilayer.stacking.model import _shared_module

from ..lockstep.networks import Hooked, MyDropout

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 3),
    "no bias": lambda: nn.Linear(5, 3, bias=False),
    "batch": lambda: nn.BatchNorm1d(5),
    "batch without weights": lambda: nn.BatchNorm1d(5, affine=False, momentum=0.3),
    "layer": lambda: nn.LayerNorm(5),
    "layer without bias": lambda: nn.LayerNorm(5, bias=False),
    "layer without weights": lambda: nn.LayerNorm(5, elementwise_affine=False, eps=0.1),
    "categories": lambda: CategoryEmbeddings(1, [2, 2]),
    "numbers": lambda: PLRMLP(5, 3, n_numbers=4, d_embedding=6, frequency_scale=0.5),
    "numbers, lite": lambda: PLRMLP(5, 3, n_numbers=5, lite=True, frequency_scale=0.5),
    "perceptron": lambda: Perceptron(5),
    **{name: lambda name=name: DenseLayer(5, 3, activation=name) for name in ACTIVATIONS},
    **{
        each.__name__: lambda each=each: nn.Sequential(nn.Linear(5, 3), each())
        for each in ELEMENTWISE
        if each not in ACTIVATIONS.values()
    },
    "mlp": lambda: MLP(5, 3, d_hidden=[4, 4], normalization="batch"),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_computes_for_all_what_torchs_does_for_each(name: str, training: bool) -> None:
    """Outputs, gradients of weights and features, and running statistics, in double precision."""
    torch.manual_seed(0)
    own = [NETWORKS[name]().double().train(training) for _ in range(3)]
    for each in own:
        for weight in each.parameters():
            nn.init.normal_(weight)
    assert all_stacked(own[0])
    shared = _shared_module(own, STACKED_LAYERS)
    stacked = {
        key: torch.stack([module.state_dict()[key] for module in own])
        for key in own[0].state_dict()
    }
    weights = {key: stacked[key].requires_grad_() for key, _ in own[0].named_parameters()}
    x = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    output = functional_call(shared, stacked, (x.mT,)).mT
    expected = torch.stack([module(rows) for module, rows in zip(own, x, strict=True)])
    torch.testing.assert_close(output, expected)
    slope = torch.randn_like(output)
    ours = torch.autograd.grad((output * slope).sum(), [x, *weights.values()], retain_graph=True)
    theirs = torch.autograd.grad(
        (expected * slope).sum(), [x, *(each for module in own for each in module.parameters())]
    )
    torch.testing.assert_close(ours[0], theirs[0])
    n = len(weights)
    for i, found in enumerate(ours[1:]):
        torch.testing.assert_close(found, torch.stack(theirs[1 + i :: n]))
    for key, buffer in own[0].named_buffers():
        assert stacked[key].dtype == buffer.dtype
        torch.testing.assert_close(
            stacked[key], torch.stack([module.get_buffer(key) for module in own])
        )


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 3.0]])
def test_the_cross_entropy_is_torchs(weights: list[float] | None) -> None:
    """With class weights, and label smoothing of each member's own."""
    own = [CrossEntropy(label_smoothing=each, class_weights=weights) for each in (0.0, 0.1)]
    check_loss(own, torch.randn(2, 20, 3), torch.randint(0, 3, (2, 20)))


@pytest.mark.parametrize("weights", [None, [0.2, 1.0]])
def test_the_binary_cross_entropy_is_the_same(weights: list[float] | None) -> None:
    """Likewise."""
    own = [BinaryCrossEntropy(label_smoothing=each, class_weights=weights) for each in (0.0, 0.1)]
    check_loss(own, torch.randn(2, 20), torch.randint(0, 2, (2, 20)))


def check_loss(own: list[nn.Module], output: Tensor, target: Tensor) -> None:
    """The losses of each member, computed at once, are those that its own loss gives."""
    shared = _shared_module(own, STACKED_LOSSES)
    buffers = {"label_smoothing": shared.label_smoothing}
    if own[0].weight is not None:
        buffers["weight"] = torch.stack([each.weight for each in own])
    found = functional_call(shared, buffers, (output, target))
    expected = [loss(*rows) for loss, *rows in zip(own, output, target, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_that_runs_by_vmap_computes_the_same(bias: bool) -> None:
    """Also for inputs of more dimensions."""
    linear = nn.Linear(5, 3, bias=bias).double()
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    shared = _shared_module([linear], LAYER_CONVERSIONS)
    assert type(shared) is LAYER_CONVERSIONS[nn.Linear]
    torch.testing.assert_close(shared(x[0]), linear(x[0]))
    torch.testing.assert_close(shared(x), linear(x))


def test_a_layer_is_shared_and_the_members_own_stays_as_it_was() -> None:
    """The members' networks are trained on; a stack's must not change them."""
    networks = [nn.Sequential(nn.Linear(2, 2), nn.Dropout(p), nn.ReLU()) for p in (0.0, 0.5)]
    shared = _shared_module(networks, STACKED_LAYERS)
    expected = [STACKED_LAYERS[nn.Linear], STACKED_LAYERS[nn.Dropout], nn.ReLU]
    assert [type(layer) for layer in shared] == expected
    assert [type(layer) for layer in networks[0]] == [nn.Linear, nn.Dropout, nn.ReLU]


class OwnForward(MLP):
    """A subclass, which may do anything."""


def patched(network: nn.Module) -> nn.Module:
    """A network whose forward is another function."""
    network.forward = deepcopy(network.forward)
    return network


@pytest.mark.parametrize(
    "network",
    [
        OwnForward(5, 3),
        Hooked(5, 3),
        MyDropout(),
        nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1)),
        nn.Sequential(nn.BatchNorm1d(5, momentum=None)),
        nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False)),
        nn.Sequential(nn.LayerNorm([5, 3])),
        nn.Sequential(nn.PReLU()),
        nn.Sequential(nn.RReLU()),
        nn.Sequential(patched(nn.Linear(5, 3))),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))),
    ],
)
def test_any_other_layer_runs_by_vmap(network: nn.Module) -> None:
    """A subclass, a hook, a layer over features: none may be mistaken for what it is not."""
    assert not all_stacked(network)


def test_each_member_has_its_own_rate_and_smoothing() -> None:
    """Whichever way the network runs; nothing else differs."""
    layers = [nn.Dropout(), nn.Dropout2d(), CrossEntropy(), BinaryCrossEntropy(), nn.Linear(2, 2)]
    names = [per_member_attr(layer) for layer in layers]
    assert names == ["p", "p", "label_smoothing", "label_smoothing", None]
    assert per_member_attr(MyDropout()) is None
