"""Values as other tools write them: what is missing, a number, a date, or refused."""

import gzip
import logging
import re
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from multilayer.core.errors import UserError
from multilayer.core.text import as_override
from multilayer.data import Preprocessing, TableData
from multilayer.data.missing_values import PLACEHOLDERS, SPELLED_MISSING
from multilayer.data.stray_strings import _remedy, _StrayString
from multilayer.data.table import Columns, Table
from multilayer.data.table_builder import encode_features, encode_table
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import (
    TextColumn,
    TextFormat,
)

from ..conftest import Run
from ..training.test_evaluate import printed
from .test_table_io import read_frame

FORMATS = ["csv", "csv.gz", "tsv", "parquet", "stream"]
SPELLINGS = ["nan", "NaN", "NAN", "-nan", "NA", "N/A", "n/a", "null", "NULL", "None", "#N/A"]
SPELLINGS += ["<NA>", "NaT", r"\N", "-1.#IND", "", " ", " NA "]


@pytest.fixture(autouse=True)
def few_rows_for_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small file has rows far behind those that the types are taken from."""
    monkeypatch.setattr("multilayer.data.table_io._ROWS_FOR_TYPES", 20)


def written(frame: pl.DataFrame, folder: Path, form: str) -> str:
    """The path of a frame in a file of this format; text stays text in Parquet."""
    path = folder / f"t.{form.replace('stream', 'parquet')}"
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        content = frame.write_csv(separator="\t" if form == "tsv" else ",").encode()
        path.write_bytes(gzip.compress(content) if form == "csv.gz" else content)
    return str(path)


def table_of(path: str, *, stream: bool = False, **options: object) -> Table:
    """What is read of a file that predicts `y`."""
    return TableData(path=path, target="y", stream=stream, **options).load()  # type: ignore[arg-type]


def pasted(words: list[str]) -> list[dict[str, object]]:
    """What an interactive shell, Hydra and OmegaConf make of words of the command line."""
    command = "set -o history -o histexpand\nprintf '%s\\0' " + " ".join(words)
    done = subprocess.run(["bash"], input=command, check=True, capture_output=True, text=True)
    parser = OverridesParser.create()
    overrides = [parser.parse_override(each) for each in done.stdout.split("\0")[:-1]]
    found = [{o.key_or_group.removeprefix("data."): o.value()} for o in overrides]
    return [OmegaConf.to_container(OmegaConf.create(each), resolve=True) for each in found]  # type: ignore[misc]


def numbers_with(word: str, row: int, n: int = 60) -> pl.DataFrame:
    """A column of numbers as text with a word in one row, a category and a target."""
    x = [f"{i / 7:.3f}" for i in range(n)]
    x[row] = word
    return pl.DataFrame({"x": x, "c": ["a", "b", "c"] * (n // 3), "y": [0, 1] * (n // 2)})


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


@pytest.mark.parametrize("word", ["inf", "Inf", "-inf", "+inf", "Infinity", "1e999"])
@pytest.mark.parametrize("form", FORMATS)
def test_an_infinite_number_is_reported_in_any_spelling(
    tmp_path: Path, word: str, form: str
) -> None:
    """As such, with its row."""
    path = written(numbers_with(word, 50), tmp_path, form)
    with pytest.raises(UserError, match=r"column 'x' .*in row 51"):
        table_of(path, stream=form == "stream")


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


def test_a_stray_value_in_the_target_is_reported(tmp_path: Path) -> None:
    """It is no class of its own."""
    path = written(numbers_with("?", 7).rename({"x": "y", "y": "x"}), tmp_path, "csv")
    with pytest.raises(UserError, match=r"column 'y' holds numbers, but '\?' in row 8"):
        table_of(path)


def test_classes_may_be_numbers_and_words(tmp_path: Path) -> None:
    """A few labels are classes; a word that may hide a missing value is none."""
    frame = pl.DataFrame({"x": [i / 7 for i in range(60)], "y": ["10", "11", "K"] * 20})
    assert table_of(written(frame, tmp_path, "csv")).columns.classes == ["10", "11", "K"]
    frame = frame.with_columns(pl.col("y").replace("K", "?"))
    with pytest.raises(UserError, match=r"column 'y' holds numbers, but '\?' in row 3"):
        table_of(written(frame, tmp_path, "csv"))
    classes = table_of(written(frame, tmp_path, "csv"), task="multiclass").columns.classes
    assert classes == ["10", "11", "?"]


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
    assert "NA" not in caplog.text


def test_numbers_may_stand_for_missing_values(tmp_path: Path) -> None:
    """However they are written, in text and as numbers."""
    frame = pl.DataFrame({"x": [1.5, -999.0, 2.5] * 20, "z": [-999, 2, 3] * 20, "y": [0, 1] * 30})
    for form in ("csv", "parquet"):
        table = table_of(written(frame, tmp_path, form), missing=[-999])
        assert table.features.isnan().sum(0).tolist() == [20, 20]


@pytest.mark.parametrize("word", ["maybe", "2.5"])
def test_a_stray_value_among_booleans_is_reported_with_its_row(tmp_path: Path, word: str) -> None:
    """Not the first boolean, which is no slip."""
    (tmp_path / "f.csv").write_text(f"x\nTrue\nfalse\n{word}\nTrue\n")
    columns = Columns(["x"], "y", "regression", [])
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=f"must hold numbers, found '{word}' in row 3 among bool"):
        encode_features(frame, columns, origin)


def test_a_file_that_writes_numbers_otherwise_than_the_training_is_reported(tmp_path: Path) -> None:
    """It is the run that knows how they are written."""
    (tmp_path / "f.csv").write_text('x\n7\n"1,022"\n')
    columns = Columns(["x"], "y", "regression", [])
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=r"'1,022' in row 2 among numbers; write numbers as they"):
        encode_features(frame, columns, origin)
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat(thousands=","))
    assert encode_features(frame, columns, origin).tolist() == [[7.0], [1022.0]]


STARTS = datetime(2024, 2, 28, 23, 59, 30)
TIMES = [STARTS + timedelta(hours=5 * i, seconds=i) for i in range(60)]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(TIMES).dt.date(),
        pl.Series(TIMES).dt.cast_time_unit("us"),
        pl.Series(TIMES).dt.cast_time_unit("ms").dt.replace_time_zone("Europe/Berlin"),
        pl.Series(TIMES).dt.time(),
    ],
)
def test_times_are_the_same_numbers_in_text_as_in_parquet(
    tmp_path: Path, column: pl.Series
) -> None:
    """What was trained on the one predicts from the other."""
    frame = pl.DataFrame({"t": column, "y": [0, 1] * 30})
    tables = [table_of(written(frame, tmp_path, form)) for form in ("csv", "parquet")]
    assert tables[0].columns == tables[1].columns
    assert tables[0].columns.categories == {}
    torch.testing.assert_close(tables[0].features, tables[1].features)


@pytest.mark.parametrize(("then", "now"), [("2024-05-01", "2024"), ("2024", "2024-05-01")])
def test_dates_are_no_numbers_of_another_kind(tmp_path: Path, then: str, now: str) -> None:
    """A year is not taken for a day, nor a day for a year; an older run cannot tell."""
    (tmp_path / "t.csv").write_text("t,x,y\n" + f"{then},1.5,0\n,2.5,1\n" * 30)
    (tmp_path / "f.csv").write_text(f"t,x,y\n{now},1.5,0\n")
    columns = table_of(str(tmp_path / "t.csv")).columns
    columns = Columns(**columns.to_dict())
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=r"column 't' must hold [\w ]+, as in training, found"):
        encode_features(frame, columns, origin)
    assert encode_features(frame, replace(columns, times=None), origin).shape == (1, 2)
    (tmp_path / "f.csv").write_text("t,x,y\n,1.5,0\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    assert encode_features(frame, columns, origin)[:, 0].isnan().all()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_without_any_value_of_a_number_is_read(tmp_path: Path, form: str) -> None:
    """They are missing, though the file cannot tell that they are numbers."""
    path = written(pl.DataFrame({"x": ["NA"] * 40}), tmp_path, form)
    columns = Columns(["x"], "y", "regression", [])
    frame, origin = read_frame_like(path, columns, TextFormat())
    assert encode_features(frame, columns, origin).isnan().all()


def test_a_table_that_is_read_otherwise_than_in_training_is_refused(tmp_path: Path) -> None:
    """As one of an older version, which took its numbers for a category."""
    path = written(numbers_with("NA", 2), tmp_path, "csv")
    older = Columns(["x", "c"], "y", "binary", ["0", "1"], {"x": ["1", "NA"], "c": ["a", "b", "c"]})
    data = TableData(path=path, target="y", preprocessing=Preprocessing.of(older))
    with pytest.raises(UserError, match="not read as it was in the training"):
        data.setup()


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024-02-29", None, "2024-02-29T00:00:00"),
        ("2024-02-29 05:06", None, "2024-02-29T05:06:00"),
        ("2024-02-29T05:06:07.25", None, "2024-02-29T05:06:07.25"),
        ("2024-02-29T05:06:07Z", "UTC", "2024-02-29T05:06:07"),
        ("2024-02-29 05:06:07+02:00", "UTC", "2024-02-29T03:06:07"),
        ("2024-02-29T05:06-0130", "UTC", "2024-02-29T06:36:00"),
        ("2023-02-29", None, None),
        ("29.02.2024", None, None),
        ("1-2-3", None, None),
        ("20240229", None, None),
        ("\uff12024-02-29", None, None),
    ],
)
def test_iso_times_alone_are_times(text: str, zone: str | None, expected: str | None) -> None:
    """With a zone or without one, not both; what may be meant in two ways stays a word."""
    frame = pl.DataFrame({"t": [text]})
    for other in (None, "UTC"):
        found = frame.select(TextFormat().parse(pl.col("t"), pl.Datetime("us", other))).item()
        right = expected if zone == other else None
        if right is not None:
            right = datetime.fromisoformat(right + "+00:00" * (zone == "UTC"))
        assert found == right


def test_a_stray_value_among_dates_is_reported(tmp_path: Path) -> None:
    """And a missing one is missing."""
    days = [str(time.date()) for time in TIMES]
    days[40] = "NaT"
    frame = pl.DataFrame({"t": days, "y": [0, 1] * 30})
    assert table_of(written(frame, tmp_path, "csv")).features[:, 0].isnan().sum() == 1
    days[50] = "soon"
    frame = pl.DataFrame({"t": days, "y": [0, 1] * 30})
    with pytest.raises(UserError, match="holds dates without a time zone, but 'soon' in row 51"):
        table_of(written(frame, tmp_path, "csv"))


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


def test_an_older_run_finds_labels_that_are_missing_values_now(tmp_path: Path) -> None:
    """They are what they were in training."""
    labels = ["1", "2.5", "NA", "nan"]
    columns = Columns(["c"], "y", "regression", [], {"c": labels})
    (tmp_path / "f.csv").write_text("c,y\nNA,1\n1,2\nnan,3\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    assert encode_table(frame, columns, origin).features[:, 0].tolist() == [2.0, 0.0, 3.0]


MARKS = [
    (TextFormat(decimal=","), "1022,5", 1022.5),
    (TextFormat(decimal=",", thousands="."), "1.022,5", 1022.5),
    (TextFormat(decimal=",", thousands="."), "1.022", 1022.0),
    (TextFormat(thousands=","), "-1,022,333.25", -1022333.25),
    (TextFormat(thousands=" "), "1 022", 1022.0),
    (TextFormat(thousands="'"), "1'022.5", 1022.5),
    (TextFormat(decimal=","), ",5", 0.5),
    (TextFormat(decimal=","), "2,5e3", 2500.0),
    (TextFormat(decimal=","), "1.022", None),
    (TextFormat(thousands=","), "1,5", None),
    (TextFormat(thousands=","), "1022,333", None),
    (TextFormat(), "1,022", None),
    (TextFormat(decimal=","), "nan", None),
    (TextFormat(decimal=","), "12", 12.0),
]


@pytest.mark.parametrize(("text", "word", "expected"), MARKS)
def test_numbers_are_read_with_the_marks_that_were_given(
    text: TextFormat, word: str, expected: float | None
) -> None:
    """And with no others: what does not fit them is no number."""
    found = pl.DataFrame({"x": [word]}).select(text.parse(pl.col("x"), pl.Float64()))
    assert found.item() == expected


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
    slip = _StrayString("numbers", word, 0, 1, [word], has_decimals=False)
    found = pasted(re.findall(r'"data\.(?:[^"\\]|\\.)*"', _remedy(slip, TextFormat())))
    expected = [{key: value} for each in values for key, value in each.items()]
    assert found == expected


LETTERS = "a1 .,'\"!$`{}[]()=#%&*?~\\:;<>|@ßé-_+"
WORDS = ["true", "Null", "NaN", "1", "1e5", "${a}", "-", "#VALUE!"]
ODD = st.text(st.sampled_from(LETTERS), min_size=1, max_size=9) | st.sampled_from(WORDS)
ODD = ODD.filter(lambda name: not ("${" in name and "\\" in name))  # OmegaConf is not one-to-one


@settings(max_examples=50, deadline=None)
@given(st.lists(ODD, min_size=1, max_size=5))
def test_a_list_of_odd_names_is_the_same_when_it_is_pasted(columns: list[str]) -> None:
    """In a list, and each by itself."""
    words = [as_override("data.drop_columns", columns), as_override("data.target", columns[0])]
    assert pasted(words) == [{"drop_columns": columns}, {"target": columns[0]}]


def test_a_path_is_in_quotes_only_where_it_must_be() -> None:
    """A number, a blank or a sign that means something would be taken for something else."""
    paths = [
        "runs/2026-11-26/12-00-00",
        "../a/b+1.ckpt",
        "/a_b/c",
        "2026/1",
        "my run",
        "a=b",
        "~/é",
    ]
    words = [as_override("resume", path) for path in paths]
    assert [word.startswith('"') for word in words] == [False] * 3 + [True] * 4
    assert pasted(words) == [{"resume": path} for path in paths]


@pytest.mark.parametrize(
    ("word", "value"),
    [("drop_columns=[1]", ["1"]), ("group_column=true", "true"), ("target=1", "1")],
)
def test_a_name_that_hydra_takes_for_another_type_is_answered_with_a_hint(
    multilayer: Run, word: str, value: object
) -> None:
    """The hint is taken as it stands."""
    outcome = multilayer("train", "data=table", "data.path=t.csv", "data.target=y", f"data.{word}")
    assert outcome.code == 2
    (hint,) = re.findall(r'goes in quotes: (".*")', outcome.err)
    assert pasted([hint]) == [{word.partition("=")[0]: value}]


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


@pytest.mark.parametrize("space", [" ", "\xa0", "\u202f", "\u2009"])
def test_any_space_may_separate_thousands(tmp_path: Path, space: str) -> None:
    """One word stands for all of them, and is the one in the message."""
    frame = pl.DataFrame({"x": [f"{i}{space}022" for i in range(1, 61)], "y": [0, 1] * 30})
    path = written(frame, tmp_path, "csv")
    with pytest.raises(UserError, match=re.escape("say \"data.thousands=' '\"")):
        table_of(path)
    x = table_of(path, thousands=" ").features[:, 0]
    assert x.tolist() == [1000 * i + 22 for i in range(1, 61)]


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


def test_a_table_that_is_quoted_throughout_is_read(tmp_path: Path) -> None:
    """What is empty is missing, also among categories, in training and afterwards."""
    rows = [f'"{i / 4}","{"ab"[i % 2]}","{i % 2}"' for i in range(60)]
    rows[50] = '"","","1"'
    (tmp_path / "t.csv").write_text("\n".join(['"x","c","y"', *rows]) + "\n")
    table = table_of(str(tmp_path / "t.csv"))
    assert table.columns.categories == {"c": ["a", "b"]}
    assert table.features[50].isnan().all()
    assert table.features.isnan().sum() == 2
    frame, origin = read_frame_like(tmp_path / "t.csv", table.columns, TextFormat())
    again = encode_table(frame, table.columns, origin).features.float()
    torch.testing.assert_close(again, table.features, equal_nan=True)


def test_files_of_one_table_may_write_differently(tmp_path: Path) -> None:
    """One with missing values spelled out, one without, one with nothing else."""
    for number, values in enumerate((["1", "2"], ["3", "NA"], ["NA", "NA"])):
        (tmp_path / f"{number}.csv").write_text("x\n" + "\n".join(values) + "\n")
        pl.DataFrame({"x": values}).write_parquet(tmp_path / f"{number}.parquet")
    for ending in ("csv", "parquet"):
        assert read_frame(tmp_path / f"*.{ending}")["x"].to_list() == [1, 2, 3, None, None, None]


def test_text_of_a_typed_file_stays_text(tmp_path: Path) -> None:
    """Numbers and booleans that were stored as text are labels there."""
    frame = pl.DataFrame({"zip": ["07", "8"] * 30, "flag": ["true", "false"] * 30})
    frame.write_parquet(tmp_path / "t.parquet")
    assert read_frame(tmp_path / "t.parquet").equals(frame)
    known = read_frame(tmp_path / "t.parquet", None, {"zip": "number"})
    assert known["zip"].to_list() == [7, 8] * 30


def test_a_table_of_a_spreadsheet_with_decimal_commas_is_read(tmp_path: Path) -> None:
    """Its columns are separated by semicolons; a fault in a line is told with its row."""
    rows = [f"{i},5;{'ab'[i % 2]};{i % 2}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["x;c;y", *rows]) + "\n")
    with pytest.raises(UserError, match=r"by semicolons; they must .* say \"data\.decimal=','\""):
        table_of(str(tmp_path / "t.csv"))
    table = table_of(str(tmp_path / "t.csv"), decimal=",")
    assert table.features[:, 0].tolist() == [i + 0.5 for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["x;c;y", *rows, "1,5;a"]) + "\n")
    with pytest.raises(UserError, match="row 61 has 2 values, the header has 3 names"):
        table_of(str(tmp_path / "t.csv"), decimal=",")


def test_training_evaluation_and_prediction_read_alike(multilayer: Run, tmp_path: Path) -> None:
    """What the training was told of the file is not told again."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=120) * 5000
    rows = [f"{value:,.2f}".translate({44: ".", 46: ","}) for value in x]
    rows[3] = "?"
    lines = [
        f'"{word}"\t{"yes" if value > 0 else "no "}' for word, value in zip(rows, x, strict=True)
    ]
    lines[3] = lines[3].split("\t")[0] + "\tyes"
    Path("t.tsv").write_text("\n".join(["x\ty", *lines]) + "\n")
    words = ["data=table", "data.path=t.tsv", "data.target=y", "data.missing=['?']"]
    words += ["data.decimal=','", "data.thousands=.", "hydra.run.dir=run"]
    outcome = multilayer("train", *words, "trainer.max_epochs=40", "optimizer.lr=0.05")
    assert outcome.code == 0, outcome.err
    assert "1 values missing in 'x'" in outcome.err + outcome.out
    outcome = multilayer("evaluate", "run=run", "data.path=t.tsv")
    assert float(printed(outcome.out)["accuracy"]) > 0.95, outcome.err
    assert multilayer("evaluate", "run=run").code == 0
    assert multilayer("predict", "run=run", "input=t.tsv", "output=p.tsv").code == 0
    found = pl.read_csv("p.tsv", separator="\t")
    right = (found["prediction"] == pl.Series(np.where(x > 0, "yes", "no"))).mean()
    assert right > 0.95


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


