"""A table larger than memory: Parquet files that are read in chunks while a network trains."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.text import counted
from multilayer.data.batches import (
    BatchIterator,
    EpochShuffle,
    prefetch,
    preprocess_features,
    preprocess_target,
)
from multilayer.data.column_types import MAX_INTEGER_CLASSES
from multilayer.data.origin import Origin
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.split import check_class_counts
from multilayer.data.table import Columns, Split, Table
from multilayer.data.table_builder import TableBuilder, encode_table
from multilayer.data.table_files import TextFile, explaining
from multilayer.data.table_io import TableFile
from multilayer.data.text_format import is_fractional
from multilayer.nn.losses import Task

_CHUNK_VALUES = 2**21
"""Values in a chunk, at most: 8 MB of float32."""

_HELD_OUT_BYTES = 2**26
"""The most memory, as float32, for each of the validation rows, the test rows, and the training
rows that the preprocessing is fitted to."""

_CHUNKS_PER_BUFFER = 8
"""Chunks whose rows are shuffled together: 64 MB of float32, and as much is prefetched."""

_PREPROCESSED_VALUES = 2**20
"""Values preprocessed at a time, or a minibatch if that is more: 4 MB. Rows are shuffled raw,
since a categorical column may become hundreds of features."""

_MAX_CLASSES = 10_000
"""A row of each class is kept in memory."""

_TRAIN, _VALIDATION, _TEST, _SAMPLE = range(4)
"""The splits of rows; the sample is those training rows that are kept in memory."""

_Splits = npt.NDArray[np.int64]
_Rows = tuple[Tensor, Tensor]  # features (N, n_columns) or (N, n_features), target (N,)


class _Chunk(NamedTuple):
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
        self.chunks: list[_Chunk] = []
        for each in file.files:
            with explaining(each):
                n = int(file.rows(each).select(pl.len()).collect().item())
            self.chunks += [_Chunk(each, i, min(step, n - i)) for i in range(0, n, step)]
        n_rows = sum(chunk.n_rows for chunk in self.chunks)
        most = _HELD_OUT_BYTES / (4 * width * max(1, n_rows))
        held_out = [min(fractions.get(split, 0.0), most) for split in ("validation", "test")]
        sample = min(1 - sum(held_out), most)
        self.bounds = np.cumsum([1 - sum(held_out) - sample, *held_out])
        self.n_splits = 1 + sum(fraction > 0 for fraction in held_out)
        self.first_of_class: dict[int, list[int]] = {}
        self.n_training: list[int] = []

    def _assign_splits(self, index: int) -> _Splits:
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
        self.columns = [*builder.types.features, builder.types.target]
        kept, classes = [], _ClassCounts(builder.types.task)
        console = Console(stderr=True)
        chunks = track(
            self.chunks,
            "checking all rows",
            console=console,
            transient=True,
            disable=not console.is_terminal,  # or rich prints an empty line at the end
        )
        for index, chunk in enumerate(chunks):
            rows = self.read(index)
            self.first_of_class[index] = classes.add(rows[builder.types.target], builder.types.name)
            splits = self._assign_splits(index)
            builder.add(rows, splits != _TRAIN, file=chunk.file)
            kept.append(splits[splits != _TRAIN])
            self.n_training.append(int(np.isin(splits, (_TRAIN, _SAMPLE)).sum()))
        if not self.chunks:
            raise UserError(f"{builder.types.name} has a header and no rows")
        check_class_counts(builder.types.target, classes.counts, self.n_splits, "splits")
        found = torch.from_numpy(np.concatenate(kept))
        shares = np.diff(self.bounds, append=1)
        for code, split in ((_VALIDATION, "validation"), (_TEST, "test"), (_SAMPLE, "training")):
            if shares[code - 1] > 0 and code not in found:
                of_all = f"of {counted(len(found), 'row')}"
                raise UserError(
                    f"{builder.types.name}: {of_all} none is left to be a {split} row; "
                    "data.stream=true is for larger tables"
                )
        validation, test = ((found == code).nonzero().flatten() for code in (_VALIDATION, _TEST))
        return {"validation": validation, "test": test}

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
        chosen = np.isin(self._assign_splits(index), (_TRAIN, _SAMPLE))
        rows = chunk.start + np.flatnonzero(chosen)
        origin = Origin(chunk.file.name, [(chunk.file.name, rows)])
        return encode_table(self.read(index).filter(chosen), columns, origin)


class StreamedMinibatches(BatchIterator):
    """Minibatches of training rows that are read from files, in an order that changes each epoch.

    The chunks of the files come in random order; the rows of several chunks, from all over the
    files, are shuffled in a buffer. While a network trains on one buffer the next one is read. The
    order is determined by the seed and the epoch alone: a run that is resumed continues in the
    middle of an epoch, and reads nothing that it has seen.

    Args:
        stream: Where the rows come from; it has scanned all of them.
        columns: How they are read.
        seed: Decides the order.
        options: For `BatchIterator`; the preprocessing is fitted and stays on the CPU.
    """

    sampler: EpochShuffle
    preprocessing: Preprocessing

    def __init__(
        self, stream: ParquetStream, columns: Columns, *, seed: int, **options: Any
    ) -> None:
        sampler = EpochShuffle(len(stream.chunks), seed)
        super().__init__(sum(stream.n_training), sampler=sampler, **options)
        self.stream, self.columns = stream, columns

    def _minibatches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        buffers = prefetch(self._buffers(start * self.batch_size))
        for features, target in prefetch(self._preprocessed(buffers)):
            minibatches = (torch.split(each, self.batch_size) for each in (features, target))
            yield from zip(*minibatches, strict=True)

    def _preprocessed(self, buffers: Iterable[_Rows]) -> Iterator[_Rows]:
        """The rows of buffers as the network and its loss take them, some minibatches at a time."""
        n_values = self.batch_size * self.preprocessing.n_features
        n_rows = max(1, _PREPROCESSED_VALUES // n_values) * self.batch_size
        held = torch.empty(0), torch.empty(0)
        for features, target in buffers:
            ends = tuple(range(n_rows - len(held[1]), len(target) + 1, n_rows))
            parts = list(zip(features.tensor_split(ends), target.tensor_split(ends), strict=True))
            if len(held[1]):
                parts[0] = torch.cat([held[0], parts[0][0]]), torch.cat([held[1], parts[0][1]])
            for part in parts[:-1]:
                yield self._preprocess(*part)
            held = parts[-1][0].clone(), parts[-1][1].clone()
        if len(held[1]):
            yield self._preprocess(*held)

    def _preprocess(self, features: Tensor, target: Tensor) -> _Rows:
        """The same rows, with their features preprocessed."""
        names, describe = self.columns.features, lambda _: "a row that is streamed"
        return preprocess_features(self.preprocessing, features, names, describe), target

    def _buffers(self, n_to_skip: int) -> Iterator[_Rows]:
        """The rows of this epoch in order, buffer by buffer, without the first `n_to_skip`."""
        for some in torch.split(self.sampler.order(), _CHUNKS_PER_BUFFER):
            chunks = some.tolist()
            n_rows = sum(self.stream.n_training[index] for index in chunks)
            if n_to_skip < n_rows:
                yield self._buffer(chunks, n_rows, n_to_skip)
            n_to_skip = max(0, n_to_skip - n_rows)

    def _buffer(self, chunks: Sequence[int], n_rows: int, n_to_skip: int) -> _Rows:
        """The `n_rows` rows of some chunks in random order, without the first ones."""
        key = (self.sampler.seed, self.sampler.epoch, chunks[0])
        positions = np.random.default_rng(key).permutation(n_rows)
        width, dtype = len(self.columns.features), self.preprocessing.raw_dtype
        features = torch.empty(n_rows, width, dtype=dtype)
        target = torch.empty(n_rows, dtype=torch.int64 if self.columns.classes else torch.float32)
        for index in chunks:
            table = self.stream.training_rows(index, self.columns)
            own = preprocess_target(self.preprocessing, table, is_chunk=True)
            here, positions = np.split(positions, [len(own)])
            # By numpy, which uses one thread more than the network does.
            features.numpy()[here] = table.features.to(dtype).numpy()
            target.numpy()[here] = own.numpy()
        assert not positions.size, "a chunk has fewer rows than before the training"
        return features[n_to_skip:], target[n_to_skip:]


class _ClassCounts:
    """The classes of a target, and how many rows each has had so far.

    Args:
        task: None if the target decides; there are no classes in regression.
    """

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.counts = Counter[str]()

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
            self.counts[str(value)] += n
        n_classes = len(self.counts)
        if self.task is None and target.dtype.is_numeric() and n_classes > MAX_INTEGER_CLASSES:
            self.task, self.counts, firsts = "regression", Counter(), []
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
    text = TextFile.of(file)
    tabs = r', separator="\t"' if text and text.separator == "\t" else ""
    program = f"import polars; polars.scan_{reader}({source}{tabs}).sink_parquet({target})"
    return (
        f"data.stream=true reads Parquet, not {file.name}; write it once as Parquet: "
        f"python -c {shlex.quote(program)}"
    )
