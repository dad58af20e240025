"""Files of tables that tests write, and what is read of them."""

import gzip
from pathlib import Path

import polars as pl

from multilayer.data import TableData
from multilayer.data.table import Columns, Table
from multilayer.data.table_builder import encode_table
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

FORMATS = ["csv", "csv.gz", "tsv", "parquet", "stream"]


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


def numbers_with(word: str, row: int, n: int = 60) -> pl.DataFrame:
    """A column of numbers as text with a word in one row, a category and a target."""
    x = [f"{i / 7:.3f}" for i in range(n)]
    x[row] = word
    return pl.DataFrame({"x": x, "c": ["a", "b", "c"] * (n // 3), "y": [0, 1] * (n // 2)})


def read_as(columns: Columns, path: str | Path) -> Table:
    """Another file, read as one with the columns of a training."""
    frame, origin = read_frame_like(path, columns, TextFormat())
    return encode_table(frame, columns, origin)
