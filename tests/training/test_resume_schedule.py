"""The learning rate of a run that goes on: its own, its schedule's, or refused by name."""

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint

from ..trained import train_in
from .resumed import SMALL, config_in, go_on

WORDS = [*SMALL, "logger=csv", "optimizer.lr=0.2", "optimizer=sgd"]


@pytest.fixture(scope="module")
def four_epochs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of four epochs, by their schedule."""
    folders = {}
    for name in ("constant", "one_cycle", "step", "plateau"):
        folders[name] = tmp_path_factory.mktemp(name) / "run"
        train_in(folders[name], *WORDS, f"scheduler={name}", "trainer.max_epochs=4")
    return folders


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (
            "constant",
            ["scheduler=cosine", "scheduler.scheduler.warmup_fraction=0.5", "optimizer.lr=0.3"],
        ),
        ("constant", ["scheduler=one_cycle"]),
        ("constant", ["scheduler=plateau"]),
        ("constant", ["data.batch_size=16", "scheduler=exponential"]),
        ("one_cycle", ["scheduler=step", "scheduler.scheduler.step_size=2"]),
        ("one_cycle", ["optimizer.lr=0.3"]),
        ("one_cycle", []),
        ("step", ["scheduler=exponential", "scheduler.scheduler.gamma=0.5"]),
        ("step", ["optimizer.lr=0.3", "scheduler.scheduler.step_size=3"]),
        ("plateau", ["scheduler=cosine"]),
    ],
)
def test_another_schedule_is_where_it_would_be(
    four_epochs: dict[str, Path], tmp_path: Path, before: str, changes: list[str]
) -> None:
    """The rates are those that the epochs have where the schedule was so from the start."""
    long = ["trainer.max_epochs=7"]
    go_on(four_epochs[before], tmp_path / "on", *changes, *long)
    kept = [f"scheduler={before}"] if not any("scheduler=" in each for each in changes) else []
    train_in(tmp_path / "whole", *WORDS, *kept, *changes, *long)
    assert rates_in(tmp_path / "on") == pytest.approx(rates_in(tmp_path / "whole")[4:])


def rates_in(folder: Path) -> list[float]:
    """The rate of each epoch of a run."""
    with (folder / "csv" / "metrics.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    (name,) = [name for name in rows[0] if name.startswith("lr-")]
    return [float(row[name]) for row in rows if row[name]]


def test_plateau_keeps_what_it_has_come_down_to(tmp_path: Path) -> None:
    """A new rate is where the schedule starts from; its share of it and what it counted stay."""
    words = [*SMALL, "scheduler=plateau", "scheduler.scheduler.patience=0", "trainer.max_epochs=4"]
    train_in(tmp_path / "run", *words, "optimizer=sgd", "optimizer.lr=1e-5")
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    share = state["optimizer_states"][0]["param_groups"][0]["lr"] / 1e-5
    words = ["optimizer.lr=1e-4", "trainer.max_epochs=5", "logger=csv"]
    go_on(tmp_path / "run", tmp_path / "on", *words)
    assert share < 1
    assert rates_in(tmp_path / "on") == pytest.approx([1e-4 * share])


def test_a_rate_that_a_callback_found_stays(tmp_path: Path) -> None:
    """The rate of a run whose config says another one goes on, and is not searched again."""
    finder = "_target_:pytorch_lightning.callbacks.LearningRateFinder,num_training_steps:20"
    words = [*SMALL, "data.batch_size=16", "trainer.max_epochs=2", "scheduler=constant"]
    train_in(tmp_path / "run", *words, f"+callbacks.find={{{finder}}}")
    found = rate_in(tmp_path / "run")
    assert found != pytest.approx(0.003)
    for name, changes in {
        "without": ["~callbacks.find", "trainer.gradient_clip_val=5.0"],
        "with": ["optimizer.weight_decay=0.1", "data.batch_size=8"],
    }.items():
        go_on(tmp_path / "run", tmp_path / name, "trainer.max_epochs=3", *changes)
        assert rate_in(tmp_path / name) == found
    with pytest.raises(UserError, match=r"schedule is to start, as optimizer\.lr="):
        go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3", "scheduler=cosine")


class MoveRate(pl.Callback):
    """Makes the rate three times as large once."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """In the second epoch."""
        if trainer.current_epoch == 1:
            trainer.optimizers[0].param_groups[0]["lr"] *= 3


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ("exponential", "scheduler.scheduler.gamma=0.9"),
        ("exponential", "scheduler=plateau"),
        ("step", "scheduler.scheduler.step_size=2"),
        ("step", "scheduler=cosine"),
        ("plateau", "scheduler=constant"),
    ],
)
def test_a_rate_that_a_callback_moved_is_not_lost(tmp_path: Path, before: str, change: str) -> None:
    """Another schedule is refused, with the rate that it would have to start from."""
    words = [*SMALL, "optimizer=sgd", "optimizer.lr=0.2", f"scheduler={before}", "logger=csv"]
    move = f"+callbacks.move._target_={__name__}.MoveRate"
    train_in(tmp_path / "run", *words, "trainer.max_epochs=3", move)
    words = ["trainer.max_epochs=4", "~callbacks.move"]
    go_on(tmp_path / "run", tmp_path / "on", *words)
    assert rates_in(tmp_path / "on") == [rate_in(tmp_path / "run")]
    with pytest.raises(UserError, match=r"is to start, as optimizer\.lr=0\.6$"):
        go_on(tmp_path / "run", tmp_path / "refused", *words, change)
    go_on(tmp_path / "run", tmp_path / "given", *words, change, "optimizer.lr=0.6")
    assert config_in(tmp_path / "given")["optimizer"]["lr"] == 0.6


def rate_in(run: Path) -> float:
    """The rate at the end of a run."""
    (state,) = read_checkpoint(run / "checkpoints" / "last.ckpt")["optimizer_states"]
    return float(state["param_groups"][0]["lr"])
