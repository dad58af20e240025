"""Threads and compiling follow sizes and counts: a command gives the same bits at any pace."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config

from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.stacking.runner import StepRunner
from multilayer.training.loading import load
from multilayer.training.runtime import compile_if_worthwhile, n_threads_for, using_threads

from ..trained import same, weights_of


@pytest.fixture(autouse=True)
def _threads_as_before() -> Any:
    """What a test sets is for itself alone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("work", "n_members", "n_threads"),
    [
        (17_226 * 64, 1, 1),
        (49_999_999, 1, 1),
        (50_000_000, 1, 8),
        (49_999_999, 3, 1),
        (11_999_999, 4, 1),
        (12_000_000, 4, 2),
        (17_226 * 64 * 16, 16, 2),
        (10**12, 16, 8),
        (0, 16, 1),
    ],
)
def test_the_number_of_threads_follows_the_size_of_a_step(
    work: int, n_members: int, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine of eight cores; what the user says counts everywhere."""
    monkeypatch.setattr("multilayer.training.runtime._default_threads", lambda: 8)
    assert n_threads_for("auto", work, n_members) == n_threads
    assert n_threads_for(3, work, n_members) == 3


def test_a_run_predicts_with_the_threads_of_its_training_as_far_as_there_are_any(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One from a machine of more cores would be evaluated a hundred times slower on this one.

    The threads of whoever loads it stay as they are.
    """
    monkeypatch.setattr("multilayer.training.runtime._default_threads", lambda: 2)
    checkpoint = finished_run / "checkpoints" / "best.ckpt"
    read = torch.load(checkpoint, weights_only=True)
    monkeypatch.setattr("multilayer.training.loading.read_checkpoint", lambda path: read)
    rows, used = np.zeros((1, 4)), []
    with using_threads(2):
        for recorded in (1, 2, 64):
            read["multilayer"]["threads"] = recorded
            predictor = load(checkpoint)
            hook = lambda *_: used.append(torch.get_num_threads())  # noqa: E731
            predictor.network.register_forward_hook(hook)
            predictor.predict(rows)
            predictor.evaluate(predictor.minibatches(split="validation"))
            assert torch.get_num_threads() == 2
    assert used == [1, 1, 2, 2, 2, 2]


def test_on_a_gpu_torchs_compiler_times_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the fastest of some, which differ in their last digits."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, options: given.append(options))
    network, gpu = torch.nn.Linear(1, 1), torch.device("cuda")
    assert compile_if_worthwhile(network, True, n_steps=1, device=gpu)
    with torch._inductor.config.patch(given[0]):
        assert torch._inductor.config.deterministic


CASES = {
    "alone": ["engine=lightning", "callbacks.checkpoint.every_seconds=30"],
    "stack": ["engine=lockstep"],
    "rates": ["engine=lightning", "callbacks=[default,lr_sweep]", "callbacks.lr_sweep.n_seeds=2"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_slow_machine_gives_the_same_bits(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that jumps by an hour at each look, whoever of us looks."""
    words = ["data=iris", "trainer.max_epochs=4", "model.dropout=0.2", *CASES[case]]
    config = check_command_line("train", words)
    assert config is not None
    one, counts = StepRunner.one, []

    def counting(runner: StepRunner, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        counts.append(torch.get_num_threads())
        return one(runner, *arguments)

    monkeypatch.setattr(StepRunner, "one", counting)
    manifest = train(config, tmp_path / "usual", words, quiet=True).manifest
    usual = list(counts)
    hours = iter(range(0, 10**9, 3600))
    n_clocks = 0
    ours = [module for name, module in sys.modules.items() if name.startswith("multilayer")]
    for module in (time, *ours):
        for clock in ("perf_counter", "monotonic"):
            if hasattr(module, clock):
                monkeypatch.setattr(module, clock, lambda: float(next(hours)))
                n_clocks += 1
    assert n_clocks > 4
    slow = train(config, tmp_path / "slow", words, quiet=True).manifest
    assert slow["fit_seconds"] >= 3600
    assert slow["compiled"] == manifest["compiled"]
    assert counts == usual * 2
    for name in ("best.ckpt", "last.ckpt"):
        assert same(weights_of(tmp_path / "usual", name), weights_of(tmp_path / "slow", name))
