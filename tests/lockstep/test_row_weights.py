"""A stack whose rows have weights against the same jobs trained alone."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from multilayer.stacking.runner import StepRunner
from multilayer.training.runtime import can_compile

from ..trained import train_in
from .conftest import MakeJobs, train_one_by_one, train_stacked
from .test_equivalence import check_curves, check_results

QUICK = ["trainer.max_epochs=3", "data.batch_size=16", "trainer.log_every_n_steps=5"]
TWO = [["seed=3", "optimizer.lr=0.01"], ["seed=4", "optimizer.lr=0.03"]]
LOADERS = {"iris": load_iris, "cancer": load_breast_cancer, "diabetes": load_diabetes}

CASES = {
    "multiclass": ("iris", ["loss=cross_entropy"], [["loss.label_smoothing=0.1"], []]),
    "class weights": ("iris", ["loss=cross_entropy", "loss.class_weights=[1,2,3]"], TWO),
    "binary": ("cancer", ["loss=binary_cross_entropy"], [["loss.label_smoothing=0.1"], []]),
    "binary class weights": (
        "cancer",
        ["loss=binary_cross_entropy", "loss.class_weights=[1,2]"],
        TWO,
    ),
    "regression": ("diabetes", [], TWO),
    "quantiles": ("diabetes", ["loss=quantile", "loss.levels=[0.1,0.9]"], TWO),
    "huber": ("diabetes", ["loss=huber"], TWO),
    "by vmap": ("iris", ["model=sequential"], TWO),
    "a loss of one's own": ("diabetes", ["loss._target_=tests.lockstep.networks.PerRow"], TWO),
    "other layers": ("iris", ["model.normalization=batch", "optimizer=sgd"], TWO),
    "clipped": ("iris", ["trainer.gradient_clip_val=0.1", "optimizer=sgd"], TWO),
}


def table_words(name: str, folder: Path) -> list[str]:
    """The table of a data set with weights, some of them 0, in a file."""
    data = LOADERS[name]()
    frame = pl.DataFrame(data.data[:200], schema=[f"x{i}" for i in range(data.data.shape[1])])
    n = frame.height
    weights = pl.Series(np.random.default_rng(1).integers(4, size=n) / 3)
    target = pl.Series(data.target[:n])
    frame.with_columns(w=weights, y=target).write_csv(folder / "t.csv")
    return ["data=table", f"data.path={folder / 't.csv'}", "data.target=y", "data.weight=w"]


@pytest.mark.parametrize("case", CASES)
def test_a_weighted_member_is_the_job_trained_alone(
    case: str, jobs: MakeJobs, tmp_path: Path
) -> None:
    """Curves, best epoch and final metrics."""
    name, words, own = CASES[case]
    stack = jobs([*table_words(name, tmp_path), *QUICK, *words], own)
    stacked, alone = train_stacked(stack), train_one_by_one(stack)
    for job, ours, theirs in zip(stack, stacked, alone, strict=True):
        check_curves(job.folder, job.folder.parent.parent / "alone" / str(job.number))
        check_results(ours, theirs)


def test_a_minibatch_without_weight_leaves_its_member_in_training(
    jobs: MakeJobs, tmp_path: Path
) -> None:
    """One row a minibatch, of which some weigh nothing."""
    words = [*table_words("iris", tmp_path), "trainer.max_epochs=1", "data.batch_size=1"]
    stack = jobs(words, TWO)
    stacked, alone = train_stacked(stack), train_one_by_one(stack)
    for ours, theirs in zip(stacked, alone, strict=True):
        assert ours.manifest["status"] == "done"
        check_results(ours, theirs)


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="there is no C++ compiler")
@pytest.mark.parametrize(("name", "loss"), [("iris", "cross_entropy"), ("diabetes", "quantile")])
def test_a_compiled_step_has_the_weights_too(
    jobs: MakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, loss: str
) -> None:
    """All but the last minibatch of an epoch, which is smaller."""
    one, compiled = StepRunner.one, list[bool]()

    def note(self: StepRunner, step: Any, key: Any, *arguments: Any) -> Any:
        compiled.append(key in self.compiled)
        return one(self, step, key, *arguments)

    monkeypatch.setattr(StepRunner, "one", note)
    words = [*table_words(name, tmp_path), *QUICK, f"loss={loss}"]
    stacked = train_stacked(jobs([*words, "compile=true"], TWO))
    assert sum(compiled) > len(compiled) / 2
    for ours, theirs in zip(stacked, train_one_by_one(jobs(words, TWO)), strict=True):
        for split, metrics in theirs.metrics.items():
            assert ours.metrics[split]["loss"] == pytest.approx(metrics["loss"], rel=1e-4)


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_equal_weights_are_none(tmp_path: Path, engine: str) -> None:
    """To rounding, with both engines."""
    words = [*table_words("iris", tmp_path)[:-1], *QUICK, f"engine={engine}"]
    frame = pl.read_csv(tmp_path / "t.csv").with_columns(w=pl.lit(0.7))
    frame.write_csv(tmp_path / "t.csv")
    weighted = train_in(tmp_path / "weighted", *words, "data.weight=w")
    plain = train_in(tmp_path / "plain", *words, "data.drop_columns=[w]")
    for split, metrics in plain.metrics.items():
        assert weighted.metrics[split] == pytest.approx(metrics, rel=1e-4, abs=1e-6)
