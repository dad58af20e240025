"""Missing values as other tools spell them, and words that may be missing values."""

import logging
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multilayer.core.errors import UserError
from multilayer.core.text import as_override
from multilayer.data.missing_values import PLACEHOLDERS, SPELLED_MISSING
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_features, encode_table
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextColumn, TextFormat

from .tables import FORMATS, numbers_with, table_of, written
from .test_table_io import read_frame

pytestmark = pytest.mark.usefixtures("few_rows_for_types")

SPELLINGS = ["nan", "NaN", "NAN", "-nan", "NA", "N/A", "n/a", "null", "NULL", "None", "#N/A"]
SPELLINGS += ["<NA>", "NaT", r"\N", "-1.#IND", "", " ", " NA "]


@pytest.mark.parametrize("row", [2, 50])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("word", SPELLINGS)
def test_a_missing_number_may_be_spelled_in_any_way(
    tmp_path: Path, word: str, form: str, row: int
) -> None:
    """One value is missing, and all others are the numbers that they are."""
    if word.strip() == "" and form in ("parquet", "stream"):
        pytest.skip("text without words in a file with types of its own stays text")
    path = written(numbers_with(word, row), tmp_path, form)
    table = table_of(path, stream=form == "stream")
    assert set(table.columns.categories) == {"c"}
    expected = torch.tensor([round(i / 7, 3) for i in range(60)])
    expected[row] = torch.nan
    found = table.features[:, 0].float()
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("row", [2, 50])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("word", [*PLACEHOLDERS, "abc", "#DIV/0!"])
def test_a_word_that_is_not_clear_is_refused(
    tmp_path: Path, word: str, form: str, row: int
) -> None:
    """With the value, its row, and what to say if it is missing; which then is read so."""
    path = written(numbers_with(word, row), tmp_path, form)
    with pytest.raises(UserError) as error:
        table_of(path, stream=form == "stream")
    assert f"column 'x' holds numbers, but {word!r} in row {row + 1};" in str(error.value)
    assert as_override("data.missing", [word]) in str(error.value)
    table = table_of(path, stream=form == "stream", missing=[word])
    assert set(table.columns.categories) == {"c"}
    assert table.features[:, 0].isnan().nonzero().flatten().tolist() == [row]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*SPELLED_MISSING, "1", "2.5", "-3e2", ""]), min_size=1))
def test_numbers_among_missing_values_are_numbers(values: list[str]) -> None:
    """Whatever spellings come together, and whatever the share of them is."""
    text = TextColumn("x", TextFormat(), "number")
    column = pl.Series("x", [*values, "0.5", "n/a"])
    n_rows, stats = TextColumn.stats_of(column.to_frame().lazy(), [text])
    assert n_rows == len(column)
    assert text.infer_type(stats["x"], is_text_file=True) == pl.Float64
    found = text.cast(column, pl.Float64())
    assert found is not None
    expected = {"1": 1.0, "2.5": 2.5, "-3e2": -300.0}
    assert found.to_list() == [*(expected.get(value) for value in values), 0.5, None]


@pytest.mark.parametrize(("word", "role"), [("nan", "target"), ("NA", "target"), ("NA", "group")])
def test_a_missing_target_or_group_is_reported(tmp_path: Path, word: str, role: str) -> None:
    """Also where the words around it are numbers."""
    frame = numbers_with("0.5", 3).with_columns(
        z=pl.when(pl.int_range(60) == 50).then(pl.lit(word)).otherwise(pl.lit("3"))
    )
    if role == "target":
        frame = frame.with_columns(y="z").drop("z")
        frame = frame.with_columns(
            y=pl.when(pl.int_range(60) < 30).then(pl.lit("1")).otherwise("y")
        )
    path = written(frame, tmp_path, "csv")
    with pytest.raises(
        UserError, match=r"(the target 'y'|data.group_column 'z') is missing in row 51"
    ):
        table_of(path, group_column="z" if role == "group" else None)


