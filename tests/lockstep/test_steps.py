"""Whether a step is compiled, and with how many threads it runs."""

from typing import Any

import pytest
import torch

from multilayer.lockstep.steps import Runner, trace, work

from .test_block import NO_KEYS, modules, numbers_of, step_of

CPU = torch.device("cpu")


def runner_of(**options: Any) -> Runner:
    """One of a step that is never taken."""
    step, _, _ = step_of(modules())
    return Runner(step, **{"choice": "auto", "threads": "auto", "device": CPU} | options)


@pytest.mark.parametrize(
    ("work_of_step", "n_ahead", "expected"),
    [
        (0, 2_999, False),
        (0, 3_000, True),
        (20_000_000, 1_499, False),
        (20_000_000, 1_500, True),
        (100_000_000, 499, False),
        (100_000_000, 500, True),
    ],
)
def test_a_step_is_compiled_by_the_work_ahead(
    work_of_step: int, n_ahead: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many steps, or fewer large ones; unless the user says it, or there is no compiler."""
    _, block, _ = step_of(modules())
    monkeypatch.setattr("multilayer.lockstep.steps.can_compile", lambda device: True)
    monkeypatch.setattr("multilayer.lockstep.steps.work", lambda block, key: work_of_step)
    assert runner_of().is_worthwhile(block, (3, 8), n_ahead) is expected
    assert runner_of(choice=True).is_worthwhile(block, (3, 8), 1)
    assert not runner_of(choice=False).is_worthwhile(block, (3, 8), 10**9)
    monkeypatch.setattr("multilayer.lockstep.steps.can_compile", lambda device: False)
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
    monkeypatch.setattr("multilayer.threads.TORCHS_OWN", 2)
    seen = []
    monkeypatch.setattr(
        Runner, "one", lambda *_: (seen.append(torch.get_num_threads()), torch.zeros(3))[1:] * 2
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
        monkeypatch.setattr("multilayer.lockstep.steps.work", lambda *_, n=work_of_step: n)
        seen.clear()
        runner_of(threads=threads, choice=False).run(block, inputs, 1)
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
    runner = Runner(step, choice=False, threads=1, device=CPU)
    losses, outputs = runner.run(block, inputs, 1)
    assert losses.shape == (2, 3)
    assert outputs.shape == (2, 3, 6)
    for i in range(2):
        loss, output = step(other, features[rows[i]], target[rows[i]], numbers[i], NO_KEYS)
        assert torch.equal(losses[i], loss)
        assert torch.equal(outputs[i], output)
    assert torch.equal(block.weights, other.weights)
    assert runner.why_not() == "not compiled: compile=false"


def test_a_traced_step_does_what_the_step_does() -> None:
    """On tensors alone, which it changes in place; it is what is compiled."""
    step, block, optimizers = step_of(modules())
    _, other, _ = step_of(modules())
    features, target, numbers = torch.randn(8, 2), torch.randn(8), numbers_of(step, optimizers, 0)
    rows = torch.stack([torch.randperm(8)[:6] for _ in range(3)])
    example = [*block.tensors(), features, target, rows, numbers, NO_KEYS]
    graph = trace(step, block, example)
    assert step.traced is False
    losses, outputs = graph(*example)
    expected = step(other, features[rows], target[rows], numbers, NO_KEYS)
    torch.testing.assert_close(losses, expected[0])
    torch.testing.assert_close(outputs, expected[1])
    for mine, its in zip(block.tensors(), other.tensors(), strict=True):
        torch.testing.assert_close(mine, its)
