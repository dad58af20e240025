"""A table larger than memory: Parquet files that are read in chunks while a network trains."""

import json
import os
import shlex
from collections.abc import Mapping
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
from multilayer.data.column_types import MAX_INTEGER_CLASSES, is_fractional
from multilayer.data.encoding import encode_table
from multilayer.data.split import check_class_counts
from multilayer.data.table import Columns, Split, Table
from multilayer.data.table_builder import TableBuilder
from multilayer.data.table_io import TableFile, explaining
from multilayer.data.table_paths import Origin, text_ending
from multilayer.nn.losses import Task

_CHUNK_VALUES = 2**21
"""Values in a chunk, at most: 8 MB of float32."""

_HELD_OUT_BYTES = 2**26
"""The most memory, as float32, for each of the validation rows, the test rows, and the training
rows that the preprocessing is fitted to."""

_MAX_CLASSES = 10_000
"""A row of each class is kept in memory."""

_TRAIN, _VALIDATION, _TEST, _SAMPLE = range(4)
"""The splits of rows; the sample is those training rows that are kept in memory."""

_Splits = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """Rows of a file that are read at once."""

    file: Path
    start: int
    n_rows: int


class ParquetStream:
    """The training rows of Parquet files, chunk by chunk, and a sample of all their rows.

    Each row's split is drawn from (seed, chunk index), so that only the first row of each class
    has to be remembered. Validation and test rows, and a sample of the training rows, are kept in
    memory; of large files they are a smaller fraction than was asked for.

    Args:
        file: The files.
        fractions: Of the rows that become validation and test rows.
        seed: Of the splits.

    Raises:
        UserError: For a file that is not Parquet.
    """

    def __init__(self, file: TableFile, fractions: Mapping[Split, float], seed: int) -> None:
        for each in file.files:
            if each.suffix.lower() != ".parquet":
                raise UserError(_how_to_convert(each))
        self.file = file
        self.seed = seed
        self.states = {each: _state_of(each) for each in file.files}
        self.version = "".join(_version_of(each) for each in file.files)
        self.columns = list(file.schema)
        width = len(self.columns)
        step = max(1, _CHUNK_VALUES // width)
        self.chunks: list[Chunk] = []
        for each in file.files:
            with explaining(each):
                n = int(file.rows(each).select(pl.len()).collect().item())
            starts = range(0, n, step)
            self.chunks += [Chunk(each, start, min(step, n - start)) for start in starts]
        n_rows = sum(chunk.n_rows for chunk in self.chunks)
        most = _HELD_OUT_BYTES / (4 * width * max(1, n_rows))
        held_out = [min(fractions.get(split, 0.0), most) for split in ("validation", "test")]
        sample = min(1 - sum(held_out), most)
        self.bounds = np.cumsum([1 - sum(held_out) - sample, *held_out])
        self.n_splits = 1 + sum(fraction > 0 for fraction in held_out)
        self.first_of_class: dict[int, list[int]] = {}
        self.n_training: list[int] = []

    def assign_splits(self, index: int) -> _Splits:
        """The split of each row of a chunk, `(n_rows,)`.

        The first row of a class is in the sample.
        """
        drawn = np.random.default_rng((self.seed, index)).random(self.chunks[index].n_rows)
        splits = np.searchsorted(self.bounds, drawn, side="right")
        splits[self.first_of_class.get(index, [])] = _SAMPLE
        return splits

    def scan(self, builder: TableBuilder) -> dict[Split, Tensor]:
        """Check every row once, and give the builder those that are kept in memory.

        Returns:
            The numbers of the validation and test rows among those that are kept.

        Raises:
            UserError: For what cannot be trained on, wherever it is.
        """
        self.columns = [*builder.features, builder.target]
        kept, classes = [], _ClassCounts(builder.task)
        console = Console(stderr=True)
        for index in track(
            range(len(self.chunks)),
            description="checking all rows",
            console=console,
            disable=not console.is_terminal,
            transient=True,
        ):
            chunk, rows = self.chunks[index], self.read(index)
            self.first_of_class[index] = classes.add(rows[builder.target], builder.name)
            splits = self.assign_splits(index)
            builder.add(rows, splits != _TRAIN, name=chunk.file.name, rows_before=chunk.start)
            kept.append(splits[splits != _TRAIN])
            self.n_training.append(int(np.isin(splits, (_TRAIN, _SAMPLE)).sum()))
        if not self.chunks:
            raise UserError(f"{builder.name} has a header and no rows")
        check_class_counts(builder.target, classes.counts, self.n_splits, "splits")
        found = torch.from_numpy(np.concatenate(kept))
        for code, split in ((_VALIDATION, "validation"), (_TEST, "test"), (_SAMPLE, "training")):
            is_wanted = code == _SAMPLE or self.bounds[code] > self.bounds[code - 1]
            if is_wanted and not (found == code).any():
                raise UserError(
                    f"{builder.name}: of {len(found)} rows none is left to be a {split} row; "
                    "data.stream=true is for larger tables"
                )
        return {
            "validation": (found == _VALIDATION).nonzero().flatten(),
            "test": (found == _TEST).nonzero().flatten(),
        }

    def read(self, index: int) -> pl.DataFrame:
        """The rows of a chunk.

        Raises:
            UserError: If its file has changed since the beginning.
        """
        chunk = self.chunks[index]
        with explaining(chunk.file):
            if _state_of(chunk.file) != self.states[chunk.file]:
                raise UserError(f"{chunk.file}: it was written anew while it was being read")
            rows = self.file.rows(chunk.file).select(self.columns)
            return self.file.typed(rows.slice(chunk.start, chunk.n_rows).collect())

    def training_rows(self, index: int, columns: Columns) -> Table:
        """The training rows of a chunk."""
        chunk = self.chunks[index]
        chosen = np.isin(self.assign_splits(index), (_TRAIN, _SAMPLE))
        rows = chunk.start + np.flatnonzero(chosen)
        origin = Origin(chunk.file.name, [(chunk.file.name, rows)])
        return encode_table(self.read(index).filter(chosen), columns, origin)


class _ClassCounts:
    """The classes of a target, and how many rows each has had so far.

    Args:
        task: None if the target decides; there are no classes in regression.
    """

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.counts: dict[str, int] = {}

    def add(self, target: pl.Series, name: str) -> list[int]:
        """Count the next rows of a target, and return the first row of each new class.

        Args:
            target: Of the rows.
            name: What messages call the table.
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
        if len(self.counts) > _MAX_CLASSES:
            raise UserError(
                f"{name}: column {target.name!r} has more than {_MAX_CLASSES:,} classes"
            )
        return firsts


def _state_of(file: Path) -> tuple[int, int]:
    """What changes when a file is written: its size and time."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _version_of(file: Path) -> str:
    """A SHA-256 of a file's size and footer, which has the number and bounds of its values."""
    with explaining(file), file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 8))
        length = int.from_bytes(opened.read(4), "little")
        opened.seek(max(0, size - 8 - length))
        return sha256(size.to_bytes(8) + opened.read()).hexdigest()


def _how_to_convert(file: Path) -> str:
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
