"""Blocks side by side on the CPU's threads."""

import threading
import time
from copy import deepcopy

import pytest
import torch

from multilayer.stacking.runner import StepRunner
from multilayer.stacking.step import Step
from multilayer.stacking.workers import Workers

from .test_block import modules, step_of
from .test_runner import runner_of, steps_of


def workers_of(n_threads: int, device: str = "cpu") -> Workers:
    """Those of a step that is never taken."""
    return Workers(step_of(modules())[0], n_threads, torch.device(device))


@pytest.mark.parametrize(
    ("n_members", "n_threads", "size", "n_blocks"),
    [
        (1, 2, 1, 1),
        (15, 2, 15, 1),
        (16, 2, 8, 2),
        (16, 1, 16, 1),
        (33, 2, 9, 4),
        (40, 2, 10, 4),
        (64, 16, 8, 8),
        (1000, 16, 16, 63),
    ],
)
def test_each_thread_has_as_many_blocks(
    n_members: int, n_threads: int, size: int, n_blocks: int
) -> None:
    """As long as a block has eight members, from which a thread pays."""
    found = workers_of(n_threads).block_size(n_members)
    assert (found, -(-n_members // found)) == (size, n_blocks)
    on_a_gpu = workers_of(n_threads, "cuda")
    assert on_a_gpu.block_size(n_members) == n_members


def test_large_networks_have_a_block_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do few of them, whatever the number of threads."""
    monkeypatch.setattr("multilayer.stacking.step._BLOCK_BYTES", 1)
    assert [workers_of(4).block_size(n) for n in (1, 3, 9)] == [1, 1, 1]


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
    theirs = side_by_side.workers.each(lambda step, k: train_one(side_by_side, step, k), [0, 1, 2])
    ours = single.workers.each(lambda step, k: train_one(single, step, k), [0, 1, 2])
    assert all(map(torch.equal, theirs, ours))
    for mine, its in zip(own, alone, strict=True):
        assert all(map(torch.equal, mine.tensors(), its.tensors()))
    assert all(len(set(each)) == 3 for each in zip(*found.values(), strict=True))
    assert torch.get_num_threads() == before


def test_an_error_in_a_block_is_raised_when_all_have_ended() -> None:
    """Those beside it are then not within a step."""
    begun, ended = threading.Event(), []

    def call(step: Step, k: int) -> None:
        if k == 0:
            begun.wait(60)
            raise ValueError("of the first")
        begun.set()
        time.sleep(0.1)
        ended.append(k)

    with pytest.raises(ValueError, match="of the first"):
        workers_of(2).each(call, [0, 1])
    assert ended == [1]


def test_a_thread_has_the_precision_of_its_caller() -> None:
    """torch's autocast is each thread's own."""
    workers = workers_of(2)

    def dtypes() -> set[torch.dtype]:
        return {
            *workers.each(lambda *_: torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype, [1, 2])
        }

    with torch.autocast("cpu", torch.bfloat16):
        assert dtypes() == {torch.bfloat16}
    assert dtypes() == {torch.float32}
