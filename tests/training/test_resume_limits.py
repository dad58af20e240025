"""How far a run that goes on has come: in steps, epochs, patience, time, or within an epoch."""

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from multilayer.core.errors import UserError
from multilayer.runs.folder import RunFolder
from multilayer.training.lightning_adapter import _LightningAdapter

from ..trained import is_rate_of_fit, same, train_in, weights_of
from .resumed import SMALL, config_in, go_on


def test_limits_count_steps_and_not_minibatches(tmp_path: Path) -> None:
    """Where gradients accumulate over minibatches; the number it gives trains one step more."""
    words = [*SMALL, "data.batch_size=10", "trainer.accumulate_grad_batches=3"]
    train_in(tmp_path / "run", *words, "trainer.max_steps=6", "trainer.max_epochs=50")
    with pytest.raises(UserError, match=r"has 6 steps already; .* from trainer\.max_steps=7 on"):
        go_on(tmp_path / "run", tmp_path / "on")
    result = go_on(tmp_path / "run", tmp_path / "on", "trainer.max_steps=7")
    assert result.manifest["steps"] == 7
    assert weights_of(tmp_path / "on", "last.ckpt")


@pytest.mark.parametrize(("n_steps", "max_epochs"), [(8, -1), (8, 50), (6, -1), (1, 50)])
def test_a_limit_in_steps_costs_no_epoch_and_no_row(
    tmp_path: Path, n_steps: int, max_epochs: int
) -> None:
    """The run ends as the one that went through, whether the limit was an epoch's end or not."""
    words = [*SMALL, f"trainer.max_epochs={max_epochs}", "data.batch_size=32", "model.dropout=0.2"]
    words += [
        "scheduler=cosine",
        "scheduler.scheduler.n_steps=12",
        "callbacks=[default,learning_curves]",
    ]
    train_in(tmp_path / "run", *words, f"trainer.max_steps={n_steps}")
    whole = train_in(tmp_path / "whole", *words, "trainer.max_steps=12")
    result = go_on(tmp_path / "run", tmp_path / "on", "trainer.max_steps=12")
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("whole", "on")))
    assert result.manifest["best_epoch"] == whole.manifest["best_epoch"]
    assert result.manifest["steps"] == 12


class StopAt(pl.Callback):
    """Stops within the second epoch, as a limit in time does."""

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop after six steps."""
        trainer.should_stop = trainer.global_step == 6


def test_what_stopped_within_an_epoch_goes_on_there(tmp_path: Path) -> None:
    """Whatever stopped it; and its rows stay as they are."""
    words = [*SMALL, "trainer.max_epochs=3", "data.batch_size=32", "model.dropout=0.2"]
    train_in(tmp_path / "run", *words, f"+callbacks.stop._target_={__name__}.StopAt")
    train_in(tmp_path / "whole", *words)
    with pytest.raises(UserError, match=r"data.batch_size=16: .*interrupted within epoch 2"):
        go_on(tmp_path / "run", tmp_path / "on", "~callbacks.stop", "data.batch_size=16")
    result = go_on(tmp_path / "run", tmp_path / "on", "~callbacks.stop")
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("whole", "on")))
    assert result.manifest["steps"] == 12


def test_steps_per_second_are_those_of_this_fit(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The steps before took other seconds, which nobody counted."""
    manifest = go_on(full_batch["adam"], tmp_path / "on", "trainer.max_epochs=4").manifest
    assert manifest["steps"] == 4
    assert is_rate_of_fit(manifest, n_steps=1)


def test_a_run_that_was_out_of_patience_needs_more(tmp_path: Path) -> None:
    """The number in the message is enough for an epoch."""
    train_in(tmp_path / "run", *SMALL, "optimizer.lr=0", "callbacks.early_stopping.patience=2")
    with pytest.raises(UserError, match=r"from callbacks\.early_stopping\.patience=3 on"):
        go_on(tmp_path / "run", tmp_path / "on")
    result = go_on(tmp_path / "run", tmp_path / "on", "callbacks.early_stopping.patience=3")
    assert result.manifest["steps"] == (1 + 3) * 2
    assert "for 3 epochs" in result.manifest["stop_reason"]
    without = go_on(
        tmp_path / "run", tmp_path / "w", "callbacks=checkpoint", "trainer.max_epochs=6"
    )
    assert without.manifest["steps"] == 6 * 2


