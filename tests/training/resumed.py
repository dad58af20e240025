"""Runs that go on from another one, and what tests compare of them."""

from pathlib import Path
from typing import Any

import torch
import yaml

from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import Result

from ..trained import train_in

SMALL = ["data=iris", "model.d_hidden=[4]", "logger=none", "loss=cross_entropy", "compile=false"]


def config_in(folder: Path) -> dict[str, Any]:
    """The config that a run noted."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return config


def go_on(run: Path, folder: Path, *overrides: str) -> Result:
    """Go on from a run, into another folder."""
    return train_in(folder, f"resume={run}", *overrides)


def crafted(run: Path, folder: Path, where: tuple[Any, ...], value: Any) -> Path:
    """A copy of a run whose last checkpoint holds something else in one place."""
    (folder / "checkpoints").mkdir(parents=True)
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    parent: Any = content
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder
