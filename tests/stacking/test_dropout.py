"""Dropout in a stack: shares, shapes, keys and independence of its masks."""

import numpy as np
import pytest
import torch
from torch import nn

from multilayer.stacking.block import make_block
from multilayer.stacking.dropout import HashedDropout, draw_keys, hashed, key_generator
from multilayer.stacking.layers import LAYER_CONVERSIONS
from multilayer.stacking.model import StackedModel, _shared_module
from multilayer.stacking.optimizers import group_of, stack_optimizer
from multilayer.stacking.step import Step
from multilayer.training.module import RegressionModule


def masks(rate: float, n: int) -> torch.Tensor:
    """What dropout keeps of 64 rows by 32 columns, with `n` keys, as 0 and 1."""
    dropout = _shared_module([nn.Dropout(rate)], LAYER_CONVERSIONS)
    assert isinstance(dropout, HashedDropout)
    dropout.threshold, dropout.scale = dropout.threshold[0], dropout.scale[0]
    generator = torch.Generator().manual_seed(0)
    kept = []
    for _ in range(n):
        key = torch.randint(-(2**31), 2**31, (2,), generator=generator)
        dropout.key = key.int()
        kept.append(dropout(torch.ones(64, 32)))
    return torch.stack(kept)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_it_should(rate: float) -> None:
    """Over all places and keys, for each place, and for each key; what is kept is scaled up."""
    found = masks(rate, n=400)
    kept = (found != 0).double()
    spread = (rate * (1 - rate)) ** 0.5
    assert abs(kept.mean() - (1 - rate)) < 5 * spread / kept.numel() ** 0.5
    assert kept.mean(dim=0).std() == pytest.approx(spread / 400**0.5, rel=0.1)
    assert kept.mean(dim=(1, 2)).std() == pytest.approx(spread / 2048**0.5, rel=0.2)
    torch.testing.assert_close(found[found != 0].unique(), torch.tensor([1 / (1 - rate)]))


@pytest.mark.parametrize("is_one_layer", [False, True])
def test_each_use_of_dropout_drops_places_of_its_own(is_one_layer: bool) -> None:
    """Two layers in a row drop what either of them drops; so does one that is used twice."""
    first, second = nn.Dropout(0.5), nn.Dropout(0.5)
    network = nn.Sequential(nn.Linear(1, 1), first, first if is_one_layer else second)
    nn.init.zeros_(network[0].weight)
    nn.init.ones_(network[0].bias)
    module = RegressionModule(network, optimizer=torch.optim.SGD)
    model = StackedModel([module])
    optimizer = stack_optimizer(
        torch.optim.SGD, [group_of(torch.optim.SGD([torch.zeros(1)], lr=0.0))]
    )
    step = Step(model, optimizer)
    block = make_block(model, [module], [0])
    generator = torch.Generator().manual_seed(0)
    kept = []
    for _ in range(20):
        key = torch.randint(-(2**31), 2**31, (1, 2), generator=generator).int()
        rows = torch.zeros(1, 1000, 1)
        _, output = step.losses(block.weights, block.rest, rows, rows[:, :, 0], key)
        kept.append((output != 0).double().mean())
    assert torch.stack(kept).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("is_by_vmap", [False, True])
