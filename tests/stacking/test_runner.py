"""Whether a step is compiled, and with how many threads it runs."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.stacking.block import Block
from multilayer.stacking.runner import StepRunner, trace_step, work
from multilayer.training.runtime import can_compile, n_threads_at_most

from .test_block import NO_KEYS, modules, numbers_of, step_of, take

CPU = torch.device("cpu")


def runner_of(**options: Any) -> StepRunner:
    """One of a step that is never taken."""
    step, _, _ = step_of(modules())
    return StepRunner(step, **{"choice": "auto", "threads": "auto", "device": CPU} | options)


@pytest.mark.parametrize(
    ("work_of_step", "n_steps_left", "expected"),
    [
        (0, 5_999, False),
        (0, 6_000, True),
        (20_000_000, 2_999, False),
        (20_000_000, 3_000, True),
        (100_000_000, 999, False),
        (100_000_000, 1_000, True),
    ],
)
def test_a_step_is_compiled_by_the_work_ahead(
    work_of_step: int, n_steps_left: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many steps, or fewer large ones; unless the user says it, or there is no compiler."""
    _, block, _ = step_of(modules())
    monkeypatch.setattr("multilayer.stacking.runner.can_compile", lambda device: True)
    monkeypatch.setattr("multilayer.stacking.runner.work", lambda block, key: work_of_step)
    assert runner_of().is_worthwhile(block, (3, 8), n_steps_left) is expected
    assert runner_of(choice=True).is_worthwhile(block, (3, 8), 1)
    assert not runner_of(choice=False).is_worthwhile(block, (3, 8), 10**9)
    monkeypatch.setattr("multilayer.stacking.runner.can_compile", lambda device: False)
    for choice in (True, "auto"):
        assert not runner_of(choice=choice).is_worthwhile(block, (3, 8), 10**9)


def test_the_work_of_a_step_is_parameters_times_rows_of_all_members() -> None:
    """Trained parameters: 24 of each of three members."""
    _, block, _ = step_of(modules())
    assert work(block, (3, 10)) == 3 * 24 * 10


