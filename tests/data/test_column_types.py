"""What columns are taken for, and what is said of those that are of no use."""

import datetime
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from multilayer.core.errors import UserError
from multilayer.data import TableData
from multilayer.data.numerics import lost_digits
from multilayer.data.origin import Origin
from multilayer.data.table import _BLOCK_VALUES, Columns
from multilayer.data.table_builder import (
    Float64NeededError,
    TableBuilder,
    _compact_columns,
    encode_table,
    table_from_frame,
)

FRAME = pl.DataFrame(
    {
        "size": [1.5, 2.5, None, 4.5],
        "flag": [True, None, False, True],
        "zip": [10, 20, 10, None],
        "colour": ["red", "blue", None, "red"],
        "grade": pl.Series(["low", "high", "low", "high"], dtype=pl.Enum(["low", "high"])),
        "y": [0.5, 1.5, 2.5, 3.5],
    }
)


def kinds_of(frame: pl.DataFrame, **options: list[str]) -> Columns:
    """Of a table that predicts `y`."""
    return table_from_frame(frame, target="y", name="f.csv", **options).columns


def numbers_of(columns: Columns) -> list[str]:
    """The features that are numbers."""
    return [name for name in columns.features if name not in columns.categories]


def error_of(frame: pl.DataFrame, **options: list[str]) -> str:
    """What is said of a table that cannot be used."""
    with pytest.raises(UserError) as error:
        kinds_of(frame, **options)
    return str(error.value)


def test_numbers_and_words_are_told_apart() -> None:
    """Labels in the order of the column's own type."""
    kinds = kinds_of(FRAME)
    assert numbers_of(kinds) == ["size", "flag", "zip"]
    assert kinds.categories == {"colour": ["blue", "red"], "grade": ["low", "high"]}
    assert kinds.dropped == {}


def test_what_the_user_says_comes_first() -> None:
    """Numbers that are categories, and columns to leave out."""
    kinds = kinds_of(FRAME, categorical_columns=["zip", "flag"], drop_columns=["size", "grade"])
    assert numbers_of(kinds) == []
    assert kinds.categories["zip"] == ["10", "20"]
    assert kinds.categories["flag"] == ["false", "true"]
    assert kinds.dropped == {"size": "data.drop", "grade": "data.drop"}


