"""Labels of categories and classes: one label is one label, however a file writes it."""

import logging
from pathlib import Path

import polars as pl
import pytest

from multilayer.core.errors import UserError
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_table
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

from .tables import read_as, table_of, written
from .test_table_io import read_frame

pytestmark = pytest.mark.usefixtures("few_rows_for_types")


def test_classes_may_be_numbers_and_words(tmp_path: Path) -> None:
    """A few labels are classes; a word that may hide a missing value is none."""
    frame = pl.DataFrame({"x": [i / 7 for i in range(60)], "y": ["10", "11", "K"] * 20})
    assert table_of(written(frame, tmp_path, "csv")).columns.classes == ["10", "11", "K"]
    frame = frame.with_columns(pl.col("y").replace("K", "?"))
    with pytest.raises(UserError, match=r"column 'y' holds numbers, but '\?' in row 3"):
        table_of(written(frame, tmp_path, "csv"))
    classes = table_of(written(frame, tmp_path, "csv"), task="multiclass").columns.classes
    assert classes == ["10", "11", "?"]


def test_text_of_a_typed_file_stays_text(tmp_path: Path) -> None:
    """Numbers and booleans that were stored as text are labels there."""
    frame = pl.DataFrame({"zip": ["07", "8"] * 30, "flag": ["true", "false"] * 30})
    frame.write_parquet(tmp_path / "t.parquet")
    assert read_frame(tmp_path / "t.parquet").equals(frame)
    known = read_frame(tmp_path / "t.parquet", None, {"zip": "number"})
    assert known["zip"].to_list() == [7, 8] * 30


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_spaces_around_names_and_values_are_nothing(tmp_path: Path, form: str) -> None:
    """Of names, numbers, labels and classes, whoever wrote them."""
    frame = pl.DataFrame(
        {
            "a": [" 1", "2 ", "2.5"] * 20,
            " c": ["red", "red ", " blue"] * 20,
            " y ": ["yes", "yes ", "no"] * 20,
        }
    )
    table = table_of(written(frame, tmp_path, form), missing=["2.5"])
    assert table.columns.features == ["a", "c"]
    assert table.columns.categories == {"c": ["blue", "red"]}
    assert table.columns.classes == ["no", "yes"]
    assert table.features[:3, 0].nan_to_num(-1).tolist() == [1.0, 2.0, -1.0]


