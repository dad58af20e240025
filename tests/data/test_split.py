"""How rows are divided into training, validation and test rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)

from multilayer.core.errors import UserError
from multilayer.data import BuiltinData, DataModule
from multilayer.data.split import SplitRule, _split_off, split_rows
from multilayer.data.table import Columns, Table

SHARES = {"validation_fraction": 0.2, "test_fraction": 0.1}


def table_of(target, task="multiclass"):
    """A table with the given target; its one feature is the row number."""
    target = torch.as_tensor(target)
    classes = [] if task == "regression" else [str(label) for label in target.unique().tolist()]
    features = torch.arange(float(len(target)))[:, None]
    return Table(features, target, Columns(["row"], "y", task, classes))


def parts(rows):
    """The three splits in a row."""
    return [rows["train"], rows["validation"], rows["test"]]


CLASSES = [0] * 100 + [1] * 300 + [2] * 600


@pytest.mark.parametrize("seed", [0, 1, 2**31])
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_splits_are_disjoint_and_complete(task, seed):
    """Every row lies in exactly one split."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.randn(1000)
    rows = split_rows(table_of(target, task), SplitRule(seed, **SHARES))
    assert torch.cat(parts(rows)).sort().values.tolist() == list(range(1000))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_splits_have_the_shares_asked_for(task):
    """Both fractions are of all rows."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.randn(1000)
    rows = split_rows(table_of(target, task), SplitRule(0, **SHARES))
    assert [len(part) for part in parts(rows)] == [700, 200, 100]


@pytest.mark.parametrize("n_rows", [20, 100, 1000, 4000])
def test_equal_fractions_give_equal_splits(n_rows):
    """The defaults, 0.15 and 0.15, are as many validation as test rows."""
    table = table_of(torch.randn(n_rows), "regression")
    rows = split_rows(table, SplitRule(0))
    n_each = n_rows * 15 // 100
    assert [len(part) for part in parts(rows)] == [n_rows - 2 * n_each, n_each, n_each]


@pytest.mark.parametrize(
    ("fraction", "n_rows", "n_part"),
    [
        (0.07, 100, 7),
        (0.29, 100, 29),
        (0.1, 100, 10),
        (0.071, 100, 8),
        (0.15, 10, 2),
        (1e-6, 50, 1),
    ],
)
def test_a_fraction_is_rounded_up_as_it_was_written(fraction, n_rows, n_part):
    """0.07 * 100 is a little more than 7 in floating point: 7 rows all the same."""
    table = table_of(torch.randn(n_rows), "regression")
    for name in ("validation", "test"):
        rows = split_rows(table, SplitRule(0, **{**SHARES, f"{name}_fraction": fraction}))
        assert len(rows[name]) == n_part


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_splits_are_scikit_learn_s(task):
    """The test rows are divided off all, then the validation rows off the rest, by one seed."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.randn(1000)
    strata = target.numpy() if task == "multiclass" else None
    rest, test = train_test_split(range(1000), test_size=100, random_state=3, stratify=strata)
    strata = None if strata is None else strata[rest]
    train, validation = train_test_split(rest, test_size=200, random_state=3, stratify=strata)
    rows = split_rows(table_of(target, task), SplitRule(3, **SHARES))
    assert [part.tolist() for part in parts(rows)] == [train, validation, test]


@pytest.mark.parametrize("n_classes", [1, 2, 3, 5])
def test_parts_of_any_size_are_scikit_learn_s(n_classes):
    """With and without classes; where classes have equal remainders, one is drawn."""
    generator = np.random.default_rng(n_classes)
    n_compared = 0
    for _ in range(100):
        n_rows, seed = int(generator.integers(12, 60)), int(generator.integers(2**32))
        strata = generator.integers(n_classes, size=n_rows)
        n_part = int(generator.integers(n_classes, n_rows - n_classes + 1))
        if min(np.bincount(strata, minlength=n_classes)) < 2:
            continue
        for stratify in (None, strata):
            expected = train_test_split(
                np.arange(n_rows), test_size=n_part, random_state=seed, stratify=stratify
            )
            found = _split_off(n_rows, stratify, n_part, seed)
            assert all(map(np.array_equal, found, expected)), (n_rows, n_part, seed)
            n_compared += 1
    assert n_compared > 150


