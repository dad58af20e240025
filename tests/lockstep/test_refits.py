"""The refits of a sweep's runs, which train as a stack."""

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from multilayer.cli.tasks import train
from multilayer.composing.job_configs import Job
from multilayer.lockstep.plan import make_plan
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.refits import train_jobs_and_refits
from multilayer.lockstep.stack import Stack
from multilayer.lockstep.train import Hooks, Outcome
from multilayer.runs.folder import Result, RunFolder, find_state
from multilayer.training.runtime import quiet_lightning

from ..conftest import Run
from ..sweeps.ledgers import states_of
from ..trained import config_of, weights_of
from .conftest import MakeJobs, train_one_by_one
from .test_equivalence import check_curves, check_files, check_results
from .test_in_place import in_place

SHARED = [
    "data=iris", "data.batch_size=16", "model.d_hidden=[8]", "model.normalization=batch",
    "trainer.max_epochs=6", "callbacks.checkpoint.every_seconds=0", "scheduler=cosine",
    "optimizer.eps=1e-3",  # biases before a normalization have gradients of rounding alone
    "refit=true",
]  # fmt: skip
STOPS = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1"]
OWN = [
    ["seed=1", "optimizer.lr=0.02"],
    ["seed=2", "callbacks.best_weights.mode=max"],  # the epochs found are few
    ["seed=3", "optimizer.lr=0.05", *STOPS],
]


def train_stack(jobs: Sequence[Job]) -> list[Outcome]:
    """What comes of jobs with their refits, in their order."""
    quiet_lightning()
    (plan,) = make_plan(jobs).stacks
    ended: dict[int, Outcome] = {}
    written: list[int] = []

    def end(some: Sequence[tuple[Job, Outcome]]) -> None:
        for job, outcome in some:
            assert job.number not in ended, "a job ends once"
            assert job.folder.name == str(job.number)
            ended[job.number] = outcome

    def refuse(jobs: Sequence[Job], reason: str) -> None:
        pytest.fail(reason)

    with SweepProgress(len(jobs), shown=False) as progress:
        hooks = Hooks(end, refuse, progress.say, written=lambda job, _: written.append(job.number))
        train_jobs_and_refits(plan, progress, hooks)
        assert progress.n_ended == progress.n_runs
    assert sorted(written) == [n for n, each in sorted(ended.items()) if isinstance(each, Result)]
    return [ended[job.number] for job in jobs]


def refit_of(outcome: Outcome) -> Result:
    """How the refit ended."""
    assert isinstance(outcome, Result)
    assert outcome.refit is not None
    return outcome.refit


def test_refits_of_a_stack_are_those_of_the_jobs_trained_alone(jobs: MakeJobs) -> None:
    """Each with its own number of epochs; curves, metrics, files."""
    stack = jobs(SHARED, OWN)
    stacked, alone = train_stack(stack), train_one_by_one(stack)
    n_epochs = [refit_of(each).manifest["refit"] for each in stacked]
    assert len(set(n_epochs)) > 1
    for job, ours, theirs in zip(stack, stacked, alone, strict=True):
        other = job.folder.parent.parent / "alone" / str(job.number)
        refit = refit_of(ours)
        assert refit.manifest["members"] == 3
        assert refit.manifest["stop_reason"] == f"reached refit={refit.manifest['refit']}"
        check_results(refit, refit_of(theirs))
        check_curves(job.folder / "refit", other / "refit")
        check_files(job.folder, other)
        assert refit.metrics.keys() == {"train", "test"}
        assert find_state(job.folder) == "finished"


def test_a_single_run_through_the_engine_has_the_same_refit(tmp_path: Path) -> None:
    """`engine=lockstep`."""
    words = [*SHARED, *OWN[0]]
    results = [
        train(config_of(*words, f"engine={name}"), tmp_path / name, words, quiet=True)
        for name in ("lockstep", "lightning")
    ]
    refits = [refit_of(each) for each in results]
    for each in refits:
        each.manifest["config_hash"] = None  # of other engines
    check_results(*refits)


