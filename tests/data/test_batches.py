"""Whole tables, the order of the rows in each epoch, and the minibatches cut from it."""

import math
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.data.batches import EpochShuffle, Minibatches, prefetch, preprocess_table
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Columns, Table

SIZES = [1, 2, 7, 64]


def order_of(n_rows, seed, epoch, **ranks):
    """The rows of an epoch as a list."""
    shuffle = EpochShuffle(n_rows, seed, **ranks)
    shuffle.set_epoch(epoch)
    return shuffle.order().tolist()


def table(n_rows, n_features=3):
    """Features that hold their row number in every column, and a target that is it."""
    rows = torch.arange(n_rows)
    return rows[:, None].expand(n_rows, n_features).float(), rows


@pytest.mark.parametrize("epoch", [0, 1, 50])
@pytest.mark.parametrize("n_rows", SIZES)
def test_order_is_a_permutation(n_rows, epoch):
    """Every row once, in every epoch."""
    assert sorted(order_of(n_rows, 0, epoch)) == list(range(n_rows))


def test_order_is_given_by_seed_and_epoch_alone():
    """Neither the global generator nor the epochs before it matter: a resumed run goes on alike."""
    straight = [order_of(50, 3, epoch) for epoch in range(5)]
    shuffle = EpochShuffle(50, 3)
    torch.manual_seed(123)
    for epoch in (4, 2, 2, 0):
        torch.rand(7)
        shuffle.set_epoch(epoch)
        assert shuffle.order().tolist() == straight[epoch]
        assert shuffle.order().tolist() == straight[epoch]


def test_order_leaves_the_global_generator_alone():
    """Initial weights and dropout do not depend on how often the rows were shuffled."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    order_of(50, 0, 0)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_orders_of_epochs_and_seeds_differ():
    """No two of 40 seeds and 10 epochs share an order: 30 rows have 10^32."""
    orders = {tuple(order_of(30, seed, epoch)) for seed in range(40) for epoch in range(10)}
    assert len(orders) == 40 * 10


def test_epoch_is_not_a_shifted_seed():
    """Seed 0 in epoch 1 is not seed 1 in epoch 0: runs of nearby seeds stay independent."""
    assert order_of(30, 0, 1) != order_of(30, 1, 0)


def test_every_row_comes_first_about_equally_often():
    """Over 2,000 epochs each of 5 rows is first within five standard errors of 400."""
    first = torch.tensor([order_of(5, 0, epoch)[0] for epoch in range(2000)]).bincount(minlength=5)
    assert ((first - 400).abs() < 5 * math.sqrt(2000 * 0.2 * 0.8)).all()


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("n_rows", [1, 2, 5, 12, 64])
def test_ranks_share_the_rows_equally_and_cover_all(n_rows, n_ranks):
    """Each process takes as many rows as the others, and no row comes twice but to fill up."""
    n_each = math.ceil(n_rows / n_ranks)
    shares = [order_of(n_rows, 0, 2, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    assert [len(share) for share in shares] == [n_each] * n_ranks
    assert len(EpochShuffle(n_rows, 0, n_ranks=n_ranks)) == n_each
    rows = [row for share in shares for row in share]
    counts = torch.tensor(rows).bincount(minlength=n_rows)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


def test_ranks_together_see_the_order_of_a_single_process():
    """Rank r of R takes rows r, r + R, ... of the order that one process would have."""
    shares = [order_of(12, 5, 3, rank=rank, n_ranks=4) for rank in range(4)]
    dealt = [row for rows in zip(*shares, strict=True) for row in rows]
    assert dealt == order_of(12, 5, 3)


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize(
    ("n_rows", "batch_size", "sizes"),
    [
        (5, 1, [1, 1, 1, 1, 1]),
        (6, 2, [2, 2, 2]),
        (7, 3, [3, 3, 1]),
        (5, 64, [5]),
        (5, 5, [5]),
        (5, "full", [5]),
        (1, "full", [1]),
    ],
)
def test_minibatches_cover_each_row_once(n_rows, batch_size, sizes, shuffled):
    """All but the last hold `batch_size` rows, features beside their own target."""
    features, target = table(n_rows)
    sampler = EpochShuffle(n_rows, 0) if shuffled else None
    minibatches = Minibatches(features, target, batch_size=batch_size, sampler=sampler)
    pairs = list(minibatches)
    assert [len(rows) for _, rows in pairs] == sizes
    assert len(minibatches) == len(sizes)
    for some_features, rows in pairs:
        torch.testing.assert_close(some_features, features[rows])
    assert sorted(torch.cat([rows for _, rows in pairs]).tolist()) == list(range(n_rows))


def test_minibatches_without_a_sampler_keep_the_rows_in_order():
    """As evaluation needs it, every time alike."""
    minibatches = Minibatches(*table(7), batch_size=3)
    for _ in range(2):
        assert torch.cat([rows for _, rows in minibatches]).tolist() == list(range(7))


def test_minibatches_follow_the_order_of_the_epoch():
    """Iterated over again after `set_epoch`, they come in that epoch's order."""
    sampler = EpochShuffle(11, 4)
    minibatches = Minibatches(*table(11), batch_size=4, sampler=sampler)
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        rows = torch.cat([rows for _, rows in minibatches]).tolist()
        assert rows == order_of(11, 4, epoch)