def test_a_class_of_which_one_row_is_left_is_refused():
    """It cannot be in two splits; the message names the shares."""
    table = table_of([0] * 97 + [1] * 3)
    with pytest.raises(UserError, match=r"test rows \(0.6\): a class has only one row left"):
        split_rows(table, SplitRule(0, validation_fraction=0.2, test_fraction=0.6))


@pytest.mark.parametrize("fold", [0, 3])
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_folds_are_scikit_learn_s(task, fold):
    """Of shuffled rows; the test rows of fold `fold`."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.randn(1000)
    folds = (StratifiedKFold if task == "multiclass" else KFold)(4, shuffle=True, random_state=3)
    _, test = list(folds.split(target, target))[fold]
    rows = split_rows(table_of(target, task), SplitRule(3, **SHARES, folds=4, fold=fold))
    assert rows["test"].sort().values.tolist() == test.tolist()


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_groups_are_divided_by_scikit_learn_s_first_fold(task):
    """Of as many folds as bring one near to the fraction: ten for a tenth."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.arange(1000.0)
    groups = torch.arange(1000) % 90
    kind = StratifiedGroupKFold if task == "multiclass" else GroupKFold
    folds = kind(10, shuffle=True, random_state=3).split(target, target, groups)
    rows = split_rows(replace(table_of(target, task), groups=groups), SplitRule(3, **SHARES))
    assert rows["test"].sort().values.tolist() == next(iter(folds))[1].tolist()


