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
from multilayer.data.preprocessing import (
    Preprocessing,
    preprocessed_features,
    preprocessed_target,
)
from multilayer.data.table import Columns

PIECES_A_BUFFER = 8
"""Pieces whose rows are shuffled together: 64 MB of float32, beside as much that is read ahead."""

PREPROCESSED_VALUES = 2**20
"""What is preprocessed at a time, where a minibatch is not more: 4 MB. Rows are shuffled as they
are read, since a column of categories may become hundreds of features."""


class StreamedMinibatches(BatchIterator):
    """Minibatches of training rows that are read from a file, in an order that changes each epoch.

    The pieces of the file come in random order; the rows of several pieces, from all over the
    file, are shuffled in a buffer. While a network trains on one buffer the next one is read. The
    order is given by the seed and the epoch alone: a run that is resumed goes on in the middle of
    an epoch, and reads nothing of what it has seen.

    stream: where the rows come from; it has looked at all of them.
    columns, preprocessing: how they are read; the preprocessing stays on the CPU.
    seed: decides the order.
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
        buffers = prefetch(self.buffers(self.begin() * self.batch_size))
        for features, target in prefetch(self.preprocessed(buffers)):
            for start in range(0, len(target), self.batch_size):
                rows = slice(start, start + self.batch_size)
                self.n_yielded += 1
                yield Minibatch(features[rows].to(self.device), target[rows].to(self.device))

    def preprocessed(
        self, buffers: Iterable[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows of buffers as the network and its loss take them, some minibatches at a time."""
        n_values = self.batch_size * self.preprocessing.n_features
        n_rows = max(1, PREPROCESSED_VALUES // n_values) * self.batch_size
        held: list[tuple[Tensor, Tensor]] = []
        for buffer in buffers:
            start = 0
            while start < len(buffer[1]):
                rows = slice(start, start + n_rows - sum(len(target) for _, target in held))
                held.append((buffer[0][rows], buffer[1][rows]))
                start = rows.stop
                if sum(len(target) for _, target in held) == n_rows:
                    yield self.preprocess(held)
                    held = []
            held = [(features.clone(), target.clone()) for features, target in held]
        if held:
            yield self.preprocess(held)

    def preprocess(self, parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Parts together, with the features preprocessed."""
        features, target = parts[0]
        if len(parts) > 1:
            features, target = (torch.cat(each) for each in zip(*parts, strict=True))
        names, place = self.columns.features, lambda _: "a row that is streamed"
        return preprocessed_features(self.preprocessing, features, names, place), target

    def buffers(self, n_to_skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows of this epoch in their order, a buffer at a time, after so many of them."""
        order = self.sampler.order().tolist()
        wanted = []
        for start in range(0, len(order), PIECES_A_BUFFER):
            pieces = order[start : start + PIECES_A_BUFFER]
            n_rows = sum(self.stream.n_training[number] for number in pieces)
            if n_to_skip < n_rows:
                wanted.append((pieces, n_to_skip))
            n_to_skip = max(0, n_to_skip - n_rows)
        for each in wanted:
            yield self.buffer(*each)

    def buffer(self, chunks: Sequence[int], n_to_skip: int) -> tuple[Tensor, Tensor]:
        """The rows of some pieces in random order, without the first ones."""
        n_rows = sum(self.stream.n_training[number] for number in chunks)
        key = (self.sampler.seed, self.sampler.epoch, chunks[0])
        places = np.random.default_rng(key).permutation(n_rows)
        buffer: list[npt.NDArray[Any]] = []
        for number in chunks:
            table = self.stream.training_rows(number, self.columns)
            target = preprocessed_target(self.preprocessing, table)
            features = table.features.to(self.preprocessing.raw_dtype)
            parts = [features.numpy(), target.numpy()]
            here, places = np.split(places, [len(parts[0])])
            buffer = buffer or [np.empty((n_rows, *part.shape[1:]), part.dtype) for part in parts]
            # By numpy, whose work beside that of the network is one thread's.
            for whole, part in zip(buffer, parts, strict=True):
                whole[here] = part
        assert not places.size, "a piece has given fewer rows than it had before the training"
        rest = [torch.from_numpy(whole[n_to_skip:]) for whole in buffer]
        return rest[0], rest[1]