def test_threads_are_used_in_large_steps_alone_and_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What runs between the steps, validation say, has the threads that it had."""
    monkeypatch.setattr("multilayer.training.runtime._default_threads", lambda: 2)
    seen = []
    monkeypatch.setattr(
        StepRunner, "one", lambda *_: (seen.append(torch.get_num_threads()), torch.zeros(3))[1:] * 2
    )
    _, block, _ = step_of(modules())
    before = torch.get_num_threads()
    rows = torch.zeros(2, 3, 8, dtype=torch.int64)
    inputs = [torch.zeros(8, 2), torch.zeros(8), rows, torch.zeros(2, 1, 3), torch.zeros(2, 3, 2)]
    for work_of_step, threads, n_threads in [
        (10**9, "auto", 2),
        (100, "auto", 1),
        (100, 2, 2),
    ]:
        monkeypatch.setattr("multilayer.stacking.runner.work", lambda *_, n=work_of_step: n)
        seen.clear()
        runner = runner_of(threads=threads, choice=False)
        runner.run(runner.step, block, inputs)
        assert seen == [n_threads] * 2
        assert torch.get_num_threads() == before
    assert runner_of(device=torch.device("cuda")).n_threads(block, (3, 8)) == 1


def test_a_call_gives_the_losses_and_outputs_of_its_steps() -> None:
    """In their order: as the steps one by one."""
    step, block, optimizers = step_of(modules())
    _, other, _ = step_of(modules())
    features, target = torch.randn(8, 2), torch.randn(8)
    rows = torch.stack([torch.randperm(8)[:6].expand(3, 6) for _ in range(2)])
    numbers = torch.stack([numbers_of(step, optimizers, n) for n in range(2)])
    inputs = [features, target, rows, numbers, NO_KEYS.expand(2, 3, 2)]
    runner = StepRunner(step, choice=False, threads=1, device=CPU)
    losses, outputs = runner.run(step, block, inputs)
    assert losses.shape == (2, 3)
    assert outputs.shape == (2, 3, 6)
    for i in range(2):
        loss, output = take(step, other, features[rows[i]], target[rows[i]], numbers[i], NO_KEYS)
        assert torch.equal(losses[i], loss)
        assert torch.equal(outputs[i], output)
    assert torch.equal(block.weights, other.weights)
    assert runner.skip_reason() == "not compiled: compile=false"


def test_a_traced_step_does_what_the_step_does() -> None:
    """On tensors alone, which it changes in place; it is what is compiled."""
    step, block, optimizers = step_of(modules())
    _, other, _ = step_of(modules())
    features, target, numbers = torch.randn(8, 2), torch.randn(8), numbers_of(step, optimizers, 0)
    rows = torch.stack([torch.randperm(8)[:6] for _ in range(3)])
    out = torch.empty_like(block.weights)
    example = [*block.tensors(), out, features[rows], target[rows], numbers, NO_KEYS]
    graph, first = trace_step(step, block, example)
    assert step.traced is False
    losses, outputs = graph(*example)
    for mine, its in zip(first, (losses, outputs), strict=True):
        assert torch.equal(mine, its)
    block.take_over(out)
    expected = take(step, other, features[rows], target[rows], numbers, NO_KEYS)
    torch.testing.assert_close(losses, expected[0])
    torch.testing.assert_close(outputs, expected[1])
    for mine, its in zip(block.tensors(), other.tensors(), strict=True):
        torch.testing.assert_close(mine, its)


class Compiler:
    """In the place of torch's: it runs the graph as it is, and notes what it is asked for.

    Attributes:
        is_running: whether what was begun last is not ready.
        failures: what is raised, one after the other, by those that are waited for.
        examples: what it was asked to compile for.
        n_closed: how many were ended.
    """

    def __init__(self, *failures: str) -> None:
        self.failures = [*failures]
        self.is_running = True
        self.examples: list[list[Any]] = []
        self.n_closed = 0

    def begin(self, graph: Any, example: list[Any], outputs: Any, n_at_once: int) -> "Build":
        """As `LibraryBuild`."""
        assert n_at_once == n_threads_at_most("auto")
        self.examples.append(example)
        return Build(self, graph)


class Build:
    """As `LibraryBuild`."""

    def __init__(self, compiler: Compiler, graph: Any) -> None:
        self.compiler, self.graph = compiler, graph
        self.path = Path("a file")

    def start(self) -> None:
        pass

    def is_running(self) -> bool:
        return self.compiler.is_running

    def result(self) -> Any:
        if self.compiler.failures:
            raise RuntimeError(self.compiler.failures.pop(0))
        return self.graph

    def close(self) -> None:
        self.compiler.n_closed += 1


def compiling(
    monkeypatch: pytest.MonkeyPatch, *failures: str, **options: Any
) -> tuple[StepRunner, Compiler, list[str]]:
    """A runner with such a compiler, and what it says."""
    compiler, said = Compiler(*failures), []
    monkeypatch.setattr("multilayer.stacking.runner.LibraryBuild", compiler.begin)
    monkeypatch.setattr("multilayer.stacking.runner.can_compile", lambda device: True)
    return runner_of(**{"say": said.append} | options), compiler, said


def steps_of(n_steps: int, n_rows: int) -> list[torch.Tensor]:
    """The inputs of a call; every member has its own rows and numbers."""
    step, _, optimizers = step_of(modules())
    torch.manual_seed(0)
    rows = torch.stack([torch.randperm(8)[:n_rows] for _ in range(3 * n_steps)])
    numbers = torch.stack([numbers_of(step, optimizers, n) for n in range(n_steps)])
    return [
        *(torch.randn(8, 2), torch.randn(8)),
        rows.view(n_steps, 3, n_rows),
        numbers,
        NO_KEYS.expand(n_steps, 3, 2),
    ]


def train(
    runner: StepRunner,
    block: Block,
    inputs: Sequence[torch.Tensor],
    n_steps_left: int,
    *,
    first: int = 0,
    n_done: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A call, as a stack does it."""
    runner.prepare(block, *inputs[:2], inputs[2].shape[2], n_steps_left, first)
    runner.use_compiled(n_done)
    return runner.run(runner.step, block, inputs)


WAITING = "waiting for the compiled step"


