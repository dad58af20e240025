"""Columns of text: one label is one label, one date one date, and each message has file and row."""

import logging
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from multilayer.core.errors import UserError
from multilayer.data import TableData
from multilayer.data import parquet_stream as streams
from multilayer.data.stray_strings import check_stray_strings
from multilayer.data.table import Columns, Table
from multilayer.data.table_builder import encode_table
from multilayer.data.table_files import Origin
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

from ..conftest import Run
from .test_text_format import FORMATS, few_rows_for_types, numbers_with, table_of, written

__all__ = ["few_rows_for_types"]  # a fixture that acts by itself


def read_as(columns: Columns, path: str | Path) -> Table:
    """Another file, read as one with the columns of a training."""
    frame, origin = read_frame_like(path, columns, TextFormat())
    return encode_table(frame, columns, origin)


STARTS = [datetime(2024, 3, 30, 23, 30) + timedelta(hours=7 * i) for i in range(60)]
DATES = {
    "without": pl.Series(STARTS).dt.cast_time_unit("us"),
    "with": pl.Series(STARTS).dt.cast_time_unit("ms").dt.replace_time_zone("Europe/Berlin"),
}


@pytest.mark.parametrize("now", ["csv", "parquet"])
@pytest.mark.parametrize("then", ["csv", "parquet", "stream"])
@pytest.mark.parametrize("zone", DATES)
def test_dates_with_a_time_zone_are_no_dates_without_one(
    tmp_path: Path, zone: str, then: str, now: str
) -> None:
    """They would be some hours off; those of two zones are the same in UTC."""
    path = written(pl.DataFrame({"t": DATES[zone], "y": [0.5, 1.5] * 30}), tmp_path, then)
    columns = table_of(path, stream=then == "stream").columns
    kinds = {name: f"dates {name} a time zone" for name in ("with", "without")}
    kinds["without"] = "dates without a time zone"
    assert columns.times == {"t": kinds[zone]}
    for other, dates in DATES.items():
        frame = pl.DataFrame({"t": dates, "y": [0.5, 1.5] * 30})
        path = written(frame, tmp_path, now)
        if other == zone:
            expected = STARTS[0].timestamp() / 86400 - (zone == "with") / 24
            assert read_as(columns, path).features[0, 0].item() == pytest.approx(expected)
            continue
        said = f"column 't' must hold {kinds[zone]}, as in training, found {kinds[other]}"
        with pytest.raises(UserError, match=said):
            read_as(columns, path)
        older = replace(columns, times={"t": "dates"})  # which does not know
        assert read_as(older, path).features.shape == (60, 1)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_dates_of_which_some_have_a_time_zone_are_refused(tmp_path: Path, form: str) -> None:
    """In one file and in several."""
    texts = [f"{start.isoformat()}{'+01:00' * (i < 40)}" for i, start in enumerate(STARTS)]
    path = written(pl.DataFrame({"t": texts, "y": [0, 1] * 30}), tmp_path, form)
    with pytest.raises(UserError, match=r"dates with a time zone, but '2024-\S+' in row 41;"):
        table_of(path)
    for part, rows in (("u-1", slice(0, 40)), ("u-2", slice(40, 60))):
        frame = pl.DataFrame({"t": texts, "y": [0, 1] * 30})[rows]
        path = written(frame, tmp_path, form)
        Path(path).rename(tmp_path / f"{part}.{form}")
    with pytest.raises(UserError, match=r"u-\d\.\w+: .*'t' holds|instead of"):
        table_of(str(tmp_path / f"u-*.{form}"))


ODD_NUMBERS = [
    *("12,34,567", "0x1F", "0b101", "1_000", "1d5", "1.5D-3", "\u22125", "(5)", "5-"),
    *("\uff11\uff12", "\u0663", "1,5e3", "'5'", '="5"', "5‰", "₹5", "1\u2019000"),
]


@pytest.mark.parametrize("n_odd", [1, 40, 60])
@pytest.mark.parametrize("word", ODD_NUMBERS)
def test_numbers_in_any_notation_are_no_words(word: str, n_odd: int) -> None:
    """They are refused with the row, and with what to do."""
    column = pl.Series("x", [word if i < n_odd else str(i % 7) for i in range(60)][::-1])
    said = f"t: column 'x' holds numbers, but {word!r} in row {61 - n_odd};"
    with pytest.raises(UserError, match=rf"{re.escape(said)} (say|write) .*, or take all for w"):
        check_stray_strings(column, TextFormat(), Origin("t"), otherwise="that")


