"""A table larger than memory: Parquet files that are read in pieces while a network trains."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.data.column_types import is_fractional
from multilayer.data.origin import Origin
from multilayer.data.split import refuse_rare_class
from multilayer.data.table import MAX_INTEGER_CLASSES, Columns, Split, Table, read_table
from multilayer.data.table_builder import TableBuilder
from multilayer.data.table_io import TableFile, refusing, text_ending
from multilayer.nn.losses import Task

PIECE_VALUES = 2**21
"""Values a piece, at most: 8 MB of float32."""

HELD_OUT_BYTES = 2**26
"""What the validation rows may take in memory, as float32, and the test rows, and the training
rows that the preprocessing is fitted to."""

MAX_CLASSES = 10_000
"""A row of each class is kept in memory."""

TRAIN, VALIDATION, TEST, SAMPLE = range(4)
"""What a row is for; a row of the sample is a training row too."""

Parts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """Rows of a file that are read at once."""

    file: Path
    start: int
    n_rows: int


class ParquetStream:
    """The training rows of Parquet files, a piece at a time, and a sample of all their rows.

    What a row is for is drawn for each row of a piece, from the seed and the number of the piece
    alone: nothing is remembered of it, but where the first row of each class is.
    Validation and test rows, and a sample of the training rows, are kept in memory; of a large file
    they are a smaller share than was asked for.

    file: the files.
    fractions: of the rows that are to be "validation" and "test" rows.
    seed: of what is drawn.

    Raises `UserError` for a file that is no Parquet.
    """

    def __init__(self, file: TableFile, fractions: Mapping[Split, float], seed: int) -> None:
        for each in file.files:
            if each.suffix.lower() != ".parquet":
                raise UserError(not_parquet(each))
        self.file = file
        self.seed = seed
        self.states = {each: state_of(each) for each in file.files}
        self.version = "".join(version_of(each) for each in file.files)
        self.columns = list(file.schema)
        width = len(self.columns)
        self.chunks = [
            piece for each in file.files for piece in pieces_of(each, file.rows(each), width)
        ]
        n_rows = sum(piece.n_rows for piece in self.chunks)
        most = HELD_OUT_BYTES / (4 * width * max(1, n_rows))
        held_out = [min(fractions.get(split, 0.0), most) for split in ("validation", "test")]
        sample = min(1 - sum(held_out), most)
        self.bounds = np.cumsum([1 - sum(held_out) - sample, *held_out])
        self.n_splits = 1 + sum(share > 0 for share in held_out)
        self.first_of_class: dict[int, list[int]] = {}
        self.n_training: list[int] = []

    def parts(self, number: int) -> Parts:
        """What each row of a piece is for, `(n_rows,)`.

        The first row of a class is in the sample.
        """
        drawn = np.random.default_rng((self.seed, number)).random(self.chunks[number].n_rows)
        parts = np.searchsorted(self.bounds, drawn, side="right")
        parts[self.first_of_class.get(number, [])] = SAMPLE
        return parts

    def scan_all(self, intake: TableBuilder) -> dict[Split, Tensor]:
        """Look at every row once, and take in those that are kept in memory.

        Returns the numbers of the validation and test rows among them. The sample has at least one
        row of each class.

        Raises `UserError` for what cannot be trained on, wherever it is.
        """
        self.columns = [*intake.features, intake.target]
        kept, classes = [], Classes(intake.task)
        console = Console(stderr=True)
        for number in track(
            range(len(self.chunks)),
            description="looking at all rows",
            console=console,
            disable=not console.is_terminal,
            transient=True,
        ):
            piece, rows = self.chunks[number], self.read(number)
            self.first_of_class[number] = classes.new_in(rows[intake.target], intake.name)
            parts = self.parts(number)
            intake.add(rows, parts != TRAIN, name=piece.file.name, rows_before=piece.start)
            kept.append(parts[parts != TRAIN])
            self.n_training.append(int(np.isin(parts, (TRAIN, SAMPLE)).sum()))
        if not self.chunks:
            raise UserError(f"{intake.name} has a header and no rows")
        refuse_rare_class(intake.target, classes.counts, self.n_splits, "splits")
        return self.rows_by_split(np.concatenate(kept), intake.name)

    def rows_by_split(self, kept: Parts, name: str) -> dict[Split, Tensor]:
        """The numbers of the validation and test rows among those that are kept."""
        found = torch.from_numpy(kept)
        for part, split in ((VALIDATION, "validation"), (TEST, "test"), (SAMPLE, "training")):
            is_wanted = part == SAMPLE or self.bounds[part] > self.bounds[part - 1]
            if is_wanted and not (found == part).any():
                raise UserError(
                    f"{name}: of {len(found)} rows none is left to be a {split} row; "
                    "data.stream=true is for larger tables"
                )
        return {
            "validation": (found == VALIDATION).nonzero().flatten(),
            "test": (found == TEST).nonzero().flatten(),
        }

    def read(self, number: int) -> pl.DataFrame:
        """The rows of a piece.

        Raises `UserError` where its file is another one than at the beginning.
        """
        piece = self.chunks[number]
        with refusing(piece.file):
            if state_of(piece.file) != self.states[piece.file]:
                raise UserError(f"{piece.file}: it was written anew while it was being read")
            rows = self.file.rows(piece.file).select(self.columns)
            return self.file.typed(rows.slice(piece.start, piece.n_rows).collect())

    def training_rows(self, number: int, columns: Columns) -> Table:
        """The training rows of a piece."""
        piece, parts = self.chunks[number], self.parts(number)
        chosen = (parts == TRAIN) | (parts == SAMPLE)
        rows = piece.start + np.flatnonzero(chosen)
        origin = Origin(piece.file.name, [(piece.file.name, rows)])
        return read_table(self.read(number).filter(chosen), columns, origin)


def state_of(file: Path) -> tuple[int, int]:
    """What changes where a file is written: its size and time."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def version_of(file: Path) -> str:
    """A SHA-256 of a file's size and footer, which has the number and bounds of its values."""
    with refusing(file), file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 8))
        length = int.from_bytes(opened.read(4), "little")
        opened.seek(max(0, size - 8 - length))
        return sha256(size.to_bytes(8) + opened.read()).hexdigest()