def test_a_step_is_compiled_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled is what runs, in every call with minibatches of that size."""
    runner, compiler, said = compiling(monkeypatch, choice=True)
    (_, block, _), (_, other, _) = step_of(modules()), step_of(modules())
    for n_rows in (6, 6, 4):
        inputs = steps_of(2, n_rows)
        found = train(runner, block, inputs, 2_000)
        expected = train(runner_of(choice=False), other, inputs, 2_000)
        for mine, its in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, its)
    words = "compiling the step of 3 members, for 2,000 steps ahead; it is used from step 0 on"
    assert said == [words, WAITING] * 2
    assert [*runner.compiled] == [(3, 6), (3, 4)]
    assert [each[-3].shape for each in compiler.examples] == [(3, 6), (3, 4)]
    assert compiler.n_closed == 2
    assert runner.skip_reason() is None


@pytest.mark.parametrize("is_running", [True, False])
def test_a_compiled_step_is_used_when_its_time_has_come(
    is_running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, though it may be ready; then it is waited for."""
    runner, compiler, said = compiling(monkeypatch, choice=True)
    compiler.is_running = is_running
    _, block, _ = step_of(modules())
    for n_done in (0, 2, 4):
        assert not runner.compiled
        train(runner, block, steps_of(2, 6), 2_000, first=3, n_done=n_done)
        if n_done < 3:
            reason = "not compiled: the training ended before its compiled steps"
            assert runner.skip_reason() == reason
    assert [*runner.compiled] == [(3, 6)]
    assert not runner.pending
    assert len(compiler.examples) == 1
    words = "compiling the step of 3 members, for 2,000 steps ahead; it is used from step 3 on"
    assert said == ([words, WAITING] if is_running else [])


