"""Fits that wait, to be trained together in stacks."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multilayer.estimators.trainee import Trainee
from multilayer.estimators.training import stack_key, train_stack

if TYPE_CHECKING:
    from multilayer.estimators.perceptron import MultilayerPerceptron

_CURRENT: ContextVar["Batch | None"] = ContextVar("current batch of fits", default=None)


class Batch:
    """Estimators whose `fit` was called, and whose networks are trained by `train`.

    Rows that several of them have are kept once.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[MultilayerPerceptron, Trainee]] = []
        self._pools: dict[Any, list[tuple[Tensor, Tensor]]] = {}

    def add(self, estimator: "MultilayerPerceptron", trainee: Trainee) -> None:
        """Note a fit; its rows become numbers of the rows of all."""
        pool = self._pools.setdefault(_pool_key(trainee), [])
        mine, start = (trainee.features, trainee.target), 0
        for each in pool:
            if all(map(_is_same, each, mine)):
                break
            start += len(each[0])
        else:
            pool.append(mine)
        trainee.features, trainee.target = (each[:0] for each in mine)
        trainee.train, trainee.validation = trainee.train + start, trainee.validation + start
        self._waiting.append((estimator, trainee))

    def stacks(self) -> list[list[tuple["MultilayerPerceptron", Trainee]]]:
        """The fits by stacks: those of one shape train together."""
        groups: dict[Any, list[tuple[MultilayerPerceptron, Trainee]]] = {}
        for each in self._waiting:
            groups.setdefault(stack_key(each[1]), []).append(each)
        return list(groups.values())

    def train(self, n_threads: int | str) -> dict["MultilayerPerceptron", "Outcome"]:
        """Train all; the estimators have then what a `fit` gives them.

        Returns:
            How each of them ended, by itself.
        """
        outcomes = {}
        rows = {
            key: (torch.cat([each for each, _ in pool]), torch.cat([each for _, each in pool]))
            for key, pool in self._pools.items()
        }
        self._pools.clear()
        for stack in self.stacks():
            start, trainees = perf_counter(), [trainee for _, trainee in stack]
            train_stack(trainees, *rows[_pool_key(trainees[0])], n_threads)
            seconds = (perf_counter() - start) / len(stack)
            for estimator, trainee in stack:
                outcomes[estimator] = Outcome(estimator, trainee, seconds)
        return outcomes


class Outcome:
    """How a fit of a batch ended.

    Attributes:
        error: why it failed, or None.
        has_stopped: whether it stopped before `max_iter`.
        seconds: its share of the time of its stack.
    """

    def __init__(self, estimator: "MultilayerPerceptron", trainee: Trainee, seconds: float) -> None:
        self.has_stopped, self.seconds = trainee.has_stopped, seconds
        self.error: ValueError | None = None
        try:
            estimator._adopt(trainee)
        except ValueError as error:
            self.error = error


def _is_same(first: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers; it is quick where they share their memory."""
    is_shared = first.data_ptr() == other.data_ptr() and first.shape == other.shape
    return is_shared or torch.equal(first, other)


def _pool_key(trainee: Trainee) -> Any:
    """What rows must have in common to be parts of one tensor."""
    return trainee.features.shape[1], trainee.target.shape[1], trainee.features.dtype


@contextmanager
def collecting(batch: Batch) -> Iterator[None]:
    """Within it, `fit` only notes in the batch what is to be trained."""
    token = _CURRENT.set(batch)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_batch() -> Batch | None:
    """The batch that fits are noted in, if there is one."""
    return _CURRENT.get()