@pytest.mark.parametrize(("batch_size", "n_batches"), [(1, 4), (3, 2), ("full", 1)])
def test_minibatches_of_a_rank_hold_its_share(batch_size, n_batches):
    """With a sampler for one of 3 processes, "full" means all rows of that process."""
    sampler = EpochShuffle(10, 0, rank=1, n_ranks=3)
    minibatches = Minibatches(*table(10), batch_size=batch_size, sampler=sampler)
    rows = torch.cat([rows for _, rows in minibatches]).tolist()
    assert rows == order_of(10, 0, 0, rank=1, n_ranks=3)
    assert len(minibatches) == len(list(minibatches)) == n_batches


def test_mean_gradient_of_equal_minibatches_is_the_full_gradient():
    """The lecture's estimate, 1/B sum_k dJ_k/dW, averages to dJ/dW over an epoch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(12, generator=generator, dtype=torch.float64)
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def gradients(batch_size):
        minibatches = Minibatches(x, y, batch_size=batch_size, sampler=EpochShuffle(12, 0))
        losses = [(some_x @ w - some_y).square().mean() for some_x, some_y in minibatches]
        return torch.stack([torch.autograd.grad(loss, w)[0] for loss in losses])

    (full,) = gradients("full")
    for batch_size in (1, 4):
        torch.testing.assert_close(gradients(batch_size).mean(0), full)


def test_an_epoch_that_is_cut_short_is_followed_by_a_whole_one() -> None:
    """With `limit_train_batches` the next epoch begins at its first minibatch."""
    rows = torch.arange(10.0).reshape(10, 1)
    minibatches = Minibatches(
        rows, torch.arange(10), batch_size=2, sampler=EpochShuffle(10, seed=0)
    )
    for epoch in range(3):
        assert minibatches.sampler is not None
        minibatches.sampler.set_epoch(epoch)
        expected = minibatches.sampler.order()[:2]
        _, target = next(iter(minibatches))
        assert torch.equal(target, expected)


@pytest.mark.parametrize("n_given", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 24, 26, 40, 1000, "full"])
def test_an_epoch_in_memory_cannot_go_on_with_another_batch_size(n_given, batch_size):
    """Smaller or larger, and even where the new epoch has fewer minibatches than were given."""
    features, target = table(100)
    interrupted = Minibatches(features, target, batch_size=25, sampler=EpochShuffle(100, 0))
    for _ in zip(range(n_given), interrupted, strict=False):
        pass
    resumed = Minibatches(features, target, batch_size=batch_size, sampler=EpochShuffle(100, 0))
    resumed.load_state_dict(interrupted.state_dict())
    with pytest.raises(UserError, match=r"can only go on with data\.batch_size=25"):
        next(iter(resumed))


def lists(pairs):
    """The targets of minibatches, as numbers."""
    return [target.tolist() for _, target in pairs]


def rows_of(pairs):
    """The same in a row."""
    return torch.cat([target for _, target in pairs]).tolist()


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("n_given", [0, 1, 3])
def test_an_epoch_in_memory_goes_on_where_it_was_interrupted(n_given, shuffled):
    """With the minibatches that were still to come; the epoch after it is whole again."""

    def minibatches(epoch):
        sampler = EpochShuffle(10, 4) if shuffled else None
        made = Minibatches(*table(10), batch_size=3, sampler=sampler)
        if sampler is not None:
            sampler.set_epoch(epoch)
        return made

    interrupted = minibatches(epoch=5 if shuffled else 0)
    for _ in zip(range(n_given), interrupted, strict=False):
        pass
    resumed = minibatches(epoch=5 if shuffled else 0)
    resumed.load_state_dict(interrupted.state_dict())
    assert lists(resumed) == lists(minibatches(epoch=5))[n_given:]
    if shuffled:
        resumed.sampler.set_epoch(6)
    assert lists(resumed) == lists(minibatches(epoch=6))


def test_the_state_says_how_far_which_epoch_is_and_what_cuts_it():
    """All that another process needs to go on."""
    minibatches = Minibatches(*table(10), batch_size=3, sampler=EpochShuffle(10, 4))
    minibatches.sampler.set_epoch(5)
    next(iter(minibatches))
    assert minibatches.state_dict() == {
        "n_given": 1,
        "epoch": 5,
        "batch_size": 3,
        "shuffle_seed": 4,
    }
    unshuffled = Minibatches(*table(10), batch_size=3)
    assert unshuffled.state_dict() == {"n_given": 0, "epoch": 0, "batch_size": 3}


def test_an_epoch_is_new_where_another_one_was_interrupted():
    """A run that ended with epoch 1 goes on with the whole of epoch 2."""
    interrupted = Minibatches(*table(10), batch_size=3, sampler=EpochShuffle(10, 4))
    interrupted.sampler.set_epoch(1)
    for _ in zip(range(2), interrupted, strict=False):
        pass
    resumed = Minibatches(*table(10), batch_size=3, sampler=EpochShuffle(10, 4))
    resumed.sampler.set_epoch(2)
    resumed.load_state_dict(interrupted.state_dict())
    assert rows_of(resumed) == order_of(10, 4, 2)


def test_an_epoch_cannot_go_on_in_another_order():
    """The rows that were given are others by another seed."""
    interrupted = Minibatches(*table(10), batch_size=3, sampler=EpochShuffle(10, 4))
    next(iter(interrupted))
    resumed = Minibatches(*table(10), batch_size=3, sampler=EpochShuffle(10, 5))
    resumed.load_state_dict(interrupted.state_dict())
    message = r"data\.shuffle_seed=5: .* middle of epoch 1; .* with data\.shuffle_seed=4"
    with pytest.raises(UserError, match=message):
        next(iter(resumed))


@pytest.mark.parametrize("n_given", [0, 4])
def test_another_batch_size_is_free_to_choose_between_two_epochs(n_given):
    """Where an epoch has not begun, or was given to its end, no row is given twice or never."""
    interrupted = Minibatches(*table(10), batch_size=3, sampler=EpochShuffle(10, 4))
    for _ in zip(range(n_given), interrupted, strict=False):
        pass
    resumed = Minibatches(*table(10), batch_size=5, sampler=EpochShuffle(10, 4))
    resumed.load_state_dict(interrupted.state_dict())
    list(resumed)
    resumed.sampler.set_epoch(1)
    assert rows_of(resumed) == order_of(10, 4, 1)


@pytest.mark.parametrize("shuffled", [True, False])
def test_only_the_rows_that_are_meant_are_given(shuffled):
    """A split is some rows of a table; an order is of these."""
    rows = torch.tensor([8, 2, 5, 9, 0])
    sampler = EpochShuffle(5, 7) if shuffled else None
    minibatches = Minibatches(*table(10), batch_size=2, rows=rows, sampler=sampler)
    expected = rows[order_of(5, 7, 0)] if shuffled else rows
    assert rows_of(minibatches) == expected.tolist()
    assert (minibatches.n_rows, len(minibatches)) == (5, 3)


def test_minibatches_are_preprocessed_and_moved():
    """The target stays as it is."""
    features, target = table(5)
    preprocessing = Preprocessing(3).fit_(features)
    minibatches = Minibatches(
        features, target, batch_size=2, preprocessing=preprocessing, is_raw=True
    )
    found = torch.cat([some for some, _ in minibatches])
    torch.testing.assert_close(found, preprocessing(features))
    assert rows_of(minibatches) == target.tolist()
    moved = Minibatches(features, target, batch_size=2, device=torch.device("meta"))
    assert {part.device.type for pair in moved for part in pair} == {"meta"}
    assert minibatches.device == features.device


def test_the_next_item_is_fetched_while_one_is_used() -> None:
    """One, and no more."""
    fetched = {number: Event() for number in range(4)}

    def items() -> Iterator[int]:
        for number, event in fetched.items():
            event.set()
            yield number

    found = prefetch(items())
    assert next(found) == 0
    assert fetched[1].wait(timeout=60)
    assert not fetched[2].is_set()
    assert list(found) == [1, 2, 3]


def test_an_error_comes_where_the_item_would_have_been() -> None:
    """After all items before it."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no third")

    found = prefetch(items())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(found)


