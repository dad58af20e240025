"""The outputs that are kept of an epoch."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from multilayer.training.epoch_outputs import EpochOutputs

SIZES = [3, 5, 2, 7, 4, 1]


def minibatches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A loss, outputs `(B, 2)` and targets `(B,)` that are the numbers of the rows."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(sum(SIZES)).split(SIZES)
    for own in rows:
        outputs = torch.stack([own, -own], dim=1).float()
        yield torch.rand((), generator=generator), outputs, own


def filled() -> EpochOutputs:
    """All of them."""
    epoch = EpochOutputs()
    for parts in minibatches():
        epoch.add(*parts)
    return epoch


def check(epoch: EpochOutputs) -> None:
    """Every row is there, in order, and the loss is the mean over the rows."""
    rows = torch.arange(sum(SIZES))
    assert torch.equal(torch.cat(epoch.targets), rows)
    assert torch.equal(torch.cat(epoch.outputs), torch.stack([rows, -rows], dim=1).float())
    losses = torch.stack([loss for loss, _, _ in minibatches()])
    expected = (losses * torch.tensor(SIZES)).sum() / sum(SIZES)
    torch.testing.assert_close(epoch.mean_loss(), expected)


@pytest.mark.parametrize(
    ("name", "value", "n_packs"),
    [
        ("_MINIBATCHES_A_PACK", 3, 2),
        ("_BYTES_A_PACK", 16 * 9, 2),  # a row has 8 bytes of output and 8 of target: 10 and 11 rows
        ("_BYTES_A_PACK", 16 * 10, 1),  # more than that: 17 rows
    ],
)
def test_many_or_large_minibatches_are_put_together(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int, n_packs: int
) -> None:
    """None is lost, and the mean of means has the weights of all rows."""
    monkeypatch.setattr(f"multilayer.training.epoch_outputs.{name}", value)
    epoch = filled()
    assert epoch.n_packs == n_packs
    check(epoch)


def test_small_epochs_stay_as_they_came() -> None:
    """Nothing is copied."""
    epoch = filled()
    assert [len(target) for target in epoch.targets] == SIZES
    assert epoch.n_packs == 0
    check(epoch)


def test_an_epoch_carries_no_gradients() -> None:
    """Or the graphs of all its minibatches would stay in memory."""
    weight = torch.ones(2, requires_grad=True)
    epoch = EpochOutputs()
    epoch.add((weight * 2).sum(), weight[None] * 3, torch.zeros(1))
    assert not epoch.mean_loss().requires_grad
    assert not epoch.outputs[0].requires_grad


@pytest.mark.parametrize(
    ("kept_bytes", "n_rows"), [(None, 48), (1, 8), (128, 8), (256, 16), (257, 24), (10**6, 48)]
)
def test_of_a_long_epoch_as_many_packs_are_kept_as_have_the_bytes(
    monkeypatch: pytest.MonkeyPatch, kept_bytes: int | None, n_rows: int
) -> None:
    """The last ones, of 8 rows and 128 bytes each; the loss is that of all rows."""
    monkeypatch.setattr("multilayer.training.epoch_outputs._BYTES_A_PACK", 100)
    epoch = EpochOutputs(kept_bytes)
    for number in range(12):
        rows = torch.arange(4 * number, 4 * number + 4)
        epoch.add(torch.tensor(float(number)), torch.stack([rows, -rows], dim=1).float(), rows)
    expected = torch.arange(48)[-n_rows:]
    assert torch.equal(torch.cat(epoch.targets), expected)
    assert torch.equal(torch.cat(epoch.outputs), torch.stack([expected, -expected], dim=1).float())
    assert epoch.n_packs == n_rows // 8
    assert epoch.mean_loss().item() == pytest.approx(5.5)


def test_the_loss_is_taken_where_the_network_is() -> None:
    """A device that computes nothing stands for a GPU."""
    epoch = EpochOutputs()
    for _ in range(2):
        epoch.add(*(torch.zeros(shape, device="meta") for shape in ((), (3, 2), (3,))))
    assert epoch.mean_loss().device.type == "meta"


@pytest.mark.parametrize("pack", [2, 3, 100])
@pytest.mark.parametrize("n", range(1, len(SIZES) + 1))
def test_an_epoch_goes_on_from_its_state(
    n: int, pack: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bits, though a minibatch more had been added, which may have been packed already."""
    monkeypatch.setattr("multilayer.training.epoch_outputs._MINIBATCHES_A_PACK", pack)
    every = list(minibatches())
    whole, begun, other = filled(), EpochOutputs(), EpochOutputs()
    for parts in every[:n]:
        begun.add(*parts)
    state = begun.state_dict(n)
    assert begun.state_dict(n + 1) == {}
    if n < len(every):
        begun.add(*every[n])
        later = begun.state_dict(n)
        is_packed = len(begun.outputs) == begun.n_packs
        assert (later == {}) == is_packed
        if later:
            torch.testing.assert_close(later, state, rtol=0, atol=0)
    other.load_state_dict(state, torch.device("cpu"))
    for parts in every[n:]:
        other.add(*parts)
    check(other)
    assert torch.equal(other.mean_loss(), whole.mean_loss())
    assert (other.n_minibatches, other.n_packs) == (whole.n_minibatches, whole.n_packs)


def test_an_epoch_that_has_not_begun_has_no_state() -> None:
    """Nor one whose only minibatch was not trained on."""
    epoch = EpochOutputs()
    assert epoch.state_dict(0) == {}
    epoch.add(*next(minibatches()))
    assert epoch.state_dict(0) == {}