def test_no_patience_at_all_is_what_is_wrong(full_batch: dict[str, Path], tmp_path: Path) -> None:
    """However often the run has improved."""
    words = ["callbacks.early_stopping.patience=0", "trainer.max_epochs=4"]
    with pytest.raises(UserError, match="patience must be at least 1, got 0"):
        go_on(full_batch["adam"], tmp_path / "on", *words, "trainer.min_epochs=0")


def test_a_run_that_was_out_of_time_needs_more(tmp_path: Path) -> None:
    """The time of before counts."""
    train_in(tmp_path / "run", *SMALL, "trainer.max_time=00:00:10:00", "trainer.max_epochs=1")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"] = 601.0
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"max_time=00:00:10:00: .* for 601 seconds already"):
        go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=2")


def test_a_run_with_time_left_goes_on(tmp_path: Path) -> None:
    """Its seconds are no whole number."""
    train_in(tmp_path / "run", *SMALL, "trainer.max_time=00:00:10:00", "trainer.max_epochs=1")
    assert go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=2").manifest["steps"] == 4


@pytest.fixture
def half_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted within its second epoch, of 7 minibatches."""

    def interrupt(self: Any, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 10:
            raise RuntimeError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr(_LightningAdapter, "on_train_batch_end", interrupt)
        words = [*SMALL, "data.batch_size=16", "trainer.max_epochs=4"]
        with pytest.raises(RuntimeError, match="power"):
            train_in(tmp_path / "half", *words)
    return tmp_path / "half"


@pytest.mark.parametrize(
    "change",
    [
        "data.batch_size=8", "data.batch_size=64", "data.batch_size=1000", "data.batch_size=full",
        "data.shuffle_seed=5", "trainer.limit_train_batches=3", "trainer.limit_train_batches=0.9",
        "trainer.accumulate_grad_batches=2", "trainer.devices=2",
    ],
)  # fmt: skip
def test_within_an_epoch_its_rows_stay_as_they_are(
    half_an_epoch: Path, tmp_path: Path, change: str
) -> None:
    """Others would be seen twice, or never."""
    with pytest.raises(UserError, match=rf"{change}: .*interrupted within epoch 2"):
        go_on(half_an_epoch, tmp_path / "on", change)
    assert not (tmp_path / "on").exists()


def test_within_an_epoch_a_new_rate_is_used(half_an_epoch: Path, tmp_path: Path) -> None:
    """The epoch is ended with it; with a rate of nearly 0 the weights stay as they are."""
    result = go_on(half_an_epoch, tmp_path / "on", "optimizer.lr=1e-12")
    assert result.manifest["steps"] == 4 * 7
    before = weights_of(half_an_epoch, "last.ckpt")
    for name, value in weights_of(tmp_path / "on", "last.ckpt").items():
        torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-6)


def test_the_batch_size_may_change_between_epochs(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """Each later epoch then has its rows in the new minibatches, and is validated."""
    words = ["data.batch_size=16", "trainer.max_epochs=5", "logger=csv"]
    result = go_on(full_batch["adam"], tmp_path / "on", *words)
    assert result.manifest["steps"] == 3 + 2 * 7
    with (tmp_path / "on" / "csv" / "metrics.csv").open() as opened:
        losses = [row["validation/loss"] for row in csv.DictReader(opened)]
    assert len([loss for loss in losses if loss]) == 2


def test_a_batch_size_that_was_found_stays(tmp_path: Path) -> None:
    """With its callback and without: nothing is searched, and the config says what is used."""
    kind = "_target_:pytorch_lightning.callbacks.BatchSizeFinder"
    find = f"+callbacks.find={{{kind},init_val:4,max_trials:2,steps_per_trial:1}}"
    train_in(tmp_path / "run", *SMALL, "trainer.max_epochs=1", find)
    n_steps = RunFolder(tmp_path / "run").read_manifest()["steps"]
    for name, change in (("with", []), ("without", ["~callbacks.find"])):
        result = go_on(tmp_path / "run", tmp_path / name, "trainer.max_epochs=2", *change)
        assert result.manifest["steps"] == 2 * n_steps
        config = config_in(tmp_path / name)
        assert -(-104 // config["data"]["batch_size"]) == n_steps > 2
        assert "find" not in config["callbacks"]
    with pytest.raises(UserError, match="searches before a training begins"):
        go_on(tmp_path / "with", tmp_path / "on", "trainer.max_epochs=4", find)
