"""Numbers in text: the marks that were given, and a table read alike by all commands."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from multilayer.core.errors import UserError
from multilayer.data import Preprocessing, TableData
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_features, encode_table
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

from ..conftest import Run
from ..training.test_evaluate import printed
from .tables import FORMATS, numbers_with, table_of, written
from .test_table_io import read_frame

pytestmark = pytest.mark.usefixtures("few_rows_for_types")


@pytest.mark.parametrize("word", ["inf", "Inf", "-inf", "+inf", "Infinity", "1e999"])
@pytest.mark.parametrize("form", FORMATS)
def test_an_infinite_number_is_reported_in_any_spelling(
    tmp_path: Path, word: str, form: str
) -> None:
    """As such, with its row."""
    path = written(numbers_with(word, 50), tmp_path, form)
    with pytest.raises(UserError, match=r"column 'x' .*in row 51"):
        table_of(path, stream=form == "stream")


def test_a_file_that_writes_numbers_otherwise_than_the_training_is_reported(tmp_path: Path) -> None:
    """It is the run that knows how they are written."""
    (tmp_path / "f.csv").write_text('x\n7\n"1,022"\n')
    columns = Columns(["x"], "y", "regression", [])
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=r"'1,022' in row 2 among numbers; write numbers as they"):
        encode_features(frame, columns, origin)
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat(thousands=","))
    assert encode_features(frame, columns, origin).tolist() == [[7.0], [1022.0]]


def test_a_table_that_is_read_otherwise_than_in_training_is_refused(tmp_path: Path) -> None:
    """As one of an older version, which took its numbers for a category."""
    path = written(numbers_with("NA", 2), tmp_path, "csv")
    older = Columns(["x", "c"], "y", "binary", ["0", "1"], {"x": ["1", "NA"], "c": ["a", "b", "c"]})
    data = TableData(path=path, target="y", preprocessing=Preprocessing.of(older))
    with pytest.raises(UserError, match="not read as it was in the training"):
        data.setup()


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


@pytest.mark.parametrize("space", [" ", "\xa0", "\u202f", "\u2009"])
def test_any_space_may_separate_thousands(tmp_path: Path, space: str) -> None:
    """One word stands for all of them, and is the one in the message."""
    frame = pl.DataFrame({"x": [f"{i}{space}022" for i in range(1, 61)], "y": [0, 1] * 30})
    path = written(frame, tmp_path, "csv")
    with pytest.raises(UserError, match=re.escape("say \"data.thousands=' '\"")):
        table_of(path)
    x = table_of(path, thousands=" ").features[:, 0]
    assert x.tolist() == [1000 * i + 22 for i in range(1, 61)]


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
    assert "1 value missing in 'x'" in outcome.err + outcome.out
    outcome = multilayer("evaluate", "run=run", "data.path=t.tsv")
    assert float(printed(outcome.out)["accuracy"]) > 0.95, outcome.err
    assert multilayer("evaluate", "run=run").code == 0
    assert multilayer("predict", "run=run", "input=t.tsv", "output=p.tsv").code == 0
    found = pl.read_csv("p.tsv", separator="\t")
    right = (found["prediction"] == pl.Series(np.where(x > 0, "yes", "no"))).mean()
    assert right > 0.95


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
