"""The run folder: where each file of a run is, and how it is written and read."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from multilayer.errors import UserError
from multilayer.runs.small_file import load_yaml, read_small

Metrics = dict[str, dict[str, float]]

# The same in C, where PyYAML was built with it.
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class RunFolder:
    """The files that describe a run. A file appears whole or not at all.

    config.yaml, manifest.json, metrics.json, checkpoints/, tensorboard/, figures/

    `writes` is false in all but one of several processes that train the same run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.writes = True
        self.config_file = self.path / "config.yaml"
        self.manifest_file = self.path / "manifest.json"
        self.metrics_file = self.path / "metrics.json"

    def words(self) -> dict[str, str]:
        """What the words for folders in a config stand for."""
        return {
            "run_folder": str(self.path),
            "checkpoint_folder": str(self.path / "checkpoints"),
            "figure_folder": str(self.path / "figures"),
        }

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the config as plain YAML."""
        self.write(self.config_file, yaml.dump(config, Dumper=Dumper, sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """The config as it was written."""
        config: dict[str, Any] = load_yaml(read_small(self.config_file))
        return config

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, over an earlier one."""
        self.write(self.manifest_file, json.dumps(manifest, indent=2) + "\n")

    def write_metrics(self, metrics: Metrics) -> None:
        """Write the metrics of each split; what is not finite becomes null, as JSON has no NaN."""
        finite = {
            split: {name: value if isfinite(value) else None for name, value in values.items()}
            for split, values in metrics.items()
        }
        self.write(self.metrics_file, json.dumps(finite, indent=2) + "\n")

    def write(self, path: Path, text: str) -> None:
        """Write a text file of the run."""
        if self.writes:
            write_text(path, text)

    def read_manifest(self) -> dict[str, Any]:
        """The manifest as it is now."""
        return read_json(self.manifest_file)

    def read_metrics(self) -> dict[str, Any]:
        """The metrics; empty while there are none."""
        return read_json(self.metrics_file) if self.metrics_file.exists() else {}


def find_checkpoint(run: str | Path, key: str = "run") -> Path:
    """The checkpoint file that `run` names: itself, or the best (else the last) of a run folder.

    Raises `UserError` where there is none; `key` is what the user called it.
    """
    path = Path(run)
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"{key}={run}: no such folder or file")
    candidates = [path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if (path / "manifest.json").is_file():
        raise UserError(
            f"{key}={run} has no checkpoint: it was stopped before its first epoch ended, or "
            "trained without callbacks=checkpoint"
        )
    raise UserError(
        f"{key}={run} is not a run folder: expected checkpoints/best.ckpt in it"
        + hint_at_runs(path)
    )


def hint_at_runs(path: Path) -> str:
    """Name a run folder below `path`, for who gave the folder of a sweep or of a day."""
    below = sorted(path.glob("*/manifest.json")) + sorted(path.glob("*/*/manifest.json"))
    return f"; did you mean {os.path.relpath(below[-1].parent)}?" if below else ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    content: dict[str, Any] = json.loads(read_small(path))
    return content


def write_text(path: Path, text: str) -> None:
    """Write a text file; it appears whole or not at all."""
    with beside(path) as partial:
        partial.write_text(text)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place beside a file, for what becomes that file at the end: nobody reads half of it.

    The file's folder is made if it is missing. After an error nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)  # a link would be written through
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
