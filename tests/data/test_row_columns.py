"""Splits by time, and by a column that names them; weights of rows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.data import (
    BuiltinDataset,
    SplitRule,
    Table,
    TableDataset,
    split_rows,
    table_from_frame,
)
from multilayer.data.split import Split

N = 40
YEARS = [2000 + i // 2 for i in range(N)]


def frame_of(**columns: Any) -> pl.DataFrame:
    """A table of 40 rows: `x` counts them, and `y` is a number to predict."""
    return pl.DataFrame({"x": range(N), **columns, "y": [i * 0.37 % 1 for i in range(N)]})


def rows_of(table: Table, **rule: Any) -> dict[Split, list[int]]:
    """The rows of each split, sorted."""
    rows = split_rows(table, SplitRule(0, **rule))
    return {split: each.sort().values.tolist() for split, each in rows.items()}


def dataset(folder: Path, frame: pl.DataFrame, form: str = "csv", **options: Any) -> TableDataset:
    """A data set of a frame in a file."""
    path = folder / f"t.{form}"
    frame.write_parquet(path) if form == "parquet" else frame.write_csv(path)
    return TableDataset(path=str(path), target="y", **options)


def read(folder: Path, frame: pl.DataFrame, form: str = "csv", **options: Any) -> TableDataset:
    """The same, read."""
    data = dataset(folder, frame, form, **options)
    data.setup()
    return data


MOMENTS: dict[str, Callable[[int], Any]] = {
    "numbers": lambda i: i * 1.5 - 7,
    "dates": lambda i: date(2024, 1 + i // 28, 1 + i % 28),
    "datetimes": lambda i: datetime(2024, 1, 1 + i // 4, i % 4),
    "dates as text": lambda i: f"2024-{1 + i // 28:02}-{1 + i % 28:02}",
    "datetimes as text": lambda i: f"2024-01-{1 + i // 4:02}T{i % 4:02}:30:00Z",
    "numbers as text": lambda i: f"{i * 1.5 - 7}",
}


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("kind", MOMENTS)
def test_the_newest_rows_are_tested_and_the_next_newest_validated(
    tmp_path: Path, kind: str, form: str
) -> None:
    """Whatever the order of the rows in the file; the column of times is no feature."""
    frame = frame_of(when=[MOMENTS[kind](i) for i in range(N)]).sample(N, shuffle=True, seed=1)
    data = read(tmp_path, frame, form, split="time", time="when", test_fraction=0.1)
    assert data.columns.features == ["x"]
    order = frame["x"].to_torch()
    found = {split: order[rows].sort().values.tolist() for split, rows in data.rows.items()}
    assert found == {
        "train": [*range(30)],
        "validation": [*range(30, 36)],
        "test": [*range(36, 40)],
    }


def test_times_as_text_may_have_spaces(tmp_path: Path) -> None:
    """They are stripped, as in all text."""
    frame = frame_of(when=[f" 2024-01-{1 + i // 2:02}" for i in range(N)])
    data = read(tmp_path, frame, split="time", time=" when ")
    assert data.count_rows() == {"train": 28, "validation": 6, "test": 6}


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ([1] * 40, [28, 6, 6]),
        ([20, 12, 8], [20, 12, 8]),  # one time is the least that a split can have
        ([2] * 20, [28, 6, 6]),
        ([10, 10, 5, 5, 5, 5], [30, 5, 5]),  # 5 is nearer to 6 than 10 is
        ([10, 10, 5, 4, 4, 7], [29, 4, 7]),  # of 4 and 8, as near to 6, the smaller one
        ([1, 1, 38], [1, 1, 38]),
        ([38, 1, 1], [38, 1, 1]),
        ([16, 8, 8, 8], [24, 8, 8]),
        ([25, 3, 3, 3, 3, 3], [28, 6, 6]),
        ([28, 3, 3, 4, 2], [28, 6, 6]),
    ],
)
def test_rows_of_one_time_stay_together(counts: list[int], sizes: list[int]) -> None:
    """A split has as many times as bring it nearest to 15 %, and at least one."""
    years = [2000 + k for k, n in enumerate(counts) for _ in range(n)]
    rows = rows_of(table_from_frame(frame_of(year=years), target="y", time="year", name="t"))
    assert [len(rows[split]) for split in ("train", "validation", "test")] == sizes
    assert rows["train"] + rows["validation"] + rows["test"] == [*range(N)]
    of_split = {split: {years[row] for row in own} for split, own in rows.items()}
    assert not of_split["train"] & of_split["validation"]
    assert not of_split["validation"] & of_split["test"]


def test_rows_come_in_random_order_by_the_split_seed() -> None:
    """So that the first training rows are a random choice of them."""
    table = table_from_frame(frame_of(year=YEARS), target="y", time="year", name="t")
    first, again, other = (split_rows(table, SplitRule(seed))["train"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first.sort().values, other.sort().values)
    assert first.tolist() != sorted(first.tolist())


def test_a_class_that_is_new_in_time_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no mistake of the table's."""
    frame = frame_of(year=YEARS).with_columns(y=pl.Series(["a"] * 20 + ["b"] * 17 + ["c"] * 3))
    data = read(tmp_path, frame, split="time", time="year")
    assert "no train row is of class 'c'; " in caplog.text
    assert data.columns.classes == ["a", "b", "c"]