def not_parquet(file: Path) -> str:
    """How to make a file of another kind one that can be streamed."""
    source = json.dumps(str(file), ensure_ascii=False)
    target = json.dumps(str(file.with_name(file.name.partition(".")[0] + ".parquet")))
    reader = "ipc" if file.suffix.lower() == ".arrow" else "csv"
    tabs = r', separator="\t"' if text_ending(file) == ".tsv" else ""
    program = f"import polars; polars.scan_{reader}({source}{tabs}).sink_parquet({target})"
    return (
        f"data.stream=true reads Parquet, not {file.name}; write it once as Parquet: "
        f"python -c {shlex.quote(program)}"
    )


def pieces_of(file: Path, rows: pl.LazyFrame, width: int) -> Sequence[Chunk]:
    """A file of so many columns in pieces."""
    with refusing(file):
        n = int(rows.select(pl.len()).collect().item())
    step = max(1, PIECE_VALUES // width)
    return [Chunk(file, start, min(step, n - start)) for start in range(0, n, step)]


class Classes:
    """The classes of a target, and how many rows each has had so far.

    task: None where the target decides; there are no classes where it is a number to regress on.
    """

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.counts: dict[str, int] = {}

    def new_in(self, target: pl.Series, name: str) -> list[int]:
        """The first row of each class that was not there before, in the next rows of a target.

        name: what messages call the table.
        """
        if self.task == "regression" or (self.task is None and is_fractional(target.dtype)):
            return []
        rows = pl.DataFrame({"class": target}).with_row_index("row").drop_nulls()
        found = rows.group_by("class").agg(pl.col("row").min(), n=pl.len())
        firsts = []
        for value, row, n in found.sort("row").iter_rows():
            if str(value) not in self.counts:
                firsts.append(row)
            self.counts[str(value)] = self.counts.get(str(value), 0) + n
        n_classes = len(self.counts)
        if self.task is None and target.dtype.is_numeric() and n_classes > MAX_INTEGER_CLASSES:
            self.task, self.counts, firsts = "regression", {}, []
        if len(self.counts) > MAX_CLASSES:
            raise UserError(f"{name}: column {target.name!r} has more than {MAX_CLASSES:,} classes")
        return firsts