def test_an_older_run_finds_its_names_and_labels(tmp_path: Path) -> None:
    """Which had the spaces around them."""
    columns = Columns(["a", " c"], " y", "binary", ["no", "yes "], {" c": [" red", "red"]})
    (tmp_path / "f.csv").write_text("a, c, y\n1, red,yes \n2,red,no\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    table = encode_table(frame, columns, origin)
    assert table.features.tolist() == [[1.0, 0.0], [2.0, 1.0]]
    assert table.target.tolist() == [1, 0]


def test_a_target_of_numbers_as_text_may_be_regressed_on(tmp_path: Path) -> None:
    """In a file that has types; without a word they are classes."""
    values = [f"{i / 7:.3f}" for i in range(60)]
    path = written(pl.DataFrame({"x": range(60), "y": values}), tmp_path, "parquet")
    table = table_of(path, task="regression")
    assert table.target.tolist() == pytest.approx([float(value) for value in values])


@pytest.mark.parametrize("word", ["1.2.3", "A-12", "5 kg", "3-4", "1st", "2020/21", "12-3456"])
def test_codes_are_categories(tmp_path: Path, word: str) -> None:
    """Though they have digits."""
    path = written(
        pl.DataFrame({"c": [word, "b"] * 30, "y": [0.5, 1.5, 2.5] * 20}), tmp_path, "csv"
    )
    assert table_of(path).columns.categories == {"c": sorted([word, "b"])}


@pytest.mark.parametrize("row", [2, 50])
def test_a_column_that_is_declared_categorical_keeps_its_text(tmp_path: Path, row: int) -> None:
    """Zeros before a number too, wherever they are in the file; plain numbers are as ever."""
    codes = ["1234", "20001"] * 30
    frame = pl.DataFrame({"zip": codes, "y": [0.5, 1.5, 2.5] * 20})
    plain = table_of(written(frame, tmp_path, "csv"), categorical_columns=["zip"]).columns
    assert plain.categories == {"zip": ["1234", "20001"]}
    codes[row] = "01234"
    path = written(frame.with_columns(zip=pl.Series(codes)), tmp_path, "csv")
    columns = table_of(path, categorical_columns=["zip"]).columns
    assert columns.categories == {"zip": ["01234", "1234", "20001"]}
    assert read_as(columns, path).features[:, 0].int().tolist() == [
        ["01234", "1234", "20001"].index(code) for code in codes
    ]
    assert table_of(path).columns.categories == {}


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (["1.0", "2.50", "10"], ["1", "2.5", "10"]),
        (["3", "NaN", "20"], ["3", "20"]),
        (["true", "FALSE"], ["false", "true"]),
        (["12345678901234567890", "12345678901234567891"], None),
        (["+5", "5"], ["+5", "5"]),
        (["NA", "5"], ["5", "NA"]),
        (["2024-01-01", "2024-01-02"], None),
    ],
)
def test_labels_of_a_declared_category(
    tmp_path: Path, words: list[str], labels: list[str] | None
) -> None:
    """Numbers in their order, and words; each is found again."""
    codes = (words * 60)[:60]
    path = written(pl.DataFrame({"c": codes, "y": [0.5, 1.5, 2.5, 3.5] * 15}), tmp_path, "csv")
    table = table_of(path, categorical_columns=["c"])
    assert table.columns.categories == {"c": words if labels is None else labels}
    again = read_as(table.columns, path).features
    assert again.nan_to_num(-1).tolist() == table.features.nan_to_num(-1).tolist()


def test_zeros_before_a_label_make_another_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the files of evaluate and predict, either way, with a warning; NA is missing."""
    for then, now in (("1234", "01234"), ("01234", "1234")):
        columns = Columns(["zip"], "y", "regression", [], {"zip": sorted([then, "20001"])})
        (tmp_path / "f.csv").write_text(f"zip,y\n{now},1\n20001,2\nNA,3\n,4\n")
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = read_as(columns, tmp_path / "f.csv").features[:, 0]
        assert found[:2].tolist() == [2, columns.categories["zip"].index("20001")]
        assert found[2:].isnan().all()
        assert f"holds '{now}', which is not the label '{then}' of the training" in caplog.text


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("labels", [["1.50", "2.25", "A"], ["1.5", "2.25", "3.0"]])
def test_a_decimal_label_is_one_however_it_is_written(
    tmp_path: Path, labels: list[str], form: str
) -> None:
    """As a class and as a category."""
    columns = Columns(["c"], "y", "multiclass", labels, {"c": labels})
    others = [label.rstrip("0") if label.endswith("50") else f"{label}0" for label in labels]
    others = [label if label[0].isdigit() else "A" for label in others]
    frame = pl.DataFrame({"c": others, "y": others})
    table = read_as(columns, written(frame, tmp_path, form))
    assert table.features[:, 0].tolist() == [0, 1, 2]
    assert table.target.tolist() == [0, 1, 2]


def test_decimals_that_are_classes(tmp_path: Path) -> None:
    """In training they are numbers, or words; the other way of writing them is read likewise."""
    decimals = pl.Series(["1.50", "2.25", "3.00"] * 20)
    for form, y in (("csv", decimals), ("parquet", decimals.str.to_decimal(scale=2))):
        path = written(pl.DataFrame({"x": range(60), "y": y}), tmp_path, form)
        columns = table_of(path, task="multiclass").columns
        (tmp_path / "f.csv").write_text("x,y\n1,1.5\n2,2.250\n3,3\n")
        assert read_as(columns, tmp_path / "f.csv").target.tolist() == [0, 1, 2]