@pytest.mark.parametrize("row", [2, 50])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("word", ["12,34,567", "0x1F", "\uff11\uff12"])
def test_numbers_in_any_notation_are_no_category(
    tmp_path: Path, word: str, form: str, row: int
) -> None:
    """In files of any kind, wherever they are; they may be taken for words."""
    path = written(numbers_with(word, row), tmp_path, form)
    said = re.escape(f"column 'x' holds numbers, but {word!r} in row {row + 1};")
    with pytest.raises(UserError, match=said):
        table_of(path, stream=form == "stream")
    columns = table_of(path, stream=form == "stream", categorical_columns=["x"]).columns
    assert word in columns.categories["x"]


def test_indian_groups_are_read_as_thousands(tmp_path: Path) -> None:
    """By the word that the message suggests."""
    x = [["12,34,567", "1,23,456.5", "99"][i % 3] for i in range(60)]
    path = written(pl.DataFrame({"x": x, "y": [0.5, 1.5] * 30}), tmp_path, "csv")
    table = table_of(path, thousands=",")
    assert table.features[:3, 0].tolist() == [1234567.0, 123456.5, 99.0]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("dates without a time zone", ["01/03/2024", "28/03/2024"]),
        ("dates without a time zone", ["3/1/24", "12/31/24"]),
        ("dates without a time zone", ["2024/03/01", "2024/03/31"]),
        ("dates without a time zone", ["01.03.2024 5:30", "31.03.2024 15:30"]),
        ("dates without a time zone", ["1 Mar 2024", "2 April 2024"]),
        ("dates without a time zone", ["Mar 1, 2024", "Dec 24, 2024"]),
        ("dates without a time zone", ["2024-01-31 24:00", "2024-01-30 24:00"]),
        ("dates with a time zone", ["01/03/2024 13:45Z", "02/03/2024 13:45Z"]),
        ("times of day", ["9:05", "10:05"]),
        ("times of day", ["9:05 PM", "10:05 am"]),
    ],
)
def test_dates_that_are_not_iso_are_no_category(
    tmp_path: Path, kind: str, words: list[str]
) -> None:
    """They are refused, with how to write them."""
    path = written(pl.DataFrame({"t": words * 30, "y": [0.5, 1.5, 2.5] * 20}), tmp_path, "tsv")
    said = f"t.tsv: column 't' holds {kind}, but '{words[0]}' in row 1; write {kind} as"
    with pytest.raises(UserError, match=re.escape(said)):
        table_of(path)
    assert len(table_of(path, categorical_columns=["t"]).columns.categories["t"]) == 2


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


FAULTS = {
    "x": ("?", "column 'x' must hold numbers, found '?' in row 6"),
    "x ": ("inf", "column 'x' is infinite in row 6"),
    "x  ": ("1e300", "column 'x' is 1e+300 in row 6 of w-2.csv: too far"),
    "y": ("?", "the target 'y' must hold numbers, found '?' in row 6"),
    "y ": ("", "the target 'y' is missing in row 6"),
    "y  ": ("1e300", "the target 'y' is 1e+300 in row 6 of w-2.csv: too far"),
    "c": ("9", "the target 'c' is '9' in row 6, none of the classes"),
}


def write_parts(folder: Path, column: str, word: str) -> None:
    """Three files, of which the second has a word in its sixth row."""
    for part in (1, 2, 3):
        rows = {"x": [f"{i / 7:.3f}" for i in range(60)], "c": ["0", "1"] * 30}
        rows["y"] = [f"{i / 3:.3f}" for i in range(60)]
        if part == 2:
            rows[column.strip()][5] = word
        pl.DataFrame(rows).write_csv(folder / f"w-{part}.csv")