def test_many_missing_values_bring_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the words: where they are clear, where they are not, and among words."""
    frame = pl.DataFrame(
        {
            "x": ["NA" if i % 20 < 13 else str(i) for i in range(60)],
            "z": ["?" if i % 20 < 13 else str(i % 5) for i in range(60)],
            "c": ["NA", "red", "blue"] * 20,
            "y": ["yes", "no", "-"] * 20,
        }
    )
    path = written(frame, tmp_path, "csv")
    with caplog.at_level(logging.WARNING):
        table = table_of(path)
    assert set(table.columns.categories) == {"z", "c"}
    assert "'NA' in column 'x' counts as a missing value" in caplog.text
    assert "column 'z' is taken for words: of its values 35% are numbers, the others '?'" in (
        caplog.text
    )
    assert "\"data.missing=['?']\"" in caplog.text
    assert "'NA' in 'c' count as labels" in caplog.text
    assert "'-' in 'y' count as labels" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        table = table_of(path, missing=["NA", "?"])
    assert table.columns.categories == {"c": ["blue", "red"]}
    assert table.features.isnan().sum(0).tolist() == [39, 39, 20]
    assert "'NA' in" not in caplog.text
    assert "say \"data.missing=['NA','?','-']\"" in caplog.text  # which has those of before


def test_numbers_may_stand_for_missing_values(tmp_path: Path) -> None:
    """However they are written, in text and as numbers."""
    frame = pl.DataFrame({"x": [1.5, -999.0, 2.5] * 20, "z": [-999, 2, 3] * 20, "y": [0, 1] * 30})
    for form in ("csv", "parquet"):
        table = table_of(written(frame, tmp_path, form), missing=[-999])
        assert table.features.isnan().sum(0).tolist() == [20, 20]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_without_any_value_of_a_number_is_read(tmp_path: Path, form: str) -> None:
    """They are missing, though the file cannot tell that they are numbers."""
    path = written(pl.DataFrame({"x": ["NA"] * 40}), tmp_path, form)
    columns = Columns(["x"], "y", "regression", [])
    frame, origin = read_frame_like(path, columns, TextFormat())
    assert encode_features(frame, columns, origin).isnan().all()


def test_an_older_run_finds_labels_that_are_missing_values_now(tmp_path: Path) -> None:
    """They are what they were in training."""
    labels = ["1", "2.5", "NA", "nan"]
    columns = Columns(["c"], "y", "regression", [], {"c": labels})
    (tmp_path / "f.csv").write_text("c,y\nNA,1\n1,2\nnan,3\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    assert encode_table(frame, columns, origin).features[:, 0].tolist() == [2.0, 0.0, 3.0]


def test_a_missing_word_and_spaces_in_an_enum(tmp_path: Path) -> None:
    """As in any other column of words; the labels stay in their order."""
    labels = pl.Enum(["w ", "?", " u", "v", "u"])
    column = pl.Series("c", ["w ", "?", " u", "v", "u", None] * 10, dtype=labels)
    path = written(pl.DataFrame({"c": column, "y": [0.5, 1.5, 2.5] * 20}), tmp_path, "parquet")
    frame = read_frame(path, TextFormat(missing=("?",)))
    assert frame.schema["c"] == pl.Enum(["w", "u", "v"])
    assert frame["c"].head(6).to_list() == ["w", None, "u", "v", "u", None]


@pytest.mark.parametrize("row", [2, 50])
def test_not_a_number_is_reported_wherever_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: int
) -> None:
    """Behind the rows that the types are taken from too."""
    with caplog.at_level(logging.WARNING):
        table = table_of(written(numbers_with("nan", row), tmp_path, "csv"))
    assert table.features[:, 0].isnan().sum() == 1
    assert "'nan' in column 'x' counts as a missing value" in caplog.text


def test_numbers_that_a_typed_file_has_as_text_are_said_to_be_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Until they are declared to be; two labels may be either."""
    frame = pl.DataFrame(
        {
            "weight": [f"{77.5 + row % 30}" for row in range(60)],
            "flag": ["0", "1"] * 30,
            "code": ["1a", "2", "30"] * 20,
            "x": [row / 7 for row in range(60)],
            "y": ["yes", "no", "perhaps"] * 20,
        }
    )
    path = written(frame, tmp_path, "parquet")
    with caplog.at_level(logging.WARNING):
        table = table_of(path, categorical_columns=["code"])
    assert len(table.columns.categories["weight"]) == 30
    assert "'weight': numbers that are text in the file count as labels" in caplog.text
    assert '"data.categorical_columns=[code,weight]"' in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        table_of(path, categorical_columns=["code", "weight"])
    assert "count as labels" not in caplog.text
