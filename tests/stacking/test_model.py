"""The one network of a stack, against the members' own."""

import torch
from torch import nn

from multilayer.nn.mlp import MLP
from multilayer.stacking.block import make_block
from multilayer.stacking.model import StackedModel
from multilayer.training.module import MulticlassModule, SupervisedModule


def check(own: list[SupervisedModule]) -> None:
    """Check a stack's losses and outputs, and that its network keeps its own tensors."""
    model = StackedModel(own)
    assert model.is_stacked
    before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    block = make_block(model, own, range(len(own)))
    features, target = torch.randn(len(own), 8, 4), torch.randint(0, 4, (len(own), 8))
    tensors = {
        name: torch.stack([dict(each.named_parameters())[name] for each in own])
        for name, _ in model.named_parameters()
    } | block.rest
    losses, outputs = model(tensors, features, target)
    for k, module in enumerate(own):
        torch.testing.assert_close(outputs[k], module.output(features[k]))
        torch.testing.assert_close(losses[k], module.loss(outputs[k], target[k]))
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert [*after] == [*before]
    assert all(after[name] is before[name] for name in before)


def test_members_have_their_own_losses_and_the_network_keeps_its_tensors() -> None:
    """What holds a stack's network must not hold the last call's weights."""
    torch.manual_seed(0)
    own = [
        MulticlassModule(MLP(4, 4, d_hidden=[3], normalization="batch"), optimizer=torch.optim.SGD)
        for _ in range(3)
    ]
    check(own)


def test_layers_may_share_weights() -> None:
    """One layer twice, and two layers with one weight."""
    torch.manual_seed(0)
    own = []
    for _ in range(3):
        first, second = nn.Linear(4, 4), nn.Linear(4, 4)
        second.weight = first.weight
        network = nn.Sequential(first, nn.Tanh(), first, nn.ReLU(), second)
        own.append(MulticlassModule(network, optimizer=torch.optim.SGD))
    check(own)