@pytest.mark.parametrize(("grouped", "folds"), [(False, 5), (True, None), (True, 5)])
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_folds_and_groups_are_divided_alike_by_one_seed_and_come_in_random_order(
    task, grouped, folds
):
    """Another seed divides otherwise."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.arange(1000.0)
    table = replace(table_of(target, task), groups=torch.arange(1000) % 90 if grouped else None)
    first, again, other = (
        split_rows(table, SplitRule(seed, **SHARES, folds=folds)) for seed in (1, 1, 2)
    )
    for one, same, another in zip(parts(first), parts(again), parts(other), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one.sort().values, another.sort().values)
        assert (one.diff() < 0).float().mean() > 0.3


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_folds_of_groups_hold_every_group_once(task):
    """As test rows; the others of each fold are training and validation rows."""
    groups = torch.arange(1000) % 90
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.arange(1000.0)
    table = replace(table_of(target, task), groups=groups)
    tested = [
        groups[split_rows(table, SplitRule(0, **SHARES, folds=5, fold=fold))["test"]].unique()
        for fold in range(5)
    ]
    assert torch.cat(tested).sort().values.tolist() == list(range(90))


def test_groups_take_at_least_half_a_table_of_two():
    """A fraction that is nearer to all than to half is still one fold of two."""
    table = replace(table_of(torch.randn(9), "regression"), groups=torch.arange(9))
    rows = split_rows(table, SplitRule(0, validation_fraction=0.1, test_fraction=0.8))
    assert len(rows["test"]) in (4, 5)


def test_classes_keep_their_shares():
    """Each split holds a tenth, three tenths and six tenths of its rows, as the table does."""
    rows = split_rows(table_of(CLASSES), SplitRule(0, **SHARES))
    counts = [torch.tensor(CLASSES)[part].bincount().tolist() for part in parts(rows)]
    assert counts == [[70, 210, 420], [20, 60, 120], [10, 30, 60]]


def test_two_classes_keep_their_shares():
    """So in a binary task."""
    target = [0] * 900 + [1] * 100
    rows = split_rows(table_of(target, "binary"), SplitRule(0, **SHARES))
    assert [int(torch.tensor(target)[part].sum()) for part in parts(rows)] == [70, 20, 10]


def test_same_seed_gives_the_same_split():
    """Whatever the global generators did before."""
    first = split_rows(table_of(CLASSES), SplitRule(3, **SHARES))
    torch.manual_seed(99)
    torch.rand(5)
    again = split_rows(table_of(CLASSES), SplitRule(3, **SHARES))
    for one, other in zip(parts(first), parts(again), strict=True):
        assert torch.equal(one, other)


def test_another_seed_gives_another_split():
    """A split by another seed shares about a tenth of its test rows, not all."""
    first = split_rows(table_of(CLASSES), SplitRule(0, **SHARES))
    other = split_rows(table_of(CLASSES), SplitRule(1, **SHARES))
    assert not torch.equal(first["test"], other["test"])
    assert not torch.equal(first["validation"], other["validation"])


def digits_split(**seeds):
    """The features of each split of the digits."""
    data = BuiltinData(name="digits", **seeds)
    data.setup()
    return {split: data.split_tensors(split)[0] for split in data.rows}


def test_data_set_is_split_by_split_seed_alone():
    """The seeds of the weights and the shuffling leave it; `split_seed` changes it."""
    torch.manual_seed(0)
    first = digits_split(split_seed=5, shuffle_seed=0)
    torch.manual_seed(1)
    same = digits_split(split_seed=5, shuffle_seed=1)
    other = digits_split(split_seed=6, shuffle_seed=0)
    for split, features in first.items():
        assert torch.equal(features, same[split])
        assert not torch.equal(features, other[split])


def test_as_many_rows_of_a_class_as_there_are_splits_are_enough():
    """Splits that are given need none of them; the folds need as many as there are."""
    target = [0] * 50 + [1] * 50
    even = {"validation_fraction": 0.3, "test_fraction": 0.3}
    split_rows(table_of(target + [2] * 3), SplitRule(0, **even))
    given = {"test": torch.arange(90, 100)}
    split_rows(replace(table_of(target + [2] * 2), preset_splits=given), SplitRule(0, **even))
    with pytest.raises(UserError, match="'2' of column 'y' has 1 row, fewer than the 2 splits"):
        split_rows(replace(table_of([*target, 2]), preset_splits=given), SplitRule(0, **even))
    split_rows(table_of(target + [2] * 5), SplitRule(0, folds=5))


def test_too_few_rows_of_a_class_are_reported():
    """The message names the class, and how many rows it has."""
    for n, words in ((1, "1 row"), (2, "2 rows")):
        message = f"class '2' of column 'y' has {words}, fewer than the 3 splits"
        with pytest.raises(UserError, match=message):
            split_rows(table_of([0] * 50 + [1] * 50 + [2] * n), SplitRule(0, **SHARES))


def test_more_classes_than_test_rows_are_reported():
    """Ten classes do not fit into three test rows."""
    message = "cannot divide 30 rows .*: a split would have 3 rows, fewer than the 10 classes"
    with pytest.raises(UserError, match=message):
        split_rows(table_of(list(range(10)) * 3), SplitRule(0, **SHARES))


@pytest.mark.parametrize(("n_rows", "said"), [(1, "1 row"), (2, "2 rows")])
def test_too_few_rows_are_reported(n_rows, said):
    """Three splits need three rows."""
    with pytest.raises(UserError, match=rf"cannot divide {said} .* would have 0 rows"):
        split_rows(table_of(torch.randn(n_rows), "regression"), SplitRule(0, **SHARES))


@pytest.mark.parametrize(
    "fractions",
    [
        {"validation_fraction": 0.0},
        {"test_fraction": 0.0},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        {"test_fraction": -0.1},
        {"validation_fraction": float("nan")},
    ],
)
def test_wrong_fractions_are_named(fractions):
    """Each split needs a share, and the training rows too."""
    with pytest.raises(ValueError, match="validation_fraction and test_fraction must be"):
        BuiltinData(name="iris", **fractions)


def test_train_rows_keeps_so_many_training_rows():
    """Validation and test rows stay the same."""
    whole, part = BuiltinData(name="wine"), BuiltinData(name="wine", max_train_rows=20)
    whole.setup()
    part.setup()
    assert len(part.rows["train"]) == 20
    for split in ("validation", "test"):
        assert torch.equal(part.rows[split], whole.rows[split])


def test_train_rows_keeps_every_class_of_a_sorted_table():
    """The iris come sorted by class; 30 rows drawn from them hold all three."""
    data = BuiltinData(name="iris", max_train_rows=30)
    data.setup()
    _, target = data.split_tensors("train")
    assert len(target.unique()) == 3


@pytest.mark.parametrize("max_train_rows", [0, -5])
def test_wrong_number_of_training_rows_is_named(max_train_rows):
    """A negative number would leave out the last rows in silence."""
    with pytest.raises(ValueError, match=f"max_train_rows .* got {max_train_rows}"):
        BuiltinData(name="iris", max_train_rows=max_train_rows)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_wrong_batch_size_is_named(batch_size):
    """At least one row a minibatch, or full."""
    with pytest.raises(ValueError, match=f"batch_size .* got {batch_size}"):
        BuiltinData(name="iris", batch_size=batch_size)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_folds_hold_every_row_once(task):
    """As test rows; classes keep their shares, and the rest is training and validation rows."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.randn(1000)
    tested = []
    for fold in range(5):
        rows = split_rows(table_of(target, task), SplitRule(0, **SHARES, folds=5, fold=fold))
        assert torch.cat(parts(rows)).sort().values.tolist() == list(range(1000))
        assert [len(part) for part in parts(rows)] == [600, 200, 200]
        if task == "multiclass":
            assert target[rows["test"]].bincount().tolist() == [20, 60, 120]
        tested.append(rows["test"])
    assert torch.cat(tested).sort().values.tolist() == list(range(1000))