def test_a_missing_word_and_spaces_in_an_enum(tmp_path: Path) -> None:
    """As in any other column of words; the labels stay in their order."""
    labels = pl.Enum(["w ", "?", " u", "v", "u"])
    column = pl.Series("c", ["w ", "?", " u", "v", "u", None] * 10, dtype=labels)
    path = written(pl.DataFrame({"c": column, "y": [0.5, 1.5, 2.5] * 20}), tmp_path, "parquet")
    frame = read_frame(path, TextFormat(missing=("?",)))
    assert frame.schema["c"] == pl.Enum(["w", "u", "v"])
    assert frame["c"].head(6).to_list() == ["w", None, "u", "v", "u", None]


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


def test_a_target_of_numbers_as_text_may_be_regressed_on(tmp_path: Path) -> None:
    """In a file that has types; without a word they are classes."""
    values = [f"{i / 7:.3f}" for i in range(60)]
    path = written(pl.DataFrame({"x": range(60), "y": values}), tmp_path, "parquet")
    table = table_of(path, task="regression")
    assert table.target.tolist() == pytest.approx([float(value) for value in values])


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ("2024-05-{:02}", "01/01/2020", "zone, found '01/01/2020' in row 2 among dates"),
        ("2024-05-{:02}", "?", "2026-03-01T13:45, and leave it empty if it is missing"),
        ("{:02}:30", "25:05", "write times of day as 13:45, and leave it empty if it is missing"),
    ],
)
def test_a_stray_value_among_times_of_another_file_is_reported(
    tmp_path: Path, then: str, now: str, said: str
) -> None:
    """What such a column must hold is what it held in training."""
    times = [then.format(i % 20 + 1) for i in range(60)]
    frame = pl.DataFrame({"t": times, "y": [0, 1] * 30})
    columns = table_of(written(frame, tmp_path, "csv")).columns
    (tmp_path / "f.csv").write_text(f"t\n{times[0]}\n{now}\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=re.escape(said)):
        encode_features(frame, columns, origin)


@pytest.mark.parametrize("row", [2, 50])
def test_not_a_number_is_reported_wherever_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: int
) -> None:
    """Behind the rows that the types are taken from too."""
    with caplog.at_level(logging.WARNING):
        table = table_of(written(numbers_with("nan", row), tmp_path, "csv"))
    assert table.features[:, 0].isnan().sum() == 1
    assert "'nan' in column 'x' counts as a missing value" in caplog.text