def test_each_member_has_masks_of_its_own(is_by_vmap: bool) -> None:
    """They follow from its own keys alone: equal members drop other places, as each does alone."""
    layers = [nn.Linear(1, 1), nn.Dropout(0.5), *[nn.Softmax(dim=0)] * is_by_vmap]
    module = RegressionModule(nn.Sequential(*layers), optimizer=torch.optim.SGD)
    keys = torch.stack([draw_keys(key_generator(seed), 1)[0] for seed in (1, 2, 1)])
    rows = torch.ones(3, 50, 1)

    def outputs(n: int, keys: torch.Tensor) -> torch.Tensor:
        model = StackedModel([module] * n)
        assert model.is_stacked is not is_by_vmap
        optimizer = stack_optimizer(torch.optim.SGD, [group_of(torch.optim.SGD([torch.zeros(1)]))])
        step = Step(model, optimizer)
        block = make_block(model, [module] * n, range(n))
        return step.losses(block.weights, block.rest, rows[:n], rows[:n, :, 0], keys)[1]

    found = outputs(3, keys)
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], outputs(1, keys[1:2])[0])


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.Dropout1d, (64, 32, 5)),
        (nn.Dropout2d, (64, 32, 5, 4)),
        (nn.Dropout2d, (64, 32, 5)),
        (nn.Dropout3d, (64, 32, 5, 4, 3)),
        (nn.Dropout1d, (2048, 5)),
        (nn.Dropout3d, (2048, 5, 4, 3)),
    ],
)
def test_whole_channels_are_dropped(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    """Of 64 rows with 32 channels; or of 2,048 channels without a minibatch, as torch takes it."""
    dropout = _shared_module([kind(0.25)], LAYER_CONVERSIONS)
    dropout.threshold, dropout.scale = dropout.threshold[0], dropout.scale[0]
    dropout.key = torch.tensor([123, 456], dtype=torch.int32)
    found = dropout(torch.ones(shape)).reshape(2048, -1)
    assert torch.equal(found.amin(dim=1), found.amax(dim=1))
    assert (found == 0).double().mean() == pytest.approx(0.25, abs=5 * (0.1875 / 2048) ** 0.5)


def test_dropout_of_all_drops_all() -> None:
    """A rate of 1 is torch's too."""
    dropout = _shared_module([nn.Dropout(1.0), nn.Dropout(0.5)], LAYER_CONVERSIONS)
    dropout.threshold, dropout.scale = dropout.threshold[0], dropout.scale[0]
    dropout.key = torch.tensor([123, 456], dtype=torch.int32)
    assert dropout(torch.ones(64, 32)).abs().max() == 0


def test_masks_of_neighbours_and_of_following_steps_are_independent() -> None:
    """Correlations are within five standard errors of 0."""
    kept = (masks(0.5, n=400) != 0).double().flatten(1) * 2 - 1
    for lag in (1, 2, 32, 33):
        pairs = kept[:, lag:] * kept[:, :-lag]
        assert abs(pairs.mean()) < 5 / pairs.numel() ** 0.5, lag
    following = kept[1:] * kept[:-1]
    assert abs(following.mean()) < 5 / following.numel() ** 0.5


def test_a_hash_is_spread_over_all_values() -> None:
    """A chi-squared test over 256 bins, of high bits."""
    counts = torch.histc(hashed([2**16], torch.tensor([5, 9]).int()).double(), bins=256)
    expected = 2**16 / 256
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert 255 - 5 * (2 * 255) ** 0.5 < chi_squared < 255 + 5 * (2 * 255) ** 0.5


def test_a_hash_is_the_one_that_is_documented() -> None:
    """Written out in whole numbers: a run that is resumed by a later version has the same masks."""
    key = [-1_234_567, 987_654_321]
    found = hashed([3, 50], torch.tensor(key, dtype=torch.int32)).flatten().tolist()
    whole = 2**32
    for place, value in enumerate(found):
        bits = (place * 0x9E3779B1 + key[0]) % whole
        bits = (bits ^ bits >> 16) * (key[1] | 1) % whole
        bits = (bits ^ bits >> 15) * 0x846CA68B % whole
        assert value % whole == bits


def test_keys_are_drawn_one_after_the_other() -> None:
    """However many at a time; over all of int32; from the seed alone."""
    one, other = key_generator(3), key_generator(3)
    drawn = draw_keys(one, 1000)
    assert torch.equal(drawn, torch.cat([draw_keys(other, 1), draw_keys(other, 999)]))
    assert not torch.equal(drawn, draw_keys(key_generator(4), 1000))
    assert drawn.dtype == torch.int32
    assert drawn.shape == (1000, 2)
    assert drawn.min() < -0.99 * 2**31
    assert drawn.max() > 0.99 * 2**31
    assert (
        drawn[0].tolist()
        == np.random.default_rng((3, 1)).integers(-(2**31), 2**31, size=2, dtype=np.int32).tolist()
    )


def test_dropout_without_a_rate_is_no_layer_at_all_and_none_drops_in_evaluation() -> None:
    """One member's rate is enough for a layer; the others then keep all."""
    assert isinstance(
        _shared_module([nn.Dropout(0.0), nn.Dropout(0.0)], LAYER_CONVERSIONS), nn.Identity
    )
    dropout = _shared_module([nn.Dropout(0.0), nn.Dropout(0.5)], LAYER_CONVERSIONS)
    assert isinstance(dropout, HashedDropout)
    assert dropout.key.shape == (2, 2)
    rates = dropout.threshold, dropout.scale
    dropout.key = torch.tensor([1, 2], dtype=torch.int32)
    for k, n_kept in enumerate([1.0, 0.5]):
        dropout.threshold, dropout.scale = rates[0][k], rates[1][k]
        found = dropout.train()(torch.ones(100, 100))
        assert (found != 0).double().mean() == pytest.approx(n_kept, abs=0.03)
        assert torch.equal(dropout.eval()(torch.ones(5)), torch.ones(5))


def test_a_layer_that_is_used_three_times_has_three_masks() -> None:
    """In one step; the next one begins anew with a key of its own."""
    dropout = _shared_module([nn.Dropout(0.5)], LAYER_CONVERSIONS)
    dropout.threshold, dropout.scale = dropout.threshold[0], dropout.scale[0]
    dropout.key = torch.tensor([1, 2], dtype=torch.int32)
    first, second, third = (dropout(torch.ones(1000)) for _ in range(3))
    for one, other in ((first, second), (second, third), (first, third)):
        assert ((one != 0) == (other != 0)).double().mean() == pytest.approx(0.5, abs=0.08)


def test_members_that_go_through_at_once_drop_what_each_would_by_itself() -> None:
    """With rates and keys of their own."""
    rates, keys = [0.0, 0.3, 0.9], torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.int32)
    dropout = _shared_module([nn.Dropout(rate) for rate in rates], LAYER_CONVERSIONS)
    threshold, scale, x = dropout.threshold, dropout.scale, torch.rand(3, 32, 50)
    dropout.key = keys
    together = dropout(x)
    for k, rate in enumerate(rates):
        assert (together[k] == 0).double().mean() == pytest.approx(rate, abs=0.04)
        dropout.threshold, dropout.scale, dropout.key = threshold[k], scale[k], keys[k]
        dropout.n_calls = 0
        assert torch.equal(dropout(x[k]), together[k])
