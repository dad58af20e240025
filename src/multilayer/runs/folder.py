"""The run folder: where each file of a run is, and how it is written and read."""

import json
import os
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from multilayer.core.errors import UserError
from multilayer.core.files import load_yaml, read_json, read_small, refusing, whole_file, write_text
from multilayer.core.renamed import rename_targets
from multilayer.core.text import as_override
from multilayer.runs.config import masked_config

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

    def begin(self, config: dict[str, Any], manifest: dict[str, Any]) -> None:
        """Write what is known at the start. Of several runs that begin here at once, one does.

        Raises `UserError` where the folder holds a run, or cannot be written.
        """
        if not self.writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with whole_file(self.manifest_file, replace=False) as file:
                file.write(as_json(manifest).encode())
        except OSError as error:
            self.check_is_free()
            self.writes = False
            raise UserError(str(error)) from error
        self.write_config(config)

    def check_is_free(self) -> None:
        """Raise `UserError` where the folder holds a run."""
        if self.writes and self.manifest_file.exists():
            self.writes = False  # the files are another run's
            resume = as_override("resume", str(self.path))
            goes_on = f"; unless it still trains, {resume} goes on from it in a new one"
            raise UserError(
                f"{self.path} holds a run already: choose another folder, as hydra.run.dir=FOLDER, "
                f"for a sweep hydra.sweep.dir=FOLDER{goes_on if self.can_be_resumed() else ''}"
            )

    def can_be_resumed(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.path / "checkpoints" / "last.ckpt").is_file()

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the config as plain YAML, without secrets."""
        plain = masked_config(config)
        self.write(self.config_file, yaml.dump(plain, Dumper=Dumper, sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """The config as it was written.

        Raises `UserError` where the file cannot be read, or is none of ours.
        """
        with refusing(self.config_file, "is damaged", ValueError):
            config = load_yaml(read_small(self.config_file))
        if not isinstance(config, dict):
            raise UserError(f"{self.config_file} is damaged: it holds no keys with values")
        named: dict[str, Any] = rename_targets(config)
        return named

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, over an earlier one."""
        self.write(self.manifest_file, as_json(manifest))

    def write_metrics(self, metrics: Metrics) -> None:
        """Write the metrics of each split; what is not finite becomes null, as JSON has no NaN."""
        finite = {
            split: {name: value if isfinite(value) else None for name, value in values.items()}
            for split, values in metrics.items()
        }
        self.write(self.metrics_file, as_json(finite))

    def write(self, path: Path, text: str) -> None:
        """Write a text file of the run.

        Raises `UserError` where it cannot be written.
        """
        if self.writes:
            if not self.path.is_dir():
                raise UserError(f"{self.path}: the run folder was removed while the run trained")
            write_text(path, text)

    def read_manifest(self) -> Any:
        """The manifest as it is now; `UserError` where it cannot be read."""
        return read_json(self.manifest_file)

    def read_metrics(self) -> Any:
        """The metrics, likewise; empty while there are none."""
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
        raise UserError(f"{key}={run} has no checkpoint: {why_no_checkpoint(RunFolder(path))}")
    raise UserError(
        f"{key}={run} is not a run folder: expected checkpoints/best.ckpt in it"
        + hint_at_runs(path)
    )


def find_last(run: str | Path) -> Path:
    """The checkpoint to go on from: the file itself, or the last one of a run folder.

    Raises `UserError` where there is none.
    """
    last = Path(run) / "checkpoints" / "last.ckpt"
    path = last if last.is_file() else find_checkpoint(run, key="resume")
    if path.name == "best.ckpt":
        raise UserError(f"resume={run}: best.ckpt holds weights alone; go on from a last.ckpt")
    return path


def why_no_checkpoint(run: RunFolder) -> str:
    """Why a run has none, by its manifest and config."""
    try:
        manifest = run.read_manifest()
        status, reason = manifest["status"], manifest["stop_reason"]
    except (UserError, LookupError, TypeError):
        return "and its manifest.json is damaged"
    writes_one = writes_checkpoints(run)
    if writes_one is False or (writes_one is None and status == "done"):
        return "it was trained without callbacks=checkpoint"
    if status == "running":
        return (
            "it still trains, or was killed before its first checkpoint, which is written after "
            "callbacks.checkpoint.every_seconds"
        )
    if status in ("done", "diverged"):
        return "they were removed: it came to its end, and was trained with callbacks=checkpoint"
    return f"it ended before its first checkpoint ({reason})"


def writes_checkpoints(run: RunFolder) -> bool | None:
    """Whether a run has a callback that does; None where its config cannot be read."""
    try:
        nodes = run.read_config()["callbacks"].values()
        return any(str(node["_target_"]).endswith("Checkpoint") for node in nodes if node)
    except (UserError, LookupError, TypeError, AttributeError):
        return None


def hint_at_runs(path: Path) -> str:
    """Name a run folder below `path`, for who gave the folder of a sweep or of a day."""
    below = sorted(path.glob("*/manifest.json")) + sorted(path.glob("*/*/manifest.json"))
    return f"; did you mean {os.path.relpath(below[-1].parent)}?" if below else ""


def as_json(content: dict[str, Any]) -> str:
    """JSON for a reader, and for programs."""
    return json.dumps(content, indent=2) + "\n"
