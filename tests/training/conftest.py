"""Runs that several files' tests go on from."""

from pathlib import Path

import pytest

from ..trained import train_in
from .resumed import SMALL


@pytest.fixture(scope="session")
def full_batch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of three steps, one an epoch on all rows, by optimizer."""
    folders = {}
    for name, own in {
        "sgd": ["optimizer=sgd", "optimizer.momentum=0.9"],
        "adam": ["optimizer=adam", "optimizer.lr=0.01"],
        "default": ["optimizer.lr=0.01"],
    }.items():
        folders[name] = tmp_path_factory.mktemp(name) / "run"
        words = [*SMALL, *own, "scheduler=constant", "data.batch_size=full"]
        words.append("trainer.max_epochs=3")
        train_in(folders[name], *words)
    return folders