def test_at_most_so_many_training_rows_are_a_random_choice(tmp_path: Path) -> None:
    """Not the oldest ones; the other splits stay as they are."""
    data = read(tmp_path, frame_of(year=YEARS), split="time", time="year", max_train_rows=10)
    rows = data.rows["train"]
    assert len(rows) == 10
    assert rows.max() >= 10
    assert rows.max() < 28
    assert data.count_rows()["test"] == 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, *range(39)], r"t\.csv: data\.time 'when' is missing in row 1"),
        ([*range(39), "NaT"], r"t\.csv: data\.time 'when' is missing in row 40"),
        ([*range(39), "inf"], r"t\.csv: data\.time 'when' is infinite in row 40"),
        (["2024-01-01"] * 39 + ["?"], r"found '\?' in row 40; write dates as 2026-03-01 or "),
        (["1/2/2024"] * 40, r"must hold numbers, dates or times, found '1/2/2024' in row 1"),
        (["a", "b"] * 20, r"must hold numbers, dates or times, found 'a' in row 1"),
        ([1, 2] * 20, "data.time has 2 different values, fewer than the 3 splits that must not "),
    ],
)
def test_times_that_order_nothing_are_refused(
    tmp_path: Path, values: list[Any], message: str
) -> None:
    """With the first row that has one."""
    text = pl.Series(values, dtype=pl.String, strict=False)
    data = dataset(tmp_path, frame_of(when=text), split="time", time="when")
    with pytest.raises(UserError, match=message):
        data.setup()


