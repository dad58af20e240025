"""Blocks side by side on the CPU's threads."""

import threading
import time
from concurrent import futures
from copy import deepcopy
from typing import Any

import pytest
import torch

from multilayer.stacking.runner import StepRunner
from multilayer.stacking.step import Step
from multilayer.stacking.workers import Workers

from .test_block import modules, step_of
from .test_runner import runner_of, steps_of


def workers_of(n_at_once: int) -> Workers:
    """Those of a step that is never taken."""
    return Workers(step_of(modules())[0], n_at_once, 1)


def test_blocks_side_by_side_are_trained_as_one_after_the_other() -> None:
    """To the last bit, each on a thread and with a step that no other one uses meanwhile."""
    own = [step_of(modules())[1] for _ in range(3)]
    alone = deepcopy(own)
    inputs = steps_of(2, 6)
    together = threading.Barrier(3, timeout=60)
    found: dict[int, tuple[threading.Thread, int]] = {}

    def train_one(runner: StepRunner, step: Step, k: int) -> torch.Tensor:
        is_shared = runner.workers.n_at_once > 1
        if is_shared:
            together.wait()
            found[k] = threading.current_thread(), id(step)
            assert torch.get_num_threads() == 1
        return runner.run(step, (own if is_shared else alone)[k], inputs)[0]

    before = torch.get_num_threads()
    side_by_side, single = (runner_of(threads=n, choice=False) for n in (3, 1))
    for runner in (side_by_side, single):
        runner.share_threads(own[0], 3, 6)
    theirs = side_by_side.workers.for_each_block(
        lambda step, k: train_one(side_by_side, step, k), [0, 1, 2]
    )
    ours = single.workers.for_each_block(lambda step, k: train_one(single, step, k), [0, 1, 2])
    assert all(map(torch.equal, theirs, ours))
    for mine, its in zip(own, alone, strict=True):
        assert all(map(torch.equal, mine.tensors(), its.tensors()))
    assert all(len(set(each)) == 3 for each in zip(*found.values(), strict=True))
    assert torch.get_num_threads() == before


def test_an_error_in_a_block_is_raised_when_all_have_ended() -> None:
    """The others are then not within a step."""
    begun, ended = threading.Event(), []

    def call(step: Step, k: int) -> None:
        if k == 0:
            begun.wait(60)
            raise ValueError("of the first")
        begun.set()
        time.sleep(0.1)
        ended.append(k)

    with pytest.raises(ValueError, match="of the first"):
        workers_of(2).for_each_block(call, [0, 1])
    assert ended == [1]


def test_a_thread_has_the_precision_of_its_caller() -> None:
    """torch's autocast is each thread's own."""
    workers = workers_of(2)

    def dtypes() -> set[torch.dtype]:
        return {
            *workers.for_each_block(
                lambda *_: torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype, [1, 2]
            )
        }

    with torch.autocast("cpu", torch.bfloat16):
        assert dtypes() == {torch.bfloat16}
    assert dtypes() == {torch.float32}


def test_all_calls_have_ended_when_an_interrupt_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it comes; those that have not begun do not."""
    begun, ended, real = list[int](), list[int](), futures.wait
    interrupts = iter([KeyboardInterrupt("first"), KeyboardInterrupt("second")])

    def wait(calls: Any) -> None:
        for interrupt in interrupts:
            raise interrupt
        real(calls)

    def call(step: Step, k: int) -> None:
        begun.append(k)
        time.sleep(0.05)
        ended.append(k)

    monkeypatch.setattr("multilayer.stacking.workers.wait", wait)
    workers = workers_of(2)
    with pytest.raises(KeyboardInterrupt, match="first"):
        workers.for_each_block(call, [*range(9)])
    assert sorted(ended) == sorted(begun)
    assert len(ended) < 9
    monkeypatch.setattr("multilayer.stacking.workers.wait", real)
    assert workers.for_each_block(lambda step, k: k, [0, 1, 2]) == [0, 1, 2]


def test_the_steps_of_threads_share_weights_that_do_not_matter() -> None:
    """A copy of a network for each thread would take its memory."""
    step, _, _ = step_of(modules())
    copies = Workers(step, 2, 1).for_each_block(lambda own, _: own, [0, 1])
    for own in copies:
        assert own.model is not step.model
        pairs = zip(own.model.parameters(), step.model.parameters(), strict=True)
        assert all(mine is its for mine, its in pairs)
