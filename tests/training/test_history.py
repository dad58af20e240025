"""`history.csv`: whatever trains the run and however it ends."""

from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import pytorch_lightning
import torch

from multilayer import MLP, BinaryModule, PassClassData
from multilayer.runs.folder import RunFolder
from multilayer.training.epoch_callback import Record
from multilayer.training.history import History
from multilayer.training.lightning_adapter import lightning_callbacks

from ..lockstep.conftest import MakeJobs, train_stacked
from ..lockstep.conftest import jobs as jobs  # a fixture
from ..lockstep.test_equivalence import scalars
from ..trained import train_in
from .test_module import quiet_trainer

QUICK = ["data=iris", "trainer.max_epochs=5", "data.batch_size=16"]


def history(folder: Path) -> pl.DataFrame:
    """The table of a run."""
    return pl.read_csv(folder / "history.csv", infer_schema_length=None)


def check_against_tensorboard(folder: Path) -> None:
    """Every metric at every epoch, to the last bit of what TensorBoard has."""
    table, curves = history(folder), scalars(folder)
    assert table.columns[:4] == ["epoch", "step", "lr", "seconds"]
    names = {name for name in curves if not name.startswith(("lr-", "turning_point"))}
    assert set(table.columns[4:]) == names - {"train/loss_step"}
    steps = dict(table.select("step", "epoch").iter_rows())
    for name in table.columns[4:]:
        found = dict(table.drop_nulls(name).select("step", name).iter_rows())
        assert {step - 1: value for step, value in found.items()} == dict(curves[name])
    assert table["epoch"].to_list() == [*range(1, len(table) + 1)]
    assert table["seconds"].is_sorted()
    (rates,) = (points for name, points in curves.items() if name.startswith("lr-"))
    assert table["lr"].to_list() == pytest.approx([rate for _, rate in rates], rel=1e-6)
    assert len(steps) == len(table)


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_it_holds_what_tensorboard_was_told(tmp_path: Path, engine: str) -> None:
    """With a schedule, and the metrics that a callback logs."""
    words = [f"engine={engine}", "scheduler=cosine", "callbacks=[default,diagnostics]"]
    train_in(tmp_path, *QUICK, *words)
    check_against_tensorboard(tmp_path)
    assert "gradient_norm/all" in history(tmp_path).columns


def test_what_was_not_measured_in_an_epoch_is_empty(tmp_path: Path) -> None:
    """The validation in every second epoch; the training metrics are there in each."""
    train_in(tmp_path, *QUICK, "trainer.check_val_every_n_epoch=2")
    check_against_tensorboard(tmp_path)
    table = history(tmp_path)
    assert table["validation/loss"].is_null().to_list() == [True, False, True, False, True]
    assert table["train/loss"].null_count() == 0


def test_it_needs_no_callback_and_no_logger(tmp_path: Path) -> None:
    """Nor its own folder in the config."""
    result = train_in(tmp_path, *QUICK, "callbacks=none", "logger=none")
    table = history(tmp_path)
    assert table["step"].to_list() == [7, 14, 21, 28, 35]
    for split in ("train", "validation"):
        assert f"{split}/accuracy" in table.columns
    assert table["validation/loss"][-1] == pytest.approx(result.metrics["validation"]["loss"])


def test_each_member_of_a_stack_has_its_own(jobs: MakeJobs) -> None:
    """Also one that stops before the others."""
    own = [["seed=1"], ["seed=2", "trainer.max_epochs=3"], ["seed=3", "optimizer.lr=0.1"]]
    found = jobs(QUICK, own, "stacked")
    for result in train_stacked(found):
        assert result.manifest["members"] == 3
    for job in found:
        check_against_tensorboard(job.folder)
    assert [len(history(job.folder)) for job in found] == [5, 3, 5]


@pytest.mark.parametrize("callbacks", ["default", "checkpoint"])
def test_a_resumed_run_has_the_rows_of_before(tmp_path: Path, callbacks: str) -> None:
    """Except for the seconds, they are those of a run that went through."""
    words = [*QUICK, f"callbacks={callbacks}", "scheduler=constant", "logger=none"]
    train_in(tmp_path / "whole", *words)
    train_in(tmp_path / "half", *words, "trainer.max_epochs=2")
    train_in(tmp_path / "resumed", *words, f"resume={tmp_path / 'half'}")
    whole, resumed = history(tmp_path / "whole"), history(tmp_path / "resumed")
    assert whole.drop("seconds").equals(resumed.drop("seconds"))
    assert resumed["seconds"].is_sorted()
    assert resumed["seconds"][:2].equals(history(tmp_path / "half")["seconds"])


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, error: type[BaseException]
) -> None:
    """Those of the epochs that it has ended."""
    usual = History.on_epoch_end

    def fails(self: History, record: Any) -> None:
        if record.epoch[0] == 4:
            raise error("no fourth epoch")
        usual(self, record)

    monkeypatch.setattr(History, "on_epoch_end", fails)
    with pytest.raises(error):
        train_in(tmp_path, *QUICK, f"engine={engine}")
    assert history(tmp_path)["epoch"].to_list() == [1, 2, 3]
    assert RunFolder(tmp_path).read_manifest()["status"] in ("failed", "interrupted")


