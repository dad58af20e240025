"""Signals that come while a stack trains."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.lockstep.stack import Stack
from multilayer.stacking.runner import StepRunner
from multilayer.training.interrupts import interrupts_deferred, raise_interrupts

from ..conftest import Run
from .test_launcher import QUICK, manifests


def test_an_interrupt_waits_for_its_place() -> None:
    """And comes at the end of the block if there was none."""
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():  # noqa: PT012 - when it is raised matters
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("after")
        raise_interrupts()
        reached.append("never")
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():  # noqa: PT012 - when it is raised matters
        signal.raise_signal(signal.SIGINT)
        reached.append("last")
    assert reached == ["after", "last"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with interrupts_deferred():
        raise_interrupts()  # nothing is left of those before


def test_a_second_ctrl_c_does_not_wait() -> None:
    """Who presses it again does not want to wait."""
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():  # noqa: PT012 - when it is raised matters
        signal.raise_signal(signal.SIGINT)
        reached.append("first")
        signal.raise_signal(signal.SIGINT)
        reached.append("never")
    assert reached == ["first"]


def test_the_first_of_several_signals_decides() -> None:
    """`timeout` and schedulers send SIGTERM twice: once is enough."""
    called: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
    try:
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert called == []
            raise_interrupts()
            assert called == [signal.SIGTERM]
            raise_interrupts()
        assert called == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("numbers", "code", "words"),
    [
        ([signal.SIGINT], 130, "interrupted by the user"),
        ([signal.SIGTERM, signal.SIGTERM], 143, "interrupted by a SIGTERM"),
        ([signal.SIGHUP], 129, "interrupted by a SIGHUP"),
    ],
)
def test_a_signal_within_a_call_is_honoured_after_it(
    numbers: list[signal.Signals],
    code: int,
    words: str,
    multilayer: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All members of all blocks have then taken its steps; they are resumable, and say so."""
    monkeypatch.setattr("multilayer.stacking.step._BLOCK_SIZE", 2)
    monkeypatch.setattr("multilayer.stacking.chunks._MINIBATCHES_A_CALL", 3)
    step, n_taken = StepRunner.one, [0]

    def step_and_signal(runner: StepRunner, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        n_taken[0] += 1
        if n_taken[0] == 2 * 7 + 2:  # two blocks, seven minibatches: in the second epoch
            for number in numbers:
                os.kill(os.getpid(), number)
        return step(runner, *arguments)

    monkeypatch.setattr(StepRunner, "one", step_and_signal)
    own = ["data.batch_size=16", "scheduler=cosine", "seed=0,1,2,3"]
    outcome = multilayer("train", *QUICK, *own)
    monkeypatch.setattr(StepRunner, "one", step)
    assert outcome.code == code, outcome.err
    found = manifests(tmp_path)
    assert {(each["status"], each["stop_reason"]) for each in found} == {("interrupted", words)}
    assert [each["steps"] for each in found] == [7 + 3] * 4
    assert len(list(tmp_path.glob("sweep/*/history.csv"))) == 4
    assert not list(tmp_path.rglob(".partial*"))
    whole = multilayer("train", "data=iris", *own[:2], "seed=3", "hydra.run.dir=whole", *QUICK[4:])
    again = ["resume=sweep/3", "hydra.run.dir=again"]
    resumed = multilayer("train", "data=iris", *own[:2], "seed=3", *again, *QUICK[4:])
    assert (whole.code, resumed.code) == (0, 0), resumed.err
    ends = [
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "again")
    ]
    assert ends[1]["test"] == pytest.approx(ends[0]["test"], rel=1e-4)


def test_an_epoch_whose_steps_are_taken_is_measured_before_an_interrupt(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on from there begins with the next one."""
    step, n_taken = StepRunner.one, [0]

    def step_and_signal(runner: StepRunner, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        n_taken[0] += 1
        if n_taken[0] == 7 + 3:  # seven minibatches, in one call: in the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return step(runner, *arguments)

    monkeypatch.setattr(StepRunner, "one", step_and_signal)
    outcome = multilayer("train", *QUICK, "data.batch_size=16", "seed=0,1")
    assert outcome.code == 143, outcome.err
    assert [each["steps"] for each in manifests(tmp_path)] == [14] * 2
    for path in tmp_path.glob("sweep/*/history.csv"):
        rows = path.read_text().splitlines()
        assert len(rows) == 1 + 2
        assert dict(zip(*(row.split(",") for row in rows[::2]), strict=True))["validation/loss"]


def test_a_signal_between_epochs_ends_the_sweep(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that ended before are done, and what waits does not begin."""
    end = Stack.end_epoch

    def end_and_signal(stack: Stack) -> None:
        end(stack)
        if stack.members()[0].epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Stack, "end_epoch", end_and_signal)
    own = ["trainer.max_epochs=2,9,9,9", "hydra.launcher.max_members=2"]
    outcome = multilayer("train", *QUICK[:4], *own)
    assert outcome.code == 128 + signal.SIGTERM
    found = manifests(tmp_path)
    assert [each["status"] for each in found][:2] == ["done", "interrupted"]
    assert all(each["steps"] in (0, None) for each in found[2:])
