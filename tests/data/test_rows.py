"""Rows in memory: every usual kind becomes the frame that the same rows in a file would be."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from multilayer.core.errors import UserError
from multilayer.data.rows import frame_of
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_features
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

COLUMNS = Columns(["n", "when", "c"], "y", "regression", [], {"c": ["1", "2", "x"]}, times={
    "when": "dates without a time zone"
})  # fmt: skip
EXPECTED = pl.DataFrame(
    {
        "n": [1.5, None, 3.0],
        "when": [datetime(2026, 1, day) for day in (1, 2, 3)],
        "c": ["1", "x", None],
    }
)


def encoded(rows: Any) -> Any:
    """What the network's preprocessing gets of rows, `(3, 3)`."""
    frame, origin = read_frame_like(rows, COLUMNS, TextFormat())
    return encode_features(frame, COLUMNS, origin).numpy()


def object_array(frame: pl.DataFrame) -> Any:
    return np.array(frame.rows(), dtype=object)


@pytest.mark.parametrize(
    "kind",
    ["frame", "lazy", "dict", "arrays", "masked", "objects", "words", "polars objects", "mixed"],
)
def test_every_kind_of_rows_is_encoded_alike(kind: str, tmp_path: Any) -> None:
    """As the same rows in a Parquet file."""
    EXPECTED.write_parquet(tmp_path / "rows.parquet")
    lists = EXPECTED.to_dict(as_series=False)
    rows: Any = {
        "frame": EXPECTED[["c", "n", "when"]],
        "lazy": EXPECTED.lazy(),
        "dict": {"more": [1, 2, 3], **lists},
        "arrays": {
            "n": np.array([1.5, np.nan, 3], np.float32),
            "when": np.array(lists["when"], "datetime64[us]"),
            "c": np.array(lists["c"], object),
        },
        "masked": lists | {"n": np.ma.masked_array([1.5, 9, 3], [False, True, False])},
        "objects": object_array(EXPECTED),
        "words": lists | {"n": ["1.5", "", "3"]},
        "polars objects": EXPECTED.with_columns(
            pl.Series("c", [np.int64(1), "x", None], dtype=pl.Object)
        ),
        "mixed": {"n": [1.5, None, 3], "when": lists["when"], "c": [1, "x", np.nan]},
    }[kind]
    expected = encoded(tmp_path / "rows.parquet")
    assert expected[:, 2].tolist()[:2] == [0, 2]
    np.testing.assert_array_equal(encoded(rows), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "longdouble", "int8", "uint64", "bool"])
def test_numbers_of_every_dtype_are_taken(dtype: str) -> None:
    """Each exactly."""
    array = np.array([[0, 1], [1, 0]], dtype)
    frame, what = frame_of(array, ["a", "b"])
    assert what == "the array"
    np.testing.assert_array_equal(frame.cast(pl.Float64).to_numpy(), array.astype(float))


def test_a_dict_of_single_values_is_one_row() -> None:
    """A text is one value too."""
    assert frame_of({"a": 1, "b": "word", "c": np.float32(2.5)}, [])[0].rows() == [(1, "word", 2.5)]


def test_pythons_values_keep_their_types() -> None:
    """Those of one kind; numbers of several kinds become floats, and large ones stay exact."""
    rows = {
        "i": [1, 2], "f": [1, 2.5], "b": [True, None], "d": [date(2026, 1, 1), None],
        "big": [10**30, 1], "z": [datetime(2026, 1, 1, tzinfo=UTC), None],
    }  # fmt: skip
    frame, _ = frame_of(rows, [])
    assert [frame[name].dtype for name in "ifbd"] == [pl.Int64, pl.Float64, pl.Boolean, pl.Date]
    assert str(frame["big"][0]) == str(10**30)
    assert frame["z"].dtype == pl.Datetime("us", "UTC")


def test_a_pandas_frame_is_taken_without_pyarrow() -> None:
    """With its text, categories, times and nullable numbers; the index is no column."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "f": np.array([0.5, np.nan], np.float32),
            "s": ["a", None],
            "c": pd.Categorical(["u", None]),
            "t": pd.to_datetime(["2026-01-01", None]),
            "z": pd.to_datetime(["2026-01-01", "2026-01-02"]).tz_localize("UTC"),
            "b": [True, False],
            7: [1, 2],
        },
        index=[5, 9],
    )
    found, what = frame_of(frame, [])
    assert what == "the frame"
    first = datetime(2026, 1, 1)
    expected = {
        "i": [1, None], "f": [0.5, None], "s": ["a", None], "c": ["u", None], "t": [first, None],
        "z": [first.replace(tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)], "b": [True, False],
        "7": [1, 2],
    }  # fmt: skip
    assert_frame_equal(found.fill_nan(None), pl.DataFrame(expected), check_dtypes=False)
    objects = frame[["i", "s"]].to_numpy()  # with pandas' NA in it
    assert frame_of(objects, ["i", "s"])[0].rows() == [(1, "a"), (None, None)]
    twice = pd.concat([frame[["f"]], frame[["f"]]], axis=1)
    with pytest.raises(
        UserError, match=r"the frame: several columns are called 'f' \(columns 1 to 2"
    ):
        frame_of(twice, [])


class Odd:
    """No value of a table."""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "rows must be a polars or pandas frame, .* got NoneType"),
        ([[1.0, 2.0]], "rows must be .* got list"),
        (pl.Series("a", [1.0]), "rows must be .* got Series"),
        (np.zeros(2), r"must be \(N, 2\), got the shape \(2,\); for one row give array\["),
        (np.zeros(3), r"the array must be \(N, 2\), got the shape \(3,\)$"),
        (np.zeros((4, 2, 1)), r"must be \(N, 2\), got the shape \(4, 2, 1\)"),
        (np.zeros((4, 3)), "the array has 3 columns, expected 2 in this order: 'a', 'b'"),
        (np.zeros((4, 2), complex), "must hold numbers, text or objects, got complex128"),
        (np.zeros((4, 2), "S3"), "must hold numbers, text or objects"),
        (np.ma.masked_array(np.zeros((4, 2)), np.eye(4, 2)), "the array is masked; fill it"),
        ({"a": [1, 2], "b": [1, 2, 3]}, "column 'b' has 3 values, 'a' has 2"),
        ({"a": [[1], [2]]}, "column 'a' holds a value of the type list in row 1; expected numbers"),
        ({"a": np.zeros((2, 2))}, r"the dict: column 'a' must be \(N,\), got the shape \(2, 2\)"),
        ({"a": [1.0, Odd()]}, "column 'a' holds a value of the type Odd in row 2"),
        ({"a": (each for each in "ab")}, "a value of the type generator in row 1"),
        ({"a": b"bytes"}, "a value of the type bytes in row 1"),
        ({"a": [1], " a": [2]}, r"the dict: several columns are called 'a' \(columns 1 to 2\)"),
        ({}, "the dict has no columns"),
        (pl.DataFrame(), "the frame has no columns"),
        (pl.DataFrame({"a": [1], "a ": [2]}), "several columns are called 'a'"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_one_error(rows: Any, message: str) -> None:
    """It says what was expected and what came."""
    with pytest.raises(UserError, match=message):
        frame_of(rows, ["a", "b"])