@pytest.mark.parametrize("column", FAULTS)
def test_a_fault_in_one_of_several_files_is_reported_with_file_and_row(
    multilayer: Run, column: str
) -> None:
    """By evaluate, by predict for the features, and in a file of test rows."""
    word, said = FAULTS[column]
    said = said if "w-2.csv" in said else f"w-2.csv: {said}"
    target = "c" if column == "c" else "y"
    write_parts(Path(), "x", "0.5")
    words = [
        "data=table",
        f"data.target={target}",
        "data.drop_columns=[" + "yc".replace(target, "") + "]",
    ]
    quick = ["trainer.max_epochs=1", "hydra.run.dir=run"]
    assert multilayer("train", *words, *quick, "data.path=w-*.csv").code == 0
    write_parts(Path(), column, word)
    outcome = multilayer("evaluate", "run=run", "data.path=w-*.csv")
    assert (outcome.code, said in outcome.err) == (2, True), outcome.err
    Path("w-1.csv").rename("t.csv")
    outcome = multilayer("train", *words, *quick[:1], "data.path=t.csv", "data.test_path=w-*.csv")
    assert (outcome.code, said.split(" is 1e+300")[0] in outcome.err) == (2, True), outcome.err
    if column.strip() == "x":
        outcome = multilayer("predict", "run=run", "input=w-*.csv", "output=p.csv")
        assert (outcome.code, said in outcome.err) == (2, True), outcome.err
        assert not Path("p.csv").exists()


def test_a_target_of_words_in_one_of_several_files_is_reported(tmp_path: Path) -> None:
    """Also where most of its values are words."""
    write_parts(tmp_path, "y", "soon")
    with pytest.raises(UserError, match=r"w-2\.csv: column 'y' holds numbers, but 'soon' in row 6"):
        table_of(str(tmp_path / "w-*.csv"), task="regression")
    frame = pl.DataFrame({"x": range(60), "c": [0, 1] * 30, "y": ["soon"] * 60})
    for part in (2, 3):
        frame.write_csv(tmp_path / f"w-{part}.csv")
    with pytest.raises(UserError, match=r"w-2\.csv: the target 'y' must hold .* 'soon' in row 1 "):
        table_of(str(tmp_path / "w-*.csv"), task="regression")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small table is read in pieces, and most rows are in no sample."""
    monkeypatch.setattr(streams, "_CHUNK_VALUES", 400)
    monkeypatch.setattr(streams, "_HELD_OUT_BYTES", 2000)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("far", [1e300, -1e60])
def test_a_streamed_target_that_is_too_far_is_reported(tmp_path: Path, far: float) -> None:
    """With its row in its own file, though it is in no sample; it was infinite, without a word."""
    n, row = 2000, 1777
    for part in (1, 2):
        y = [far if (part, i) == (2, row) else i / 2 for i in range(n)]
        frame = pl.DataFrame({"x": [i * 7919 % n for i in range(n)], "y": y})
        frame.write_parquet(tmp_path / f"s-{part}.parquet")
    data = TableData(path=str(tmp_path / "s-*.parquet"), target="y", stream=True)
    data.setup()
    assert data.targets.abs().max() < 1e3, "the row is in the sample: choose another one"
    said = re.escape(f"the target 'y' is {far:g} in row {row + 1} of s-2.parquet: too far")
    with pytest.raises(UserError, match=said):
        list(data.train_minibatches())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\nx,y\n1,2\n", "its first line is blank, expected a header"),
        ("x,y\r1,2\r3,4\r", r"its lines end with \\r alone; save the file with \\n"),
        ("sep=,\nx,y\n1,2\n", "its first line, 'sep=,', is no header; delete that line"),
        ("\ufeff\ufeffx,x\n1,2\n", "several columns are called 'x'"),
    ],
)
def test_a_missing_header_is_reported(tmp_path: Path, content: str, said: str) -> None:
    """What is there in its place."""
    (tmp_path / "t.csv").write_bytes(content.encode())
    with pytest.raises(UserError, match=f"t.csv: {said}"):
        table_of(str(tmp_path / "t.csv"))


def test_byte_order_marks_are_no_part_of_a_name(tmp_path: Path) -> None:
    """Not of the first one, and not of one that was joined to others."""
    rows = "".join(f"{i % 2},{i / 7},a\n" for i in range(60))
    (tmp_path / "t.csv").write_text(f"\ufeff\ufeffy,\ufeffx,c\n{rows}")
    table = table_of(str(tmp_path / "t.csv"), drop_columns=["c"])
    assert (table.columns.features, table.columns.target) == (["x"], "y")