@pytest.mark.parametrize("folds", [None, 5])
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_rows_of_a_group_stay_together(task, folds):
    """In about the shares asked for."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(0, 100, (1000,), generator=generator)
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.randn(1000)
    table = replace(table_of(target, task), groups=groups)
    rows = split_rows(table, SplitRule(0, **SHARES, folds=folds))
    assert torch.cat(parts(rows)).sort().values.tolist() == list(range(1000))
    found = [group for part in parts(rows) for group in groups[part].unique().tolist()]
    assert len(found) == len(set(found)) == 100
    shares = [len(part) / 1000 for part in parts(rows)]
    expected = [0.7, 0.2, 0.1] if folds is None else [0.6, 0.2, 0.2]
    assert shares == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("preset_splits", [["validation"], ["test"], ["validation", "test"]])
def test_splits_that_are_given_stay_as_they_are(preset_splits):
    """The rest is divided off the other rows."""
    numbers = {"validation": torch.arange(900, 950), "test": torch.arange(950, 1000)}
    own = {split: numbers[split] for split in preset_splits}
    table = replace(table_of(torch.randn(1000), "regression"), preset_splits=own)
    rows = split_rows(table, SplitRule(0, **SHARES))
    assert torch.cat(parts(rows)).sort().values.tolist() == list(range(1000))
    for split in preset_splits:
        assert torch.equal(rows[split], numbers[split])


def test_more_folds_than_rows_of_a_class_are_reported():
    """One message, with the number of rows of the rarest class."""
    table = table_of([0] * 50 + [1] * 4)
    with pytest.raises(UserError, match=r"class '1' of column 'y' has 4 rows, .* the 5 folds"):
        split_rows(table, SplitRule(0, folds=5))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
@pytest.mark.parametrize(
    ("n_groups", "folds", "message"),
    [
        (2, 7, "2 different values, fewer than the 7 folds .*; leave out data.group_column"),
        (6, 7, "6 different values, fewer than the 7 folds .*; give data.folds=6, or leave out"),
        (2, 2, "2 different values, fewer than the 3 splits .*; leave out data.group_column"),
        (1, None, "1 different value, fewer than the 3 splits .*; leave out data.group_column"),
    ],
)
def test_more_folds_than_groups_are_reported(task, n_groups, folds, message):
    """With both numbers; also where every fold would have rows of each class."""
    target = torch.tensor(CLASSES) if task == "multiclass" else torch.randn(1000)
    table = replace(table_of(target, task), groups=torch.arange(1000) % n_groups)
    with pytest.raises(UserError, match=message):
        split_rows(table, SplitRule(0, folds=folds))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_few_groups_are_divided_as_far_as_they_go(task):
    """Three are one for each split, though their shares are not those asked for."""
    target = torch.tensor([0, 1] * 50) if task == "multiclass" else torch.randn(100)
    table = replace(table_of(target, task), groups=torch.arange(100) // 34)
    rows = split_rows(table, SplitRule(0))
    assert sorted(len(part) for part in parts(rows)) == [32, 34, 34]


def test_more_folds_than_rows_are_reported():
    """In regression, where no class is the rarest."""
    with pytest.raises(UserError, match="3 rows cannot be divided into 5 folds"):
        split_rows(table_of(torch.randn(3), "regression"), SplitRule(0, folds=5))


class Given(DataModule):
    """A table that is there already."""

    def __init__(self, table, **split):
        super().__init__(**split)
        self.table = table

    def load(self):
        """The table."""
        return self.table


def lines_of(caplog, table, **split):
    """What is said of a table when it is divided."""
    caplog.clear()
    data = Given(table, **split)
    data.setup()
    return data, [line.removeprefix("data: ") for line in caplog.messages]


def test_classes_that_a_split_lacks_are_named(caplog):
    """A class of three rows may have none in a split of 15 percent."""
    table = table_of([0] * 70 + [1] * 27 + [2] * 3)
    assert lines_of(caplog, table)[1] == ["no test row is of class '2'"]
    table = replace(
        table, preset_splits={"validation": torch.arange(69), "test": torch.arange(70, 74)}
    )
    lines = lines_of(caplog, table)[1]
    assert lines == ["no validation row is of class '1', '2'; no test row is of class '0', '2'"]
    assert lines_of(caplog, table_of([0] * 60 + [1] * 60 + [2] * 60))[1] == []


@pytest.mark.parametrize(("value", "other"), [(7.5, 7.5), (torch.nan, torch.nan), (0.0, -0.0)])
def test_rows_that_two_splits_share_are_counted(caplog, value, other):
    """By their features and target; missing values are equal."""
    table = table_of(torch.arange(120.0) + 1, "regression")
    data, lines = lines_of(caplog, table)
    assert lines == []
    first = data.rows["train"][0]
    copies = torch.stack([*data.rows["test"][:2], data.rows["validation"][0]])
    table.features[first], table.features[copies] = value, other
    assert lines_of(caplog, table)[1] == []
    table.target[copies] = table.target[first].clone()
    assert lines_of(caplog, table)[1] == [
        "1 of 18 validation rows and 2 of 18 test rows are the same as a training row"
    ]


def test_only_the_training_rows_that_are_used_are_compared(caplog):
    """With `max_train_rows` the others are in no split."""
    table = table_of(torch.arange(120.0) + 1, "regression")
    data, _ = lines_of(caplog, table)
    unused, copy = data.rows["train"][-1], data.rows["test"][0]
    table.features[copy], table.target[copy] = table.features[unused], table.target[unused]
    assert len(lines_of(caplog, table)[1]) == 1
    assert lines_of(caplog, table, max_train_rows=5)[1] == []
    classes = table_of([0] * 60 + [1] * 60)
    assert lines_of(caplog, classes, max_train_rows=1)[1][0].startswith("no train row is of class ")


@pytest.mark.parametrize(("folds", "fold"), [(5, 5), (5, -1), (1, 0)])
def test_a_fold_out_of_range_is_reported(folds, fold):
    """Folds are counted from 0."""
    with pytest.raises(ValueError, match="fold"):
        BuiltinData(name="iris", folds=folds, fold=fold)
