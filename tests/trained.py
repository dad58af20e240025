"""Runs that tests train, and what they compare of them."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch

from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import Result


def config_of(*overrides: str) -> dict[str, Any]:
    """The config of a command line; composed once, unless it comes from another run."""
    if any(word.startswith("resume=") for word in overrides):
        return _compose(overrides)
    return deepcopy(_composed(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return _compose(overrides)


def _compose(overrides: tuple[str, ...]) -> dict[str, Any]:
    config = check_command_line("train", overrides)
    assert config is not None
    return config


def train_in(folder: Path, *overrides: str) -> Result:
    """Train a run as a command line says."""
    return train(config_of(*overrides), folder, overrides, quiet=True)


def weights_of(folder: Path, name: str = "best.ckpt") -> dict[str, torch.Tensor]:
    """The weights in a checkpoint of a run folder."""
    weights: dict[str, torch.Tensor] = read_checkpoint(folder / "checkpoints" / name)["state_dict"]
    return weights


def is_rate_of_fit(manifest: dict[str, Any], n_steps: int) -> bool:
    """Whether the steps per second are those of the fit, however long it took; both are rounded."""
    seconds, rate = manifest["fit_seconds"], manifest["steps_per_second"]
    slowest, fastest = n_steps / (seconds + 0.0006), n_steps / (seconds - 0.0006)
    return bool(slowest - 0.06 <= rate <= fastest + 0.06)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether weights are equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
