"""Minibatches of a table that is read while a network trains."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from multilayer.data.minibatches import Batches, EpochShuffle
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.stream import TableStream
from multilayer.data.table import Columns
from multilayer.read_ahead import read_ahead

PIECES_A_BUFFER = 8
"""Pieces whose rows are shuffled together: 64 MB of float32, beside as much that is read ahead."""


class StreamedMinibatches(Batches):
    """Minibatches of training rows that are read from a file, in an order that changes each epoch.

    The pieces of the file come in random order; the rows of several pieces, from all over the
    file, are shuffled in a buffer. While a network trains on one buffer the next one is read. The
    order is given by the seed and the epoch alone: a run that is resumed goes on in the middle of
    an epoch, and reads nothing of what it has seen.

    stream: where the rows come from; it has looked at all of them.
    columns, preprocessing: how they are read.
    seed: decides the order.
    """

    sampler: EpochShuffle

    def __init__(
        self,
        stream: TableStream,
        columns: Columns,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        sampler = EpochShuffle(len(stream.pieces), seed)
        super().__init__(sum(stream.n_training), batch_size, sampler, device or torch.device("cpu"))
        self.stream = stream
        self.columns = columns
        self.preprocessing = preprocessing
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rest: list[tuple[Tensor, Tensor]] = []  # of the buffer before, less than a minibatch
        for buffer in self.buffers(self.begin() * self.batch_size):
            features, target = (torch.cat(each) for each in zip(*rest, buffer, strict=True))
            n_full = len(target) // self.batch_size * self.batch_size
            yield from self.cut(features[:n_full], target[:n_full])
            rest = [(features[n_full:], target[n_full:])]
        for features, target in rest:
            yield from self.cut(features, target)

    def cut(self, features: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows as minibatches on the device."""
        for start in range(0, len(target), self.batch_size):
            rows = slice(start, start + self.batch_size)
            self.n_given += 1
            yield features[rows].to(self.device), target[rows].to(self.device)

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
        yield from read_ahead(self.buffer(*each) for each in wanted)

    def buffer(self, pieces: Sequence[int], n_to_skip: int) -> tuple[Tensor, Tensor]:
        """The rows of some pieces in random order, without the first ones."""
        n_rows = sum(self.stream.n_training[number] for number in pieces)
        key = (self.seed, self.sampler.epoch, pieces[0])
        places = np.random.default_rng(key).permutation(n_rows)
        buffer: list[npt.NDArray[Any]] = []
        for number in pieces:
            rows = self.stream.training_rows(number, self.columns, self.preprocessing)
            parts = [each.numpy() for each in rows]
            here, places = np.split(places, [len(parts[0])])
            buffer = buffer or [np.empty((n_rows, *part.shape[1:]), part.dtype) for part in parts]
            # By numpy, whose work beside that of the network is one thread's.
            for whole, part in zip(buffer, parts, strict=True):
                whole[here] = part
        features, target = (torch.from_numpy(whole[n_to_skip:]) for whole in buffer)
        return features, target