def test_values_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    """Those that are not finite, and a metric that comes later, with a name that needs quotes."""
    kept = History(folder=tmp_path)
    rows = [
        {"epoch": 1, "step": 3, "lr": 0.1, "seconds": 0.5, "train/loss": float("nan")},
        {"epoch": 2, "step": 6, "lr": 1 / 3, "seconds": 1.0, "train/loss": float("inf")},
        {"epoch": 3, "step": 9, "lr": 1e-9, "seconds": 2.0, "a,b": 1e300},
    ]
    kept.rows = [[(tuple(row), tuple(row.values())) for row in rows]]

    class Writes(Record):
        writes_files = True

    kept.write(Writes())  # type: ignore[abstract]
    table = history(tmp_path)
    assert table["train/loss"][0] != table["train/loss"][0]
    assert table["train/loss"].to_list()[1:] == [float("inf"), None]
    assert table["a,b"].to_list() == [None, None, 1e300]
    assert table["lr"].to_list() == [0.1, 1 / 3, 1e-9]
    assert table.schema["epoch"] == pl.Int64


def test_it_is_written_while_the_run_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seldom where many runs train together, since each has a file."""
    monkeypatch.setattr("multilayer.training.history._SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr("multilayer.training.history._SECONDS_A_FILE", 0.0)
    seen = []

    class Looks(pytorch_lightning.Callback):
        def on_train_epoch_start(self, *args: Any) -> None:
            file = tmp_path / "history.csv"
            seen.append(len(history(tmp_path)) if file.exists() else 0)

    trainer = quiet_trainer(tmp_path)
    trainer.callbacks.extend(lightning_callbacks(Looks(), History(folder=tmp_path)))  # type: ignore[attr-defined]
    trainer.fit(BinaryModule(MLP(2, 1), optimizer=torch.optim.SGD), PassClassData())
    assert seen == [0, 1, 2]


class Epoch(Record):
    """What a table is written from, of one run."""

    writes_files = True

    def __init__(self, epoch: int, **metrics: float) -> None:
        self.epoch = self.step = np.array([epoch])
        self.seconds, self.rates = np.zeros(1), {"lr": np.full(1, 0.1)}
        self.metrics = {name: np.array([value]) for name, value in metrics.items()}
        self.measured = {name: np.array([True]) for name in metrics}


def test_new_rows_are_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a column is new, or the file is gone; it reads as if it had been written at once."""
    monkeypatch.setattr("multilayer.training.history._SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr("multilayer.training.history._SECONDS_A_FILE", 0.0)
    kept, file = History(folder=tmp_path), tmp_path / "history.csv"
    inodes, tables = [], []
    for epoch, metrics in enumerate([{"a": 1 / 3}, {"a": nan}, {}, {"b": 1.0}, {"a": 2.0}], 1):
        kept.on_epoch_end(Epoch(epoch, **metrics))  # type: ignore[abstract]
        inodes.append(file.stat().st_ino)
        tables.append(history(tmp_path))
    assert inodes[0] == inodes[1] == inodes[2] != inodes[3] == inodes[4]
    assert [len(table) for table in tables] == [1, 2, 3, 4, 5]
    assert isnan(tables[2]["a"][1])
    assert tables[4]["a"].to_list()[2:] == [None, None, 2.0]
    assert tables[4]["b"].to_list() == [None, None, None, 1.0, None]
    file.unlink()
    kept.on_epoch_end(Epoch(6, a=3.0))  # type: ignore[abstract]
    grown = file.read_bytes()
    assert len(history(tmp_path)) == 6
    kept.on_fit_end(Epoch(6))  # type: ignore[abstract]
    assert file.read_bytes() == grown


@pytest.mark.parametrize("columns", [{"epoch": [1]}, {"epoch": ["x"]}, [], {}])
def test_a_damaged_state_is_refused(columns: Any, tmp_path: Path) -> None:
    """Before anything is trained."""
    with pytest.raises((ValueError, LookupError, AttributeError)):
        History(folder=tmp_path).load_state_dict({"columns": columns})