def test_jobs_that_were_killed_in_their_refits_go_on(
    jobs: MakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that was: no run is trained again, and the refits end as the undisturbed ones."""
    stack = jobs(SHARED, OWN)
    moments: list[Path] = []
    end_epoch = Stack.end_epoch

    def copied(self: Stack) -> None:
        end_epoch(self)
        self.writer.finish()
        if (tmp_path / "stack/0/refit").exists() and not (tmp_path / "done").exists():
            moments.append(tmp_path / f"killed {len(moments)}")
            shutil.copytree(tmp_path / "stack", moments[-1])

    monkeypatch.setattr(Stack, "end_epoch", copied)
    undisturbed = train_stack(stack)
    (tmp_path / "done").touch()
    assert len(moments) > 2
    for killed in moments:
        left = [
            in_place(job, folder)
            for job in stack
            if find_state(folder := killed / str(job.number)) != "finished"
        ]
        manifests = [(job.folder / "manifest.json").read_bytes() for job in left]
        for job, outcome in zip(left, train_stack(left), strict=True):
            refit, whole = refit_of(outcome), refit_of(undisturbed[job.number])
            check_results(refit, whole, tolerance=1e-4)
            ours, theirs = (
                weights_of(folder / "refit", "last.ckpt")
                for folder in (job.folder, stack[job.number].folder)
            )
            for name, value in theirs.items():
                assert ours[name].numpy() == pytest.approx(value.numpy(), rel=1e-3, abs=1e-5)
        assert [(job.folder / "manifest.json").read_bytes() for job in left] == manifests


QUICK = ["-m", "hydra.sweep.dir=sweep", "data=iris", "trainer.max_epochs=3", "refit=true"]
LOCKSTEP = "hydra/launcher=lockstep"


def refits_in(sweep: Path) -> list[dict[str, Any]]:
    """The manifests of the refits of a sweep, in the order of its jobs."""
    return [RunFolder(path).read_manifest() for path in sorted(sweep.glob("[0-9]*/refit"))]


@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=basic"],
        [LOCKSTEP],
        [LOCKSTEP, "hydra.launcher.max_members=1"],
        [LOCKSTEP, "hydra.launcher.stack=false"],
    ],
)
def test_each_run_of_a_sweep_has_its_refit(
    launcher: list[str], multilayer: Run, tmp_path: Path
) -> None:
    """And is one run in the table, the report and the list of sweeps."""
    outcome = multilayer("train", *QUICK, *launcher, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert [each["status"] for each in refits_in(tmp_path / "sweep")] == ["done"] * 2
    assert outcome.out.count("│ done") == 2
    assert "test of refit" in outcome.out
    for path in sorted((tmp_path / "sweep").glob("[0-9]*")):
        accuracies = [
            json.loads((each / "metrics.json").read_text())["test"]["accuracy"]
            for each in (path, path / "refit")
        ]
        (row,) = [line for line in outcome.out.splitlines() if line.startswith(f"│ {path.name} ")]
        assert [f"accuracy {value:.6g}" in row for value in accuracies] == [True, True]
    assert set(states_of(tmp_path / "sweep").values()) == {"done"}
    assert multilayer("report", "sweep=sweep").code == 0
    report = (tmp_path / "sweep/report.md").read_text()
    assert "2 runs" in report
    assert "/refit" not in report


def test_a_sweep_goes_on_with_its_refits(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was interrupted in its refit is not done; the same command ends it."""
    words = [*QUICK, LOCKSTEP, "seed=0,1"]
    end_epoch = Stack.end_epoch

    def interrupt(self: Stack) -> None:
        end_epoch(self)
        if (tmp_path / "sweep/0/refit").exists():
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "end_epoch", interrupt)
        assert multilayer("train", *words).code == 143
    assert set(states_of(tmp_path / "sweep").values()) == {"interrupted"}
    runs = [path / "manifest.json" for path in (tmp_path / "sweep/0", tmp_path / "sweep/1")]
    before = [path.read_bytes() for path in runs]
    outcome = multilayer("train", *words)
    assert outcome.code == 0, outcome.err
    assert "2 interrupted, to go on" in outcome.out
    assert [path.read_bytes() for path in runs] == before
    assert [each["attempts"] for each in refits_in(tmp_path / "sweep")] == [2, 2]
    assert set(states_of(tmp_path / "sweep").values()) == {"done"}


def test_a_refit_that_fails_fails_its_job(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here all of them, whose data cannot be read any more; the same command begins again."""
    words = [*QUICK, LOCKSTEP, "seed=0,1"]

    def gone(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("multilayer.lockstep.refits.make_data", gone)
        outcome = multilayer("train", *words)
    assert outcome.code == 1
    assert "the disk is gone" in outcome.err
    assert set(states_of(tmp_path / "sweep").values()) == {"failed"}
    assert multilayer("train", *words).code == 0
    assert len(refits_in(tmp_path / "sweep")) == 2


def test_members_that_diverge_have_no_refit(multilayer: Run, tmp_path: Path) -> None:
    """The others have theirs."""
    words = [*QUICK, LOCKSTEP, "optimizer=sgd", "optimizer.lr=0.01,1e30"]
    outcome = multilayer("train", *words)
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 refit, on training and validation rows" in outcome.out
    assert list(states_of(tmp_path / "sweep").values()) == ["done", "diverged"]
    assert [path.parent.name for path in (tmp_path / "sweep").glob("*/refit")] == ["0"]


def test_workers_train_refits_too(multilayer: Run, tmp_path: Path) -> None:
    """Processes of the sweep's command."""
    outcome = multilayer("train", *QUICK, LOCKSTEP, "hydra.launcher.workers=local:1", "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert [each["status"] for each in refits_in(tmp_path / "sweep")] == ["done"] * 2
    metrics = json.loads((tmp_path / "sweep/1/refit/metrics.json").read_text())
    assert metrics.keys() == {"train", "test"}
