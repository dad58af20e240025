"""Words among numbers: refused with file and row, and with what to say instead."""

import logging
import re
from pathlib import Path

import polars as pl
import pytest

from multilayer.core.errors import UserError
from multilayer.data import TableData
from multilayer.data import parquet_stream as streams
from multilayer.data.origin import Origin
from multilayer.data.stray_strings import StrayString, _remedy, check_stray_strings
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_features
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

from ..conftest import Run
from ..core.test_text import pasted
from .tables import FORMATS, numbers_with, table_of, written

pytestmark = pytest.mark.usefixtures("few_rows_for_types")


def test_a_stray_value_in_the_target_is_reported(tmp_path: Path) -> None:
    """It is no class of its own."""
    path = written(numbers_with("?", 7).rename({"x": "y", "y": "x"}), tmp_path, "csv")
    with pytest.raises(UserError, match=r"column 'y' holds numbers, but '\?' in row 8"):
        table_of(path)


@pytest.mark.parametrize("word", ["maybe", "2.5"])
def test_a_stray_value_among_booleans_is_reported_with_its_row(tmp_path: Path, word: str) -> None:
    """Not the first boolean, which is no slip."""
    (tmp_path / "f.csv").write_text(f"x\nTrue\nfalse\n{word}\nTrue\n")
    columns = Columns(["x"], "y", "regression", [])
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=f"must hold numbers, found '{word}' in row 3 among bool"):
        encode_features(frame, columns, origin)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("1,022", [{"thousands": ","}, {"decimal": ","}]),
        ("1,5", [{"decimal": ","}]),
        ("1,022.5", [{"thousands": ",", "decimal": "."}]),
        ("1.022,5", [{"thousands": ".", "decimal": ","}]),
        ("1.022.333", [{"thousands": "."}]),
        ("1 022", [{"thousands": " "}]),
        ("1'022", [{"thousands": "'"}]),
        (",5", [{"decimal": ","}]),
        ("?", [{"missing": ["?"]}]),
        ("don't", [{"missing": ["don't"]}]),
        ('$ 5" `x`', [{"missing": ['$ 5" `x`']}]),
    ],
)
def test_what_to_say_works_when_it_is_pasted(word: str, values: list[dict[str, object]]) -> None:
    """Through a shell and Hydra to the value that is meant."""
    slip = StrayString("numbers", word, 0, 1, [word], has_decimals=False)
    found = pasted(re.findall(r'"data\.(?:[^"\\]|\\.)*"', _remedy(slip, TextFormat())))
    expected = [{key: value} for each in values for key, value in each.items()]
    assert found == expected


@pytest.mark.parametrize(
    ("values", "word", "decimal", "said"),
    [
        ("{}.126", "1,5", ".", "write it as 1.5, as the other numbers are, or"),
        ("{},126", "1.5", ",", "write it as 1,5, as the other numbers are, or"),
        ("{}.12", "1,5", ",", "\"data.decimal='.'\", or"),
        ("2026-03-{:02}", "0", ".", "\"data.missing=['0']\", or"),
        ("2026-03-{:02}", "-999", ".", "\"data.missing=['-999']\", or"),
        ("{:02}:30", "25:05", ".", "write times of day as 13:45, or"),
        ("2026-03-{:02}", "3/4/2026", ".", "write dates without a time zone as 2026-03-01 or"),
        ("{}.5", "1,5e3", ".", "write it as 1.5e3, as the other numbers are, or"),
        ("{},5", "1,5e3", ".", "say \"data.decimal=','\", or"),
        ("{:02}:30", "?", ".", "\"data.missing=['?']\", or"),
    ],
)
def test_a_remedy_is_one(tmp_path: Path, values: str, word: str, decimal: str, said: str) -> None:
    """It suits what the other values are, and does not lead from one refusal to the next."""
    x = [values.format(i % 20 + 1) for i in range(60)]
    frame = pl.DataFrame({"x": [*x[:-1], word], "y": [0, 1] * 30})
    with pytest.raises(UserError, match=re.escape(said)):
        table_of(written(frame, tmp_path, "tsv"), decimal=decimal)


def test_another_label_among_booleans_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It makes a category of them."""
    frame = pl.DataFrame({"x": [*["True", "False"] * 29, "True", "maybe"], "y": [0, 1] * 30})
    with caplog.at_level(logging.WARNING):
        table = table_of(written(frame, tmp_path, "csv"))
    assert table.columns.categories == {"x": ["False", "True", "maybe"]}
    assert "of its values 98% are booleans, the others 'maybe'" in caplog.text


@pytest.mark.parametrize("word", ["$5", "5 %", "1,022 €", "-£5", "'022'"])
def test_signs_at_numbers_are_reported(tmp_path: Path, word: str) -> None:
    """Though all numbers of the column have them; they can be taken for categories."""
    frame = numbers_with("1", 0).with_columns(x=pl.Series([word, "7", "8"] * 20))
    path = written(frame, tmp_path, "csv")
    with pytest.raises(UserError) as error:
        table_of(path)
    assert f"'x' holds numbers, but {word!r} in row 1; write numbers as -1234.5," in str(
        error.value
    )
    assert table_of(path, categorical_columns=["x"]).columns.categories["x"] == sorted(
        [word, "7", "8"]
    )


@pytest.mark.parametrize(
    ("form", "said"),
    [("${}", "write numbers as"), ("{}%", "write numbers as"), ("{},5", "data.decimal=','")],
)
def test_a_target_of_marked_numbers_is_not_taken_for_classes(
    tmp_path: Path, form: str, said: str
) -> None:
    """However few there are; some marked numbers among words, and plain ones as text, are."""
    frame = pl.DataFrame({"x": range(60), "y": [form.format(i % 5) for i in range(60)]})
    with pytest.raises(UserError, match=re.escape(said)) as error:
        table_of(written(frame, tmp_path, "parquet"))
    assert "data.task=multiclass" in str(error.value)
    table = table_of(written(frame, tmp_path, "parquet"), task="multiclass")
    assert len(table.columns.classes) == 5
    mixture = frame.with_columns(y=pl.concat([pl.Series("y", ["free"]), frame["y"][1:]]))
    assert len(table_of(written(mixture, tmp_path, "parquet")).columns.classes) == 6
    plain = frame.with_columns(y=pl.col("y").str.extract(r"(\d)"))
    assert len(table_of(written(plain, tmp_path, "parquet")).columns.classes) == 5


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_stray_value_in_one_of_several_files_is_reported_with_its_row(
    tmp_path: Path, place: int
) -> None:
    """In its own file, wherever that is among the others."""
    for i in (1, 2, 3):
        frame = numbers_with("?" if i == place else "0.5", 30)
        written(frame, tmp_path, "csv")
        (tmp_path / "t.csv").rename(tmp_path / f"w-{i}.csv")
    expected = f"w-{place}.csv: column 'x' holds numbers, but '?' in row 31; if it stands for"
    with pytest.raises(UserError, match=re.escape(expected)):
        table_of(str(tmp_path / "w-*.csv"))
    assert len(table_of(str(tmp_path / "w-*.csv"), missing=["?"]).target) == 180


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