@pytest.mark.parametrize(
    ("work_of_step", "n_steps", "n_blocks", "expected"),
    [
        (0, 31, 1, 0),
        (0, 600, 1, 18),
        (0, 600, 16, 18),
        (0, 10**6, 1, 6_000),
        (0, 10**6, 4, 1_500),
        (20_000_000, 10**6, 4, 750),
    ],
)
def test_the_first_steps_are_not_compiled(
    work_of_step: int,
    n_steps: int,
    n_blocks: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thirty-second of them, and no more than compiling pays from."""
    _, block, _ = step_of(modules())
    monkeypatch.setattr("multilayer.stacking.runner.work", lambda block, key: work_of_step)
    assert runner_of().n_not_compiled(block, 8, n_steps, n_blocks) == expected


def test_what_was_compiled_takes_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the step itself, which is slower by far."""
    runner, _, _ = compiling(monkeypatch)
    _, block, _ = step_of(modules())
    expected = torch.full((3,), 7.0), torch.full((3, 6), 8.0)
    runner.compiled[3, 6] = lambda *tensors: expected
    losses, outputs = train(runner, block, steps_of(2, 6), 1)
    assert torch.equal(losses, torch.full((2, 3), 7.0))
    assert torch.equal(outputs, torch.full((2, 3, 6), 8.0))


def test_a_few_smaller_minibatches_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of an epoch is one of many, and as many seconds of compiling."""
    runner, _, _ = compiling(monkeypatch, choice=True)
    _, block, _ = step_of(modules())
    for n_rows, n_steps_left in ((6, 2), (4, 499), (2, 501)):
        train(runner, block, steps_of(1, n_rows), n_steps_left)
    assert [*runner.compiled] == [(3, 6), (3, 2)]


def test_another_device_is_compiled_for_without_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once; a choice by a clock would give other digits on a busy machine."""
    runner, compiler, said = compiling(monkeypatch, choice=True, device=torch.device("cuda"))
    configs = []

    def compile_here(graph: Any, example: Any, *, dynamic_shapes: str, options: Any) -> Any:
        assert dynamic_shapes == "from_example_inputs"
        configs.append(options["config_patches"])
        return graph

    monkeypatch.setattr("torch._inductor.standalone_compile", compile_here)
    _, block, _ = step_of(modules())
    train(runner, block, steps_of(1, 6), 1, first=10)
    assert configs == [{"deterministic": True}]
    assert [*runner.compiled] == [(3, 6)]
    assert not compiler.examples
    assert said == ["compiling the step of 3 members, for 1 step ahead"]


@pytest.mark.parametrize("choice", [True, "auto"])
def test_a_training_goes_on_where_compiling_fails(
    choice: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, and not tried again."""
    runner, compiler, said = compiling(monkeypatch, "no such processor\nand more", choice=choice)
    (_, block, _), (_, other, _) = step_of(modules()), step_of(modules())
    runner.prepare(block, *steps_of(1, 4)[:2], 4, 10**6)
    for _ in range(2):
        inputs = steps_of(1, 6)
        losses, _ = train(runner, block, inputs, 10**6)
        expected, _ = train(runner_of(choice=False), other, inputs, 1)
        assert torch.equal(losses, expected)
    words = "compiling the step of 3 members, for 1,000,000 steps ahead; it is used from step 0 on"
    assert said == [
        *[words] * 2,
        WAITING,
        "compiling failed, and the training goes on without: no such processor",
    ]
    assert len(compiler.examples) == 2
    assert runner.skip_reason() is None
    assert not runner.compiled


def test_what_cannot_be_traced_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the training end."""
    runner, compiler, said = compiling(monkeypatch, choice=True)

    def refuse(*arguments: Any) -> None:
        raise ValueError("it depends on the value of a tensor")

    monkeypatch.setattr("multilayer.stacking.runner.trace_step", refuse)
    _, block, _ = step_of(modules())
    train(runner, block, steps_of(1, 6), 1)
    assert said == [
        "compiling failed, and the training goes on without: it depends on the value of a tensor"
    ]
    assert not compiler.examples


def test_it_is_said_why_nothing_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a training."""
    runner, compiler, said = compiling(monkeypatch)
    _, block, _ = step_of(modules())
    train(runner, block, steps_of(1, 6), 1)
    assert not compiler.examples
    assert not said
    assert runner.skip_reason() == (
        "not compiled: too few steps for it to pay;"
        " if you run more sweeps like this one, compile=true is faster from the second on"
    )
    assert runner_of(choice=False).skip_reason() == "not compiled: compile=false"
    monkeypatch.setattr("multilayer.stacking.runner.can_compile", lambda device: False)
    assert runner.skip_reason() == "not compiled: there is no C++ compiler"


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
    found = runner_of(threads=n_threads).block_size(n_members)
    assert (found, -(-n_members // found)) == (size, n_blocks)
    on_a_gpu = runner_of(threads=n_threads, device=torch.device("cuda"))
    assert on_a_gpu.block_size(n_members) == n_members


def test_large_networks_have_a_block_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do few of them, whatever the number of threads."""
    monkeypatch.setattr("multilayer.stacking.step._BLOCK_BYTES", 1)
    assert [runner_of(threads=4).block_size(n) for n in (1, 3, 9)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("threads", "n_blocks", "own", "expected"),
    [
        ("auto", 1, 4, (1, 4)),  # as many as the step is worth
        ("auto", 2, 4, (2, 4)),
        ("auto", 2, 1, (2, 1)),  # a small step: more threads would wait for each other
        ("auto", 5, 4, (5, 3)),
        ("auto", 40, 4, (16, 1)),
        (3, 2, 3, (2, 1)),
        (1, 2, 1, (1, 1)),
    ],
)
def test_blocks_share_the_threads(
    threads: int | str,
    n_blocks: int,
    own: int,
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 16: how many blocks at once, and the threads of each."""
    monkeypatch.setattr("multilayer.training.runtime._default_threads", lambda: 16)
    monkeypatch.setattr("multilayer.stacking.runner.n_threads_for", lambda *_: own)
    _, block, _ = step_of(modules())
    runner = runner_of(threads=threads)
    runner.share_threads(block, n_blocks, 8)
    assert (runner.workers.n_at_once, runner.workers.n_threads) == expected
    on_a_gpu = runner_of(threads=threads, device=torch.device("cuda"))
    on_a_gpu.share_threads(block, n_blocks, 8)
    assert on_a_gpu.workers.n_at_once == 1
    monkeypatch.setattr("multilayer.stacking.runner._MOST_BYTES_AT_ONCE", 1)  # for their memory
    runner.share_threads(block, n_blocks, 8)
    assert runner.workers.n_at_once == 1


@pytest.mark.skipif(not can_compile(CPU), reason="there is no C++ compiler")
def test_a_compiled_step_leaves_members_that_diverge_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the eager one does: the compiler must not take the look for what is finite away."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    _, block, _ = step_of(modules())
    inputs = steps_of(3, 6)
    inputs[3][1, :, 1] = torch.inf  # all that the second step multiplies with
    expected, after_one = deepcopy(block), deepcopy(block)
    train(runner_of(choice=False), expected, inputs, 1)
    train(runner_of(choice=False), after_one, [*inputs[:2], *(each[:1] for each in inputs[2:])], 1)
    runner = runner_of(choice=True)
    losses, _ = train(runner, block, inputs, 1)
    assert runner.compiled
    assert block.alive.tolist() == expected.alive.tolist() == [True, False, True]
    assert block.n_steps.tolist() == [3, 1, 3]
    assert losses.isfinite().tolist() == [[True] * 3, [True] * 3, [True, False, True]]
    torch.testing.assert_close(block.weights, expected.weights)
    torch.testing.assert_close(block.weights[1], after_one.weights[1])
    for name, each in block.rest.items():
        torch.testing.assert_close(each, expected.rest[name])
    block.reset_state()
    assert all(each.isfinite().all() for each in block.state.values())
