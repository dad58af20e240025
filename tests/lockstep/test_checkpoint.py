"""Lightning's part of a stack's checkpoint against what a Trainer writes, key by key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from multilayer.lockstep.checkpoint import _lightning_entries, _Progress
from multilayer.lockstep.schedule import Moves
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.lightning_adapter import lightning_callbacks
from multilayer.training.run import _fit, _load_and_build

from ..trained import config_of

WORDS = ["data=iris", "data.batch_size=16", "trainer.max_epochs=2", "callbacks=none", "logger=none"]
KEYS = ("epoch", "global_step", "pytorch-lightning_version", "loops")
SCHEDULES: dict[str, Moves] = {"cosine": "step", "step": "epoch", "plateau": "metric"}


class _Saves(EpochCallback):
    """Keeps a checkpoint before each step and at each epoch's end."""

    within_epochs = "always"
    writes_checkpoints = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[tuple[str, int], dict[str, Any]] = {}

    def _save(self, record: Record, when: str) -> None:
        record.save_checkpoint(self.folder / "one.ckpt")
        self.found[when, int(record.step[0])] = torch.load(
            self.folder / "one.ckpt", weights_only=True
        )

    def within_epoch(self, record: Record) -> None:
        self._save(record, "within")

    def on_epoch_end(self, record: Record) -> None:
        self._save(record, "end")


def fit(
    folder: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch, *more: str
) -> tuple[dict[tuple[str, int], dict[str, Any]], int, int]:
    """The checkpoints of a real fit, with the minibatches of an epoch and of a validation."""
    monkeypatch.setattr("multilayer.data.dataset.EVALUATION_BATCH_SIZE", 10)
    training = _load_and_build(
        config_of(*WORDS, f"scheduler={scheduler}", *more), folder / "run", [], quiet=True
    )
    saves = _Saves(folder)
    callbacks: list[pl.Callback] = training.trainer.callbacks  # type: ignore[attr-defined]
    callbacks.extend(lightning_callbacks(saves))
    _fit(training)
    n_batches = int(training.trainer.num_training_batches)
    (n_validation,) = training.trainer.num_val_batches
    return saves.found, n_batches, int(n_validation)


def differences(ours: Any, theirs: Any, key: str = "") -> Iterator[str]:
    """Where two states differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in {**ours, **theirs}:
            found = (ours.get(name, "missing"), theirs.get(name, "missing"))
            yield from differences(*found, f"{key}.{name}")
    elif ours != theirs:
        yield f"{key}: {ours} instead of {theirs}"


@pytest.mark.parametrize("more", [(), ("trainer.limit_train_batches=4",)], ids=["all", "some"])
@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_the_entries_are_those_of_a_trainer(
    scheduler: str, more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of each epoch and before each step within it, validated in several minibatches."""
    found, n_batches, n_validation = fit(tmp_path, scheduler, monkeypatch, *more)
    assert n_batches == (4 if more else 7)
    assert n_validation == 3
    assert len(found) == 2 * n_batches + 2
    for (when, step), checkpoint in found.items():
        ends = when == "end"
        n_within = 0 if ends else step % n_batches
        if when == "within" and n_within == 0:
            continue  # between two epochs a stack writes none
        progress = _Progress(
            epoch=step // n_batches,
            step=step,
            n_batches=n_batches,
            n_within=n_within,
            n_validation=n_validation,
            ends_epoch=ends,
            moves=SCHEDULES[scheduler],
        )
        (loader,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        expected = {name: checkpoint[name] for name in KEYS}
        if not ends:  # the hook is called when the next minibatch is there, and not yet trained on
            ahead = expected["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            assert ahead["is_last_batch"] == (n_within + 1 == n_batches)
            ahead["is_last_batch"] = False
            for counts in (ahead["total"], ahead["current"]):
                counts["ready"] -= 1
        ours = _lightning_entries(progress, loader)
        assert ours.keys() == expected.keys()
        assert list(differences(ours, expected)) == [], (when, step)
    others = {"state_dict", "optimizer_states", "lr_schedulers", "callbacks"}
    assert checkpoint.keys() == {*KEYS, *others, "multilayer", "preprocessing", "task"}
