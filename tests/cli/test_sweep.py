"""Sweeps: a folder for each job, failed jobs among others, and the table at the end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Run

QUICK = ["data=iris", "trainer.max_epochs=2"]


def manifests(tmp_path: Path) -> dict[str, dict[str, Any]]:
    found = sorted(tmp_path.glob("sweeps/*/*/manifest.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in found}


def test_each_job_has_a_run_folder_and_a_row(multilayer: Run, tmp_path: Path) -> None:
    """The table marks the best; each folder can be evaluated."""
    outcome = multilayer("train", "-m", *QUICK, "optimizer.lr=1e-4,1e-1", "seed=0,1")
    assert outcome.code == 0, outcome.err
    jobs = manifests(tmp_path)
    assert list(jobs) == ["0", "1", "2", "3"]
    assert {job["status"] for job in jobs.values()} == {"done"}
    assert jobs["3"]["overrides"] == [*QUICK, "optimizer.lr=0.1", "seed=1"]
    assert outcome.out.count(" *") == 1
    assert "tensorboard --logdir sweeps" in outcome.out
    (folder,) = tmp_path.glob("sweeps/*/2")
    assert multilayer("evaluate", f"run={folder}").code == 0


def test_lists_are_shown_as_they_were_given(multilayer: Run) -> None:
    """Brackets are no markup."""
    outcome = multilayer("train", "-m", *QUICK, "model.d_hidden=[4],[8]")
    assert "model.d_hidden=[4]  done" in outcome.out
    assert "model.d_hidden=[8] │" in outcome.out


def test_a_broken_job_does_not_stop_the_others(multilayer: Run, tmp_path: Path) -> None:
    """It is named at once and again at the end; its manifest says why. Hydra adds nothing."""
    outcome = multilayer("train", "-m", *QUICK, "data.folds=2,3", "data.fold=0,2")
    assert outcome.code == 1
    assert "Error executing job" not in outcome.err  # with overrides that may hold secrets
    assert outcome.err.startswith("multilayer: error: job 1: data.fold=2")
    assert "failed        1 of 4: job 1" in outcome.out
    jobs = manifests(tmp_path)
    assert [job["status"] for job in jobs.values()] == ["done", "failed", "done", "done"]
    assert "data.fold=2" in jobs["1"]["stop_reason"]


def test_a_sweep_whose_every_job_is_broken_does_not_start(multilayer: Run, tmp_path: Path) -> None:
    """One message, and no folder."""
    outcome = multilayer("train", "-m", *QUICK, "model.dropout=1.5,2.5")
    assert outcome.code == 2
    assert outcome.err.count("multilayer: error:") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_jobs_run_side_by_side_with_joblib(multilayer: Run, tmp_path: Path) -> None:
    """Hydra's joblib launcher gives the same runs, in other processes."""
    words = ["train", "-m", *QUICK, "seed=0,1"]
    outcome = multilayer(*words, "hydra.sweep.dir=basic")
    assert outcome.code == 0, outcome.err
    words += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=joblib"]
    done = subprocess.run(
        [sys.executable, "-m", "multilayer", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for job in ("0", "1"):
        metrics = [
            json.loads((tmp_path / launcher / job / "metrics.json").read_text())
            for launcher in ("basic", "joblib")
        ]
        assert metrics[0]["test"]["loss"] == pytest.approx(metrics[1]["test"]["loss"], rel=1e-5)


def test_a_sweep_can_be_a_choice(multilayer: Run, tmp_path: Path) -> None:
    """`hparams_search=learning_rates` needs no -m: the file says that it is a sweep."""
    outcome = multilayer("train", "hparams_search=learning_rates", *QUICK)
    assert outcome.code == 0, outcome.err
    assert len(manifests(tmp_path)) == 4


def test_a_launcher_that_fails_says_why(multilayer: Run) -> None:
    """No job has failed: it is not left without a word."""
    outcome = multilayer(
        "train", "-m", *QUICK, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"
    )
    assert outcome.code == 1
    assert "n_jobs" in outcome.err


def test_flags_may_stand_anywhere(multilayer: Run, tmp_path: Path) -> None:
    """Also after the overrides."""
    outcome = multilayer("train", *QUICK, "seed=0,1", "-m")
    assert outcome.code == 0, outcome.err
    assert len(manifests(tmp_path)) == 2


def test_a_sweep_without_a_run_to_look_at_names_its_folder_alone(multilayer: Run) -> None:
    """TensorBoard and the report would show nothing."""
    words = ["data=table", "data.path=nowhere.csv", "data.target=y", "seed=0,1"]
    outcome = multilayer("train", "-m", *words)
    assert outcome.code == 1
    assert "failed        2 of 2" in outcome.out
    assert "sweep folder  sweeps" in outcome.out
    assert "tensorboard" not in outcome.out
    assert "multilayer report" not in outcome.out


def test_a_key_that_is_given_twice_is_said_to_be(multilayer: Run) -> None:
    """As a shell makes of `seed={0..2}`, of which one seed was left without a word."""
    words = ["train", "-m", *QUICK, "seed=0", "seed=1", "seed=2", "sweep.dry_run=true"]
    outcome = multilayer(*words)
    assert outcome.code == 0
    said = "seed: given 3 times, of which the last holds; several values are seed=0,1,2\n"
    assert outcome.err == f"multilayer: {said}"
    assert multilayer(*words[:4], *words[-2:]).err == ""


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["data.folds=2", "data.fold=0,2"], ["data.fold=2: of data.folds=2 the last is 1"]),
        (["model.dropout=0,1.5", "seed=0,x"], ["model.dropout=1.5: ", "seed=x: must be"]),
        (["optimizer=sgd,adam", "optimizer.momentum=0,-1"], ["optimizer.momentum=-1: "]),
        (["data.folds=2,3", "data.fold=0,2,5"], ["data.fold=5: of data.folds=2 the last is 1"]),
    ],
)
def test_a_value_that_no_job_can_have_is_refused(
    multilayer: Run, tmp_path: Path, words: list[str], wrong: list[str]
) -> None:
    """Before any job trains; a value that some jobs can have is not."""
    outcome = multilayer("train", "-m", *QUICK, *words)
    assert outcome.code == 2
    assert not list(tmp_path.iterdir())
    lines = outcome.err.splitlines()
    assert all(each in line for each, line in zip(wrong, lines, strict=True))
