"""The layers of a model against torch's."""

import pytest
import torch
from torch import nn

from multilayer.nn.losses import BinaryCrossEntropy, CrossEntropy
from multilayer.stacking.dropout import HashedDropout
from multilayer.stacking.model import (
    _ColumnLinear,
    _shared_module,
    _SmoothedBinaryCrossEntropy,
    _SoftmaxCrossEntropy,
)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_computes_the_same(bias: bool) -> None:
    """Also for inputs of more dimensions."""
    linear = nn.Linear(5, 3, bias=bias).double()
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    expected = linear(x[0])
    shared = _shared_module([linear])
    assert isinstance(shared, _ColumnLinear)
    torch.testing.assert_close(shared(x[0]), expected)
    torch.testing.assert_close(shared(x), linear(x))


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 3.0]])
def test_the_cross_entropy_is_torchs(weights: list[float] | None) -> None:
    """With label smoothing and class weights."""
    loss = CrossEntropy(label_smoothing=0.1, class_weights=weights)
    stacked = _shared_module([loss])
    assert isinstance(stacked, _SoftmaxCrossEntropy)
    stacked.label_smoothing = stacked.label_smoothing[0]
    logits, target = torch.randn(20, 3), torch.randint(0, 3, (20,))
    torch.testing.assert_close(stacked(logits, target), loss(logits, target))


@pytest.mark.parametrize("weights", [None, [0.2, 1.0]])
def test_the_binary_cross_entropy_is_the_same(weights: list[float] | None) -> None:
    """With label smoothing and class weights."""
    loss = BinaryCrossEntropy(label_smoothing=0.1, class_weights=weights)
    stacked = _shared_module([loss])
    assert isinstance(stacked, _SmoothedBinaryCrossEntropy)
    stacked.label_smoothing = stacked.label_smoothing[0]
    logits, target = torch.randn(20), torch.randint(0, 2, (20,))
    torch.testing.assert_close(stacked(logits, target), loss(logits, target))


def test_a_layer_is_shared_and_the_members_own_stays_as_it_was() -> None:
    """The members' networks are trained on; a model must not change them."""
    networks = [nn.Sequential(nn.Linear(2, 2), nn.Dropout(p), nn.ReLU()) for p in (0.0, 0.5)]
    shared = _shared_module(networks)
    assert [type(layer) for layer in shared] == [_ColumnLinear, HashedDropout, nn.ReLU]
    assert [type(layer) for layer in networks[0]] == [nn.Linear, nn.Dropout, nn.ReLU]