def test_values_become_numbers_and_codes() -> None:
    """NaN where one is missing; a label that is not known has the number after the last one."""
    table = table_from_frame(FRAME, target="y", categorical_columns=["zip", "flag"], name="f.csv")
    nan = float("nan")
    expected = [
        [1.5, 1.0, 0.0, 1.0, 0.0],
        [2.5, nan, 1.0, 0.0, 1.0],
        [nan, 0.0, 0.0, nan, 0.0],
        [4.5, 1.0, nan, 1.0, 1.0],
    ]
    torch.testing.assert_close(table.features, torch.tensor(expected), equal_nan=True)
    new = FRAME.with_columns(colour=pl.lit("green"), zip=pl.lit(30))
    found = encode_table(new, table.columns, Origin("g.csv")).features
    assert found[:, 2].tolist() == [2.0] * 4
    assert found[:, 3].tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, 1, 1, 1], "the same value in every row"),
        ([10**18 + i for i in range(4)], "same value in every row, to the 15 digits of float64"),
        (["a", "a", "a", "a"], "the same value in every row"),
        ([None, None, None, None], "no values"),
        (["a", "b", "c", "d"], "another word in every row"),
    ],
)
def test_columns_of_no_use_are_left_out_with_a_warning(
    values: list[object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And with the reason."""
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 5.0], "odd": values, "y": [0, 1, 0, 1]})
    with caplog.at_level(logging.WARNING):
        kinds = kinds_of(frame)
    assert list(kinds.dropped) == ["odd"]
    assert reason in kinds.dropped["odd"]
    assert "f.csv: column 'odd' is left out: it has " in caplog.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([7, 8, 9, 11], "has another number in every row"),
        ([0, 1, 0, 1], "equals the target"),
        (["0", "1", "0", "1"], "equals the target"),
    ],
)
def test_columns_that_are_likely_a_mistake_bring_a_warning(
    values: list[object], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They stay, and the warning says how to leave them out."""
    frame = pl.DataFrame({"odd": values, "y": [0, 1, 0, 1]})
    with caplog.at_level(logging.WARNING):
        kinds = kinds_of(frame)
    assert kinds.features == ["odd"]
    assert words in caplog.text
    assert 'leave it out with "data.drop_columns=[odd]"' in caplog.text


def test_durations_as_the_target_are_not_compared_with_words(tmp_path: Path) -> None:
    """polars cannot write them as text; few are classes, and to regress on them is refused."""
    days = [datetime.timedelta(hours=12), datetime.timedelta(days=3)] * 5
    frame = pl.DataFrame({"colour": ["red", "blue"] * 5, "y": days})
    assert kinds_of(frame).classes == ["12:00:00", "3 days, 0:00:00"]
    frame.write_parquet(tmp_path / "t.parquet")
    data = TableData(path=str(tmp_path / "t.parquet"), target="y", task="regression")
    with pytest.raises(UserError, match=r"the target 'y' must hold numbers.* found durations"):
        data.setup()


def test_a_number_column_with_a_word_in_it_is_reported() -> None:
    """With the word, its row, and what to do."""
    message = error_of(pl.DataFrame({"x": ["1", "2.5", "n/a", None], "y": [0, 1, 0, 1]}))
    assert "column 'x' holds numbers, but 'n/a' in row 3" in message
    assert '"data.categorical_columns=[x]"' in message
    frame = pl.DataFrame({"x": ["1", "2.5", "n/a", None], "y": [0, 1, 0, 1]})
    assert kinds_of(frame, categorical_columns=["x"]).categories == {"x": ["1", "2.5", "n/a"]}


@pytest.mark.parametrize("values", [[[1], [2]], [{"a": 1}, {"a": 2}]])
def test_a_nested_column_is_reported(values: list[object]) -> None:
    """And can be left out."""
    frame = pl.DataFrame({"x": [1.0, 2.0], "nest": values, "y": [0, 1]})
    assert "column 'nest' holds " in error_of(frame)
    assert kinds_of(frame, drop_columns=["nest"]).features == ["x"]


@pytest.mark.parametrize(
    ("first", "second", "days"),
    [
        (datetime.date(1970, 1, 2), datetime.date(1971, 1, 1), [1.0, 365.0]),
        (datetime.datetime(1970, 1, 1, 12), datetime.datetime(1970, 1, 3), [0.5, 2.0]),
        (datetime.time(6), datetime.time(12), [0.25, 0.5]),
        (datetime.timedelta(hours=36), datetime.timedelta(days=-1), [1.5, -1.0]),
    ],
)
def test_times_are_days(first: object, second: object, days: list[float]) -> None:
    """Since 1970, since midnight, or as long as they last."""
    frame = pl.DataFrame({"t": [first, second], "y": [0.5, 1.5]})
    assert table_from_frame(frame, target="y", name="f.csv").features[:, 0].tolist() == days


@pytest.mark.parametrize("key", ["categorical_columns", "drop_columns"])
def test_names_that_are_no_columns_are_reported(key: str) -> None:
    """With the nearest one; the target is none of them."""
    assert error_of(FRAME, **{key: ["colur"]}) == (
        f"f.csv has no column 'colur' for data.{key}: did you mean \"data.{key}=[colour]\"?"
    )
    assert error_of(FRAME, **{key: ["y"]}) == f"data.{key}: 'y' is the target"


def test_columns_that_are_left_out_for_one_reason_share_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A table of images has hundreds; those that the user leaves out are not mentioned."""
    flat = {f"pixel_{i}": [0] * 4 for i in range(12)}
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 5.0], **flat, "z": [None] * 4, "y": [0, 1, 0, 1]})
    with caplog.at_level(logging.WARNING):
        kinds_of(frame, drop_columns=["pixel_0"])
    named = ", ".join(f"'pixel_{i}'" for i in range(1, 9))
    assert [record.getMessage() for record in caplog.records] == [
        f"f.csv: 11 columns are left out, {named} and 3 more: each has the same value in every row",
        "f.csv: column 'z' is left out: it has no values",
    ]


def test_a_table_without_a_column_of_use_says_why() -> None:
    """Each column that was left out, and the reason."""
    frame = pl.DataFrame({"p": ["a", "b"], "q": [1, 1], "y": [0, 1]})
    with pytest.raises(UserError) as error:
        table_from_frame(frame, target="y", name="f.csv")
    assert str(error.value) == (
        "f.csv has no feature columns besides the target, without 'p' (it has another word in "
        "every row), 'q' (it has the same value in every row)"
    )


def test_facts_are_of_all_parts_of_a_table(caplog: pytest.LogCaptureFixture) -> None:
    """What is constant or different in each part alone is looked at over all of them."""
    n = 100
    frame = pl.DataFrame(
        {
            "step": [0.0] * n + [1.0] * n,
            "flat": [3] * 2 * n,
            "id": [2**25 + i for i in range(2 * n)],
            "twice": [2**25 + i for i in range(n)] * 2,
            "word": [f"w{i}" for i in range(n)] * 2,
            "y": [0, 1] * n,
        }
    )
    intake = TableBuilder(frame.schema, target="y", name="f.csv", dtype=np.float64)
    for part in frame.iter_slices(n):
        intake.add(part)
    with caplog.at_level(logging.WARNING):
        table = intake.table()
    whole = table_from_frame(frame, target="y", name="f.csv")
    assert torch.equal(table.features, whole.features)
    assert torch.equal(table.target, whole.target)
    assert table.columns == whole.columns
    assert table.columns.features == ["step", "id", "twice", "word"]
    assert table.columns.dropped == {"flat": "it has the same value in every row"}
    assert table.columns.categories == {"word": sorted(f"w{i}" for i in range(n))}
    assert "column 'id' has another number in every row" in caplog.text
    assert "'twice' has" not in caplog.text


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("x", float("inf"), "f.csv: column 'x' is infinite in row 8"),
        ("y", None, "f.csv: the target 'y' is missing in row 8"),
        ("who", None, "f.csv: data.group_column 'who' is missing in row 8"),
    ],
)
def test_rows_are_counted_over_all_parts(column: str, value: object, message: str) -> None:
    """A fault in the second part has its row in the table."""
    values = {"x": [0.5] * 10, "y": [0, 1] * 5, "who": [1, 2] * 5}
    values[column][7] = value  # type: ignore[call-overload]
    frame = pl.DataFrame(values, strict=False)
    intake = TableBuilder(frame.schema, target="y", group_column="who", name="f.csv")
    intake.add(frame[:5])
    with pytest.raises(UserError) as error:
        intake.add(frame[5:])
    assert str(error.value).partition(",")[0] == message


def test_columns_move_together_where_they_lie() -> None:
    """Those that stay, of a matrix of more rows than are moved at a time."""
    matrix = np.arange(5 * (_BLOCK_VALUES + 3), dtype=np.float32).reshape(-1, 5)
    expected = matrix[:, [0, 2, 3]]
    found = _compact_columns(matrix, [0, 2, 3])
    np.testing.assert_array_equal(found, expected)
    assert np.shares_memory(found, matrix)
    assert found.flags.c_contiguous


@pytest.mark.parametrize("value", [7, 7.5, True, "word"])
def test_a_constant_column_with_gaps_says_which_are_missing(value: object) -> None:
    """It is no constant: whether a value is there may be all that counts."""
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0], "odd": [value, None, value], "y": [0, 1, 0]})
    assert kinds_of(frame).features == ["x", "odd"]


@pytest.mark.parametrize(("scale", "task"), [(2, "regression"), (0, "multiclass")])
@pytest.mark.parametrize("stream", [False, True])
def test_decimals_are_numbers_as_they_are_in_text(tmp_path, scale, task, stream):
    """A target of few whole decimals is one of classes, and of few others it is not."""
    y = pl.Series([1.0, 2.0, 3.0] * 20).cast(pl.Decimal(10, scale))
    pl.DataFrame({"x": range(60), "y": y}).write_parquet(tmp_path / "t.parquet")
    data = TableData(path=str(tmp_path / "t.parquet"), target="y", stream=stream)
    data.setup()
    assert data.columns.task == task


def said_of(caplog: pytest.LogCaptureFixture, frame: pl.DataFrame, **options: list[str]) -> str:
    """The warnings about a table."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        kinds_of(frame, **options)
    return caplog.text


def test_a_sound_table_brings_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Neither where columns share their first thousand rows with the target, and not the others."""
    assert said_of(caplog, FRAME) == ""
    y = [0, 1] * 600
    late = pl.DataFrame({"x": [*y[:-1], 0], "word": [*map(str, y[:-1]), "0"], "y": y})
    assert said_of(caplog, late) == ""


def test_labels_that_may_be_missing_values_bring_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Unless the user has said that the column is a category."""
    frame = pl.DataFrame({"a": ["red", "NA", "red", "blue"], "y": [0, 1, 0, 1]})
    assert "NA" in said_of(caplog, frame)
    assert said_of(caplog, frame, categorical_columns=["a"]) == ""


def test_the_kinds_of_times_are_kept() -> None:
    """Of the columns that are used: they are compared with those of later files."""
    day = datetime.datetime(2024, 5, 1)
    frame = pl.DataFrame(
        {
            "date": [day, day + datetime.timedelta(1)],
            "took": [datetime.timedelta(1), datetime.timedelta(2)],
            "at": [datetime.time(1), datetime.time(2)],
            "same": [datetime.timedelta(1)] * 2,
            "x": [0.5, 1.5],
            "y": [0, 1],
        }
    )
    assert kinds_of(frame).times == {
        "date": "dates without a time zone",
        "took": "durations",
        "at": "times of day",
    }


def test_durations_are_days_to_the_last_digit() -> None:
    """A day is 1."""
    frame = pl.DataFrame({"took": [datetime.timedelta(1), datetime.timedelta(10)], "y": [0, 1]})
    assert table_from_frame(frame, target="y", name="f.csv").features.tolist() == [[1], [10]]


@pytest.mark.parametrize(
    ("values", "is_said"),
    [
        ([2**53, 2**53 - 1], False),
        ([2**60 + 1, 2**60 + 3], True),
        ([-(2**60) - 1, -(2**60) - 3], True),
        ([0, 2**60 + 1, 2**61], False),  # far apart, so that the last digits do not matter
        ([2**60, 2**60 + 2**20], False),  # float64 has both
        ([None, None], False),
    ],
)
def test_whole_numbers_whose_digits_are_lost_are_named(
    values: list[int | None], is_said: bool
) -> None:
    """With what to do about it."""
    said = lost_digits(pl.Series("id", values, dtype=pl.Int64))
    assert (said is not None) is is_said
    assert said is None or "'id'" in said


@pytest.mark.parametrize("key", ["x", "y"])
def test_lost_digits_are_reported_of_features_and_of_the_target(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once each, though they are in several parts of the table."""
    values = {"x": list(range(40)), "z": list(range(40)), "y": [i * 1000 for i in range(40)]}
    values[key] = [2**60 + i for i in range(40)]
    frame = pl.DataFrame(values)
    intake = TableBuilder(frame.schema, target="y", name="f.csv", dtype=np.float64)
    for part in frame.iter_slices(20):
        intake.add(part)
    with caplog.at_level(logging.WARNING):
        intake.table()
    assert caplog.text.count(f"column {key!r}: float64 rounds") == 1


def test_the_column_of_groups_is_no_feature() -> None:
    """And it must be there, and may not be the target."""
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.5], "who": ["b", "a", "b"], "y": [0, 1, 1]})
    table = table_from_frame(frame, target="y", group_column="who", name="f.csv")
    assert table.columns.features == ["x"]
    assert table.columns.dropped == {"who": "data.group"}
    assert table.groups is not None
    assert table.groups.tolist() == [2, 1, 2]
    assert table.owns_memory
    for group, message in (
        ("wh", "f.csv has no column 'wh' for data.group_column"),
        ("y", "data.group_column"),
    ):
        with pytest.raises(UserError, match=message):
            table_from_frame(frame, target="y", group_column=group, name="f.csv")


WORDS_AS_CLASSES = ["low", "high", "3"] * 4
MANY_WORDS = [f"w{i}" for i in range(30)]


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (WORDS_AS_CLASSES, None, None),
        (["1", "2", "x"] * 10, "regression", "'x' in row 3"),
        ([*map(str, range(40)), "x"], None, "'x' in row 41"),
        (["$1", "$2", "$3"], None, r"'\$1' in row 1"),
        (["$1", "$2", "$3"], "multiclass", None),
        (["1", "2", "NA"] * 10, None, "'NA'"),
    ],
)
def test_numbers_among_the_words_of_a_target_are_classes_where_that_is_clear(
    values: list[str], task: str | None, message: str | None
) -> None:
    """Otherwise one message has the value and its row, and how to say that they are classes."""
    frame = pl.DataFrame({"x": [i / 7 for i in range(len(values))], "y": values})
    options = {} if task is None else {"task": task}
    if message is None:
        table = table_from_frame(frame, target="y", name="f.csv", **options)
        assert table.columns.classes == sorted(set(values))
        return
    with pytest.raises(UserError, match=message) as error:
        table_from_frame(frame, target="y", name="f.csv", **options)
    assert "data.task=multiclass" in str(error.value) or "data.missing" in str(error.value)


def test_a_part_beyond_float32_is_remembered() -> None:
    """The parts after it are not."""
    frame = pl.DataFrame({"x": [1e39, 1.0, 2.0, 3.0], "z": [1.0, 2.0, 3.0, 4.0], "y": [0, 1] * 2})
    intake = TableBuilder(frame.schema, target="y", name="f.csv")
    for part in frame.iter_slices(2):
        intake.add(part)
    with pytest.raises(Float64NeededError):
        intake.table()


def test_a_sample_is_called_one(caplog: pytest.LogCaptureFixture) -> None:
    """Where not all rows were taken in."""
    frame = pl.DataFrame({"x": [1.0] * 4, "z": [1.0, 2.0, 3.0, 4.0], "y": [0, 1] * 2})
    for chosen, name in (([True] * 4, "f.csv"), ([True, True, True, False], "a sample of f.csv")):
        intake = TableBuilder(frame.schema, target="y", name="f.csv")
        intake.add(frame, np.array(chosen))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            intake.table()
        assert caplog.messages[0].startswith(f"{name}: column 'x' is left out")
