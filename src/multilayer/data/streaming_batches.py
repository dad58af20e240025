"""Minibatches of a table that is read while a network trains."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from multilayer.data.batches import BatchIterator, EpochShuffle, Minibatch
from multilayer.data.parquet_stream import ParquetStream
from multilayer.data.prefetch import prefetch
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Columns
from multilayer.data.table_preprocessing import preprocess_features, preprocess_target

_CHUNKS_PER_BUFFER = 8
"""Chunks whose rows are shuffled together: 64 MB of float32, and as much is prefetched."""

_PREPROCESSED_VALUES = 2**20
"""Values preprocessed at a time, or a minibatch if that is more: 4 MB. Rows are shuffled raw,
since a categorical column may become hundreds of features."""


class StreamedMinibatches(BatchIterator):
    """Minibatches of training rows that are read from files, in an order that changes each epoch.

    The chunks of the files come in random order; the rows of several chunks, from all over the
    files, are shuffled in a buffer. While a network trains on one buffer the next one is read. The
    order is determined by the seed and the epoch alone: a run that is resumed continues in the
    middle of an epoch, and reads nothing that it has seen.

    Args:
        stream: Where the rows come from; it has scanned all of them.
        columns: How they are read.
        preprocessing: Fitted; it stays on the CPU.
        batch_size: Rows per minibatch.
        seed: Decides the order.
        device: Where the minibatches go.
    """

    sampler: EpochShuffle
    preprocessing: Preprocessing

    def __init__(
        self,
        stream: ParquetStream,
        columns: Columns,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        sampler = EpochShuffle(len(stream.chunks), seed)
        device = device or torch.device("cpu")
        super().__init__(sum(stream.n_training), batch_size, sampler, device, preprocessing)
        self.stream = stream
        self.columns = columns

    def __iter__(self) -> Iterator[Minibatch]:
        buffers = prefetch(self._buffers(self.begin() * self.batch_size))
        for features, target in prefetch(self._preprocessed(buffers)):
            for start in range(0, len(target), self.batch_size):
                rows = slice(start, start + self.batch_size)
                self.n_yielded += 1
                yield Minibatch(features[rows].to(self.device), target[rows].to(self.device))

    def _preprocessed(
        self, buffers: Iterable[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows of buffers as the network and its loss take them, some minibatches at a time."""
        n_values = self.batch_size * self.preprocessing.n_features
        n_rows = max(1, _PREPROCESSED_VALUES // n_values) * self.batch_size
        held: list[tuple[Tensor, Tensor]] = []
        for buffer in buffers:
            start = 0
            while start < len(buffer[1]):
                rows = slice(start, start + n_rows - sum(len(target) for _, target in held))
                held.append((buffer[0][rows], buffer[1][rows]))
                start = rows.stop
                if sum(len(target) for _, target in held) == n_rows:
                    yield self._preprocess(held)
                    held = []
            held = [(features.clone(), target.clone()) for features, target in held]
        if held:
            yield self._preprocess(held)

    def _preprocess(self, parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Parts joined, with the features preprocessed."""
        features, target = parts[0]
        if len(parts) > 1:
            features, target = (torch.cat(each) for each in zip(*parts, strict=True))
        names, describe = self.columns.features, lambda _: "a row that is streamed"
        return preprocess_features(self.preprocessing, features, names, describe), target

    def _buffers(self, n_to_skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows of this epoch in order, buffer by buffer, without the first `n_to_skip`."""
        order = self.sampler.order().tolist()
        wanted = []
        for start in range(0, len(order), _CHUNKS_PER_BUFFER):
            chunks = order[start : start + _CHUNKS_PER_BUFFER]
            n_rows = sum(self.stream.n_training[index] for index in chunks)
            if n_to_skip < n_rows:
                wanted.append((chunks, n_to_skip))
            n_to_skip = max(0, n_to_skip - n_rows)
        for each in wanted:
            yield self._buffer(*each)

    def _buffer(self, chunks: Sequence[int], n_to_skip: int) -> tuple[Tensor, Tensor]:
        """The rows of some chunks in random order, without the first ones."""
        n_rows = sum(self.stream.n_training[index] for index in chunks)
        key = (self.sampler.seed, self.sampler.epoch, chunks[0])
        positions = np.random.default_rng(key).permutation(n_rows)
        buffer: list[npt.NDArray[Any]] = []
        for index in chunks:
            table = self.stream.training_rows(index, self.columns)
            target = preprocess_target(self.preprocessing, table)
            features = table.features.to(self.preprocessing.raw_dtype)
            parts = [features.numpy(), target.numpy()]
            here, positions = np.split(positions, [len(parts[0])])
            buffer = buffer or [np.empty((n_rows, *part.shape[1:]), part.dtype) for part in parts]
            # By numpy, which uses one thread more than the network does.
            for whole, part in zip(buffer, parts, strict=True):
                whole[here] = part
        assert not positions.size, "a chunk has fewer rows than before the training"
        rest = [torch.from_numpy(whole[n_to_skip:]) for whole in buffer]
        return rest[0], rest[1]
