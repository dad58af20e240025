"""Members whose settings differ, in one stack, against the same jobs trained alone."""

from pathlib import Path

import polars as pl
import pytest
import torch

from .conftest import MakeJobs, train_one_by_one, train_stacked
from .test_equivalence import check_curves, check_files, check_results, scalars

SHARED = ["data.batch_size=16", "trainer.log_every_n_steps=3", "optimizer.eps=1e-3"]
SHARED += ["trainer.limit_train_batches=4", "scheduler=plateau", "scheduler.scheduler.patience=0"]
STOPPING = "callbacks.early_stopping"

OWN = [
    ["trainer.max_epochs=5", "trainer.min_epochs=4", f"{STOPPING}.patience=1"],
    ["trainer.max_epochs=6", f"{STOPPING}.patience=1", f"{STOPPING}.min_delta=1"],
    ["trainer.max_epochs=4", f"{STOPPING}.monitor=train/loss", "monitor=train/loss", "logger=csv"],
    ["trainer.max_epochs=3", "callbacks=none"],
    ["trainer.max_epochs=3", "logger=none"],
    ["trainer.max_epochs=3", "+callbacks.diagnostics._target_=multilayer.callbacks.Diagnostics"],
    ["trainer.max_epochs=2", "callbacks=figures"],
]


@pytest.mark.parametrize(
    ("data", "more", "tolerance"),
    [
        ("wine", ["trainer.precision=64-true"], 1e-9),
        ("diabetes", ["trainer.precision=64-true"], 1e-9),
        ("breast_cancer", ["trainer.precision=64-true"], 1e-7),
        ("iris", ["scheduler=constant"], 1e-4),
    ],
)
def test_each_is_the_job_trained_alone(
    data: str, more: list[str], tolerance: float, jobs: MakeJobs
) -> None:
    """Precision, limits, patience, monitors, loggers and callbacks."""
    is_double = "trainer.precision=64-true" in more
    shared = [f"data={data}", *SHARED, *more]
    if not is_double:
        shared = [word for word in shared if "scheduler" not in word]
    own = [[*words, f"seed={number}"] for number, words in enumerate(OWN)]
    if is_double:  # drawing takes longer than training
        own = own[:6]
    if data == "iris":  # classes have a metric of which more is better
        best = ["monitor=validation/accuracy", "mode=max", f"{STOPPING}.patience=1"]
        own.append(["trainer.max_epochs=5", *best])
    made = jobs(shared, own)
    stacked, alone = train_stacked(made), train_one_by_one(made)
    for job, ours, theirs in zip(made, stacked, alone, strict=True):
        other = job.folder.parent.parent / "alone" / str(job.number)
        check_results(ours, theirs, tolerance)
        check_files(job.folder, other)
        if (other / "tensorboard").exists():
            check_curves(job.folder, other, tolerance * 100 if is_double else tolerance)
        tables = [pl.read_csv(folder / "history.csv") for folder in (job.folder, other)]
        assert tables[0].columns == tables[1].columns
        for name in ("train/loss", "validation/loss", "lr"):
            expected = pytest.approx(tables[1][name].to_list(), rel=tolerance)
            assert tables[0][name].to_list() == expected, (job.number, name)
        if is_double and (path := job.folder / "checkpoints" / "last.ckpt").exists():
            state = torch.load(path, weights_only=True)["state_dict"]
            dtypes = {each.dtype for name, each in state.items() if name.startswith("network.")}
            assert dtypes == {torch.float64}
    if data == "iris":
        assert {path.name for path in figures(made[6].folder)} >= {"roc.png"}


def figures(folder: Path) -> list[Path]:
    """The figures of a run."""
    return sorted(folder.glob("figures/*.png"))


@pytest.mark.parametrize(
    "logger",
    [
        "multilayer.training.TensorBoard,save_dir:{folder}",
        "pytorch_lightning.loggers.TensorBoardLogger,save_dir:{folder},name:tensorboard,version:''",
    ],
)
def test_event_files_may_be_elsewhere(logger: str, jobs: MakeJobs, tmp_path: Path) -> None:
    """Where the logger says, with all that a run alone leaves there, its best epoch too."""
    curves = []
    for train, name in ((train_stacked, "stacked"), (train_one_by_one, "alone")):
        node = logger.format(folder=tmp_path / "logs" / name)
        words = ["data=iris", "trainer.max_epochs=2", "logger=none"]
        (job,) = jobs([*words, f"+logger.own={{_target_:{node}}}"], [[]], name)
        train([job])
        assert not list(job.folder.rglob("*tfevents*"))
        curves.append(scalars(tmp_path / "logs" / name))
    assert "turning_point/loss" in curves[0]
    for tag in ("validation/loss", "turning_point/loss"):
        found, expected = (dict(each.get(tag, [])) for each in curves)
        assert found == pytest.approx(expected, rel=1e-4)