SPELLED = ["train", "Training", "TRAIN ", "val", "valid", "Dev", "validation", "development"]
SPELLED += ["test", "Testing"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_names_the_split_in_the_usual_spellings(tmp_path: Path, form: str) -> None:
    """It is no feature either."""
    frame = frame_of(part=[SPELLED[i % 10] for i in range(N)])
    data = read(tmp_path, frame, form, split_column="part")
    assert data.columns.features == ["x"]
    found = {split: {row % 10 for row in rows.tolist()} for split, rows in data.rows.items()}
    assert found == {"train": {0, 1, 2}, "validation": {3, 4, 5, 6, 7}, "test": {8, 9}}
    assert data.count_rows() == {"train": 12, "validation": 20, "test": 8}


def test_a_split_that_is_not_named_is_taken_from_the_training_rows() -> None:
    """As with a file for each split; the test rows are those that are named."""
    frame = frame_of(part=["train"] * 30 + ["test"] * 10)
    table = table_from_frame(frame, target="y", split_column="part", name="t")
    rows = rows_of(table, validation_fraction=0.2)
    assert rows["test"] == [*range(30, 40)]
    assert len(rows["validation"]) == 6
    assert sorted(rows["train"] + rows["validation"]) == [*range(30)]


def test_at_most_so_many_of_the_named_training_rows_are_a_random_choice(tmp_path: Path) -> None:
    """Not the first of the file."""
    frame = frame_of(part=["train"] * 30 + ["val"] * 5 + ["test"] * 5)
    data = read(tmp_path, frame, split_column="part", max_train_rows=10)
    assert data.rows["train"].max() >= 10
    assert len(data.rows["train"].unique()) == 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["train", "holdout"] * 20,
            r"t\.csv: data\.split_column 'part' holds 'holdout' in row 2; its values must be "
            r"train, validation \(or valid, val, dev, development\) or test",
        ),
        ([0, 1] * 20, r"data\.split_column 'part' holds '0' in row 1"),
        ([None, "test"] * 20, r"data\.split_column 'part' is missing in row 1"),
        (["val", "test"] * 20, r"no row is a training row by data\.split_column 'part'"),
    ],
)
def test_a_column_that_names_no_splits_is_refused(
    tmp_path: Path, values: list[Any], message: str
) -> None:
    """With the first row, and what is expected."""
    data = dataset(tmp_path, frame_of(part=values), split_column="part")
    with pytest.raises(UserError, match=message):
        data.setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "time"}, "split=time needs time=COLUMN"),
        ({"time": "when"}, "time=when needs split=time"),
        ({"split": "time", "time": "a", "folds": 3}, "time=a decides .* combined with folds=3"),
        (
            {"split": "time", "time": "a", "group_column": "g", "stream": True},
            "combined with group_column=g, stream=true",
        ),
        ({"split": "time", "time": "a", "split_column": "b"}, "time=a .* with split_column=b"),
        ({"split": "time", "time": "a", "test_path": "b"}, "time=a .* with test_path=b"),
        ({"split_column": "a", "validation_path": "b"}, "split_column=a .* with validation_path=b"),
        ({"split_column": "a", "folds": 3}, "split_column=a .* with folds=3"),
        ({"split_column": "a", "stream": True}, "split_column=a .* with stream=true"),
    ],
)
def test_two_ways_to_divide_are_refused(options: dict[str, Any], message: str) -> None:
    """Before anything is read."""
    with pytest.raises(ValueError, match=message):
        TableDataset(path="t.csv", target="y", **options)


@pytest.mark.parametrize("key", ["time", "split_column", "weight"])
def test_a_name_that_is_no_column_or_the_target_is_refused(key: str) -> None:
    """With the name that was likely meant."""
    frame = frame_of(when=YEARS)
    with pytest.raises(UserError, match=rf"no column 'whem' for data\.{key}: did you mean data\."):
        table_from_frame(frame, target="y", name="t", **{key: "whem"})
    with pytest.raises(UserError, match=rf"data\.{key}: 'y' is the target"):
        table_from_frame(frame, target="y", name="t", **{key: "y"})


def test_a_fingerprint_has_the_times_and_the_splits() -> None:
    """So that `evaluate` says that other rows are tested; without them it is as it was."""

    def fingerprint(values: list[Any], **options: Any) -> str:
        return table_from_frame(frame_of(c=values), target="y", name="t", **options).fingerprint()

    other = [*YEARS[:-1], 1999]
    assert fingerprint(YEARS, time="c") != fingerprint(other, time="c")
    assert fingerprint(YEARS, drop_columns=["c"]) == fingerprint(other, drop_columns=["c"])
    parts = [["train", "test"] * 20, ["train", "test"] * 19 + ["train", "train"]]
    first, second = (fingerprint(each, split_column="c") for each in parts)
    assert first != second
    assert first == fingerprint(["Training", "testing"] * 20, split_column="c")


