"""What a run begins and ends with, whatever trains it: with torch alone."""

import os
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import torch

from multilayer.data import Dataset
from multilayer.runs.config import expand_env
from multilayer.runs.folder import Metrics


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        metrics: by split and name, of the weights that are kept.
        manifest: the run's manifest.
    """

    metrics: Metrics
    manifest: dict[str, Any]


def objective(monitor: str, metrics: Metrics) -> float:
    """The monitored metric of the kept weights; NaN if there is no such metric."""
    split, _, name = monitor.partition("/")
    return metrics.get(split, {}).get(name, nan)


def with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The config with absolute paths of the data's files, so that they are found from anywhere."""
    data = config["data"]
    names = ("path", "train_path", "validation_path", "test_path")
    paths = {name: _absolute(data[name]) for name in names if data.get(name)}
    return config | {"data": data | paths}


def _absolute(path: str) -> str:
    """A path made absolute; one that refers to the environment for that stays as it is."""
    if Path(expand_env("data.path", path)).is_absolute() and expand_env("", path) != path:
        return path
    return os.path.abspath(path)


def describe_start(data: Dataset, device: torch.device) -> dict[str, Any]:
    """The manifest's entries about data and device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "data_fingerprint": data.fingerprint, "rows": data.count_rows()}
