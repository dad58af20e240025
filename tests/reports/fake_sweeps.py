"""Fake run folders and sweeps, for the tests of what reads them."""

import json
from pathlib import Path
from typing import Any

import yaml

from multilayer.reports.configs import ConfigResult, rank_configs
from multilayer.reports.findings import find
from multilayer.reports.significance import compare
from multilayer.reports.sweep import Sweep, open_sweep


def write_run(
    folder: Path,
    loss: float | None = None,
    *,
    status: str = "done",
    curve: list[float] | None = None,
    manifest: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    """A run whose overrides are `values`, with `__` for the dots; `loss` is that of validation."""
    overrides = {key.replace("__", "."): value for key, value in values.items()}
    config: dict[str, Any] = {
        "monitor": "validation/loss",
        "mode": "min",
        "trainer": {"max_epochs": 10},
    }
    for key, value in overrides.items():
        *groups, name = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = {"_target_": value} if key == "optimizer" else value
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    words = [f"{key}={value}" for key, value in overrides.items()]
    about = {"overrides": words, "status": status, "stop_reason": None, "fit_seconds": 1.0}
    (folder / "manifest.json").write_text(json.dumps(about | (manifest or {})))
    if loss is not None or metrics is not None:
        found = {"validation": {"loss": loss}, "train": {"loss": loss}} | (metrics or {})
        (folder / "metrics.json").write_text(json.dumps(found))
    if curve is not None:
        losses = [[value, value] for value in curve]
        write_history(folder, ["train/loss", "validation/loss"], losses)


def write_history(folder: Path, names: list[str], rows: list[list[float | None]]) -> None:
    """A run's `history.csv`: each row has the metrics of an epoch, None where not measured."""
    lines = [",".join(["epoch", "step", "lr", "seconds", *names])]
    for epoch, row in enumerate(rows, start=1):
        cells = ["" if value is None else repr(value) for value in row]
        lines.append(",".join([str(epoch), str(20 * epoch), "0.1", f"{0.5 * epoch}", *cells]))
    (folder / "history.csv").write_text("\n".join(lines) + "\n")


def write_grid(folder: Path, losses: dict[float, list[float | None]]) -> None:
    """A sweep over learning rates: for each the loss of each seed, None where it diverged."""
    number = 0
    for lr, each in losses.items():
        for seed, loss in enumerate(each):
            status = "diverged" if loss is None else "done"
            write_run(folder / str(number), loss, status=status, optimizer__lr=lr, seed=seed)
            number += 1


def write_noted(folder: Path, words: list[str], **sweeper: Any) -> None:
    """What Hydra notes of a sweep, of which the report reads the command."""
    about = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"} | sweeper
    noted = {"hydra": {"sweeper": about, "overrides": {"task": words, "hydra": []}}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "multirun.yaml").write_text(yaml.safe_dump(noted))


def opened(folder: Path) -> tuple[Sweep, list[ConfigResult]]:
    """The sweep in a folder, and its configs."""
    sweep = open_sweep(folder)
    return sweep, rank_configs(sweep)


def found_in(folder: Path) -> dict[str, str]:
    """The findings of a sweep without curves, by title."""
    sweep, configs = opened(folder)
    comparisons = compare(configs, sweep.sign)
    return {finding.title: finding.text for finding in find(sweep, configs, comparisons)}


def fake_config(scores: list[float], name: str = "a") -> ConfigResult:
    """A config with a score for each seed."""
    return ConfigResult({"name": name}, [], {(seed,): score for seed, score in enumerate(scores)})