def test_rows_that_are_known_by_their_times_are_the_same_from_python() -> None:
    """`split_rows` needs a table and a rule alone."""
    times: Tensor = torch.arange(N).flip(0)
    table = table_from_frame(frame_of(when=times.tolist()), target="y", time="when", name="t")
    assert rows_of(table)["test"] == [*range(6)]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_weights_come_with_the_targets(tmp_path: Path, task: str, form: str) -> None:
    """In units of a power of two, in which none is too large for float32; and are no feature."""
    weights = [f"{i * 0.25}e200" for i in range(N)]
    frame = frame_of(w=weights)
    if task == "multiclass":
        frame = frame.with_columns(y=pl.Series(["a", "b", "c", "b"] * 10))
    data = read(tmp_path, frame, form, weight="w")
    assert data.columns.features == ["x"]
    assert data.columns.weight == "w"
    values, found = data.targets.unbind(1)
    assert data.targets.dtype == torch.float32
    torch.testing.assert_close(found / found[4], torch.arange(N) / 4)
    assert 0.5 <= found.max() < 1
    features, target = data.split_tensors("test")
    assert len(features) == len(target) == 6
    assert torch.equal(target[:, 1], found[data.rows["test"]])
    if task == "multiclass":
        assert values.tolist() == [0, 1, 2, 1] * 10
        assert data.target_values("train").dtype == torch.int64
    rows = data.rows["train"]
    counting = rows[found[rows] > 0]
    assert data.target_values("train").tolist() == values[counting].tolist()
    assert "; weighted by 'w'; " in data.describe()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1] * 39 + [None], r"t\.csv: data\.weight 'w' is missing in row 40"),
        ([1, -0.5] * 20, r"t\.csv: data\.weight 'w' is -0\.5 in row 2; a weight is at least 0"),
        (["inf", 1] * 20, r"t\.csv: data\.weight 'w' is infinite in row 1"),
        (["1", "?"] * 20, r"t\.csv: data\.weight 'w' must hold numbers, found '\?' in row 2"),
        (["heavy", "b"] * 20, "must hold numbers, found 'heavy' in row 1"),
        (["2024-01-01"] * 40, "must hold numbers, found dates without a time zone"),
        ([0] * 40, r"data\.weight: 'w' is 0 in all of the 28 train rows"),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path: Path, values: list[Any], message: str) -> None:
    """With the first row that has one."""
    text = pl.Series(values, dtype=pl.String, strict=False)
    with pytest.raises(UserError, match=message):
        read(tmp_path, frame_of(w=text), weight="w")


def test_a_split_without_any_weight_is_refused(tmp_path: Path) -> None:
    """Its metrics would be of nothing."""
    frame = frame_of(w=[1] * 34 + [0] * 6, when=range(N))
    with pytest.raises(UserError, match="'w' is 0 in all of the 6 test rows"):
        read(tmp_path, frame, weight="w", split="time", time="when")


def test_each_file_of_a_split_has_its_weights(tmp_path: Path) -> None:
    """In the same units; a file without them is refused."""
    for name, weight in (("a", 1.0), ("b", 8.0)):
        frame_of(w=[weight] * N).write_csv(tmp_path / f"{name}.csv")
    paths = {"train_path": str(tmp_path / "a.csv"), "test_path": str(tmp_path / "b.csv")}
    data = TableDataset(**paths, target="y", weight="w")
    data.setup()
    assert data.targets[:, 1].tolist() == [0.0625] * N + [0.5] * N
    frame_of().write_csv(tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"b\.csv has no column 'w', the weight of each row"):
        TableDataset(**paths, target="y", weight="w").setup()


def test_weights_are_part_of_the_fingerprint_and_not_for_a_stream() -> None:
    """Other weights are another training."""
    first, other = (
        table_from_frame(frame_of(w=[1, each] * 20), target="y", weight="w", name="t").fingerprint()
        for each in (1, 2)
    )
    assert first != other
    with pytest.raises(ValueError, match="weight=w is for tables in memory; leave out stream"):
        TableDataset(path="t.parquet", target="y", weight="w", stream=True)


def test_a_table_of_ones_own_has_weights_with_a_name() -> None:
    """Weights without a name would be taken for targets."""
    table = table_from_frame(frame_of(w=[1, 2] * 20), target="y", weight="w", name="t")

    class Own(BuiltinDataset):
        def load(self) -> Table:
            return replace(table, columns=replace(table.columns, weight=None))

    with pytest.raises(ValueError, match="has them in `weights`, and a name in `columns`"):
        Own(name="iris").setup()