def table_of(features: Tensor, target: Tensor, **options: Any) -> Table:
    """A table of columns `a`, `b` and so on."""
    names = [*"abcdef"[: features.shape[1]]]
    return Table(features, target, Columns(names, "y", "regression", []), **options)


@pytest.mark.parametrize("owns_memory", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_gaps", [True, False])
def test_a_table_is_preprocessed_where_it_lies(owns_memory, dtype, has_gaps) -> None:
    """If it is ours, and its features take no more room: a large table is in memory once."""
    x = torch.randn(20, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    if has_gaps:
        x[3, 1] = torch.nan
    preprocessing = Preprocessing(3).fit_(x)
    expected, before = preprocessing(x), x.clone()
    features, target = preprocess_table(
        preprocessing, table_of(x, torch.arange(20.0), owns_memory=owns_memory)
    )
    assert torch.equal(features, expected)
    assert torch.equal(target, torch.arange(20.0))
    lies_there = owns_memory and dtype == torch.float32 and not has_gaps
    assert (features.data_ptr() == x.data_ptr()) is lies_there
    assert lies_there or torch.equal(x.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize(("value", "what"), [(1e300, "1e\\+300"), (float("inf"), "beyond float32")])
def test_a_number_too_far_away_is_named_with_its_column_and_row(value, what) -> None:
    """By the raw column, though a category comes before it, and by the row of the whole table."""
    x = torch.tensor([[0.0, 1.0, 5.0]]).repeat(100_000, 1).double()
    x[::2] += torch.tensor([1.0, 1.0, 1.0])
    preprocessing = Preprocessing(3, n_labels={0: 2}).fit_(x)
    x[90_000, 2] = value
    message = f"'c' is {what} in row 90001: too far .* mean is 5.5 and standard deviation 0.5$"
    with pytest.raises(UserError, match=message):
        preprocess_table(preprocessing, table_of(x, torch.zeros(100_000)))


def test_targets_too_far_away_are_named_with_their_row() -> None:
    """The first whose score is beyond float32, or the farthest where all are rounded to a few."""
    train = torch.tensor([1.0, 3.0])
    preprocessing = Preprocessing(1).fit_(torch.zeros(2, 1), train)
    x = torch.zeros(4, 1)
    for far, row in [
        (torch.tensor([2.0, 1e300, 2.0, -1e301], dtype=torch.float64), 2),
        (1e12 + torch.tensor([0.0, 7.0, 9.0, 1.0], dtype=torch.float64), 3),
    ]:
        with pytest.raises(UserError, match=f"'y' is 1e\\+.* in row {row}: .* mean is 2 and .* 1;"):
            preprocess_table(preprocessing, table_of(x, far))
    for near in (
        torch.tensor([1.0, 2.0, 1e9, 3.0]),
        torch.tensor([5e3, 5e3, 5e3, 5e3]),
        torch.empty(0),
    ):
        preprocess_table(preprocessing, table_of(x[: len(near)], near))
    wide = Preprocessing(1).fit_(torch.zeros(2, 1), 1e6 * train)  # whose scores are small
    preprocess_table(wide, table_of(x, torch.tensor([1e6, 2e6, 4e6, 3e6])))


def test_a_mean_that_float32_moves_is_kept_in_float64() -> None:
    """By more than one part in 10,000 of the deviation; the columns may be of float32."""
    near = torch.tensor([[1e4], [1e4 + 100], [1e4 + 333]])
    far = torch.tensor([[1e7], [1e7 + 1], [1e7 + 3]])
    constant = torch.full((3, 1), 16_777_217.0, dtype=torch.float64)
    assert Preprocessing(1).fit_(near).mean.dtype == torch.float32
    assert Preprocessing(1).fit_(far).mean.dtype == torch.float64
    assert Preprocessing(1).fit_(constant).mean.dtype == torch.float64
    found = Preprocessing(1).fit_(far)(far).double()
    torch.testing.assert_close(found[:, 0].mean(), torch.tensor(0.0).double(), rtol=0, atol=1e-6)
