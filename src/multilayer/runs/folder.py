"""The run folder: where each of its files is, and how it is written and read.

Its manifest says how the run was started, what it ran on, and how it ended.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any, Literal

from multilayer.core.config_problems import has_class
from multilayer.core.errors import UserError
from multilayer.core.files import (
    append_text,
    load_yaml,
    read_small,
    refusing,
    remove_leftovers,
    whole_file,
    write_text,
)
from multilayer.core.renamed import with_current_names
from multilayer.core.text import as_override
from multilayer.runs.config import Config, mask_config, to_yaml
from multilayer.runs.manifest import (
    ENDED,
    config_hash,
    describe_failure,
    has_refit,
    start_manifest,
)

log = logging.getLogger(__name__)

Metrics = dict[str, dict[str, float]]

State = Literal["none", "finished", "resumable", "unfinished"]
"""What a folder holds: no run, one that came to its end, or one that did not (whether or not it
still trains) with a checkpoint to resume from, or without."""

HPARAMS_FILE = "events.out.tfevents.9999999999.hparams"
"""The row of a run in TensorBoard's table; it takes files in the order of their names: the last."""


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        metrics: by split and name, of the weights that are kept.
        manifest: the run's manifest.
        refit: how its refit ended; None if it has none.

    >>> result = Result({"test": {"loss": 0.25}}, {"status": "done"})
    >>> result.metrics["test"]["loss"]
    0.25
    """

    metrics: Metrics
    manifest: dict[str, Any]
    refit: Result | None = None


def objective(monitor: str, metrics: Metrics) -> float:
    """The monitored metric of the kept weights; NaN if there is no such metric."""
    split, _, name = monitor.partition("/")
    return metrics.get(split, {}).get(name, nan)


class RunFolder:
    """The files that describe a run; each appears whole or not at all.

    config.yaml, manifest.json, history.csv, metrics.json, checkpoints/, tensorboard/, figures/,
    and refit/, which is a run folder too

    Args:
        path: the folder.

    Attributes:
        writes: whether this process writes the files; false in all but one of several processes
            that train the same run.
        refit: the folder of the run's refit.

    >>> RunFolder("runs/mine").history_file.as_posix()
    'runs/mine/history.csv'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.writes = True
        self.config_file = self.path / "config.yaml"
        self.manifest_file = self.path / "manifest.json"
        self.history_file = self.path / "history.csv"
        self.metrics_file = self.path / "metrics.json"
        self.refit = self.path / "refit"

    def placeholders(self) -> dict[str, str]:
        """The values of a config's placeholders for folders."""
        return {
            "run_folder": str(self.path),
            "checkpoint_folder": str(self.path / "checkpoints"),
            "figure_folder": str(self.path / "figures"),
        }

    def begin(self, config: dict[str, Any], manifest: dict[str, Any]) -> None:
        """Write what is known at the start; if several runs begin here at once, one succeeds.

        Raises:
            UserError: The folder holds a run already, or cannot be written.
        """
        if not self.writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with whole_file(self.manifest_file, replace=False) as file:
                file.write(_to_json(manifest).encode())
        except OSError as error:
            self.check_is_free()
            self.writes = False
            raise UserError(str(error)) from error
        self.write_config(config)

    def begin_again(self, manifest: dict[str, Any]) -> None:
        """Begin another attempt at the run in this folder, whose config stays.

        The manifest gets the start of the first attempt, and the number of this one.

        Raises:
            UserError: The run has come to its end, or the folder cannot be written.
        """
        self.check_is_unfinished()
        with refusing(self.manifest_file, "is damaged", LookupError, TypeError):
            before = self.read_manifest()
            n_before = before.get("attempts", 1)
            manifest |= {"started": before["started"], "attempts": n_before + 1}
        self.write_manifest(manifest)

    def check_is_unfinished(self) -> None:
        """Raise `UserError` if the folder holds a run that came to its end."""
        if find_state(self.path) == "finished":
            self.writes = False  # the files are that run's
            raise UserError(
                f"{self.path} holds a run that came to its end: to go on from it, choose another "
                "folder, as hydra.run.dir=FOLDER"
            )

    def check_is_free(self) -> None:
        """Raise `UserError` if the folder holds a run."""
        if self.writes and self.manifest_file.exists():
            self.writes = False  # the files are another run's
            resume = as_override("resume", str(self.path))
            goes_on = f"; unless it still trains, {resume} goes on from it in a new one"
            raise UserError(
                f"{self.path} holds a run already: choose another folder, as hydra.run.dir=FOLDER, "
                f"for a sweep hydra.sweep.dir=FOLDER{goes_on if self.can_be_resumed() else ''}"
            )

    def can_be_resumed(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return (self.path / "checkpoints" / "last.ckpt").is_file()

    def write_config(self, config: dict[str, Any]) -> str:
        """Write the config as plain YAML, without secrets; returns its hash, for the manifest."""
        plain = mask_config(config)
        self.write(self.config_file, to_yaml(plain))
        return config_hash(plain)

    def read_config(self) -> dict[str, Any]:
        """The config as it was written, with the current path of each `_target_`.

        Raises:
            UserError: The file cannot be read, or is not one of ours.
        """
        with refusing(self.config_file, "is damaged", ValueError):
            config = load_yaml(read_small(self.config_file))
        if not isinstance(config, dict):
            raise UserError(f"{self.config_file} is damaged: it holds no keys with values")
        renamed: dict[str, Any] = with_current_names(config)
        return renamed

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, replacing an earlier one: where a run begins again, and at its end.

        What killed processes left half written is removed.
        """
        self.write(self.manifest_file, _to_json(manifest))
        if self.writes:
            remove_leftovers(self.path)

    def write_metrics(self, metrics: Metrics) -> None:
        """Write the metrics of each split; JSON has no NaN, so what is not finite becomes null."""
        finite = {
            split: {name: value if isfinite(value) else None for name, value in values.items()}
            for split, values in metrics.items()
        }
        self.write(self.metrics_file, _to_json(finite))

    def write(self, path: Path, text: str) -> None:
        """Write a text file of the run, over an earlier one.

        Raises:
            UserError: It cannot be written.
        """
        if self.writes:
            if not self.path.is_dir():
                raise UserError(f"{self.path}: the run folder was removed while the run trained")
            write_text(path, text)

    def append(self, path: Path, text: str) -> None:
        """Append to a text file of the run; see `append_text`.

        Raises:
            UserError: It cannot be written.
        """
        if self.writes:
            append_text(path, text)

    def read_manifest(self) -> Any:
        """The manifest as it is now.

        Raises:
            UserError: It cannot be read.
        """
        return _read_json(self.manifest_file)

    def read_metrics(self) -> Any:
        """The metrics by split; empty while there are none.

        Raises:
            UserError: They cannot be read.
        """
        return _read_json(self.metrics_file) if self.metrics_file.exists() else {}

    def read_result(self) -> Result:
        """How the run ended, by its files.

        Raises:
            UserError: One of them cannot be read, or is damaged.
        """
        manifest, metrics = self.read_manifest(), self.read_metrics()
        with refusing(self.metrics_file, "is damaged", LookupError, TypeError, AttributeError):
            known = {
                split: {name: nan if value is None else value for name, value in values.items()}
                for split, values in metrics.items()
            }
        return Result(known, manifest)


def find_state(folder: str | Path) -> State:
    """What a folder holds, by its manifest and checkpoints.

    A run that is followed by its refit has come to its end when that has.

    Raises:
        UserError: The manifest is damaged.
    """
    run = RunFolder(folder)
    if not run.manifest_file.exists():
        return "none"
    with refusing(run.manifest_file, "is damaged", LookupError, TypeError):
        manifest = run.read_manifest()
        has_ended = manifest["status"] in ENDED
        is_followed = has_refit(manifest)
    if has_ended and not (is_followed and find_state(run.refit) != "finished"):
        return "finished"
    return "resumable" if run.can_be_resumed() else "unfinished"


def goes_on(config: Config, folder: str | Path) -> bool:
    """Whether a config resumes the run in its own folder, which then goes on there."""
    resumed = config["resume"]
    return resumed is not None and Path(resumed).absolute() == Path(folder).absolute()


def as_begun(config: Config, folder: str | Path) -> Config:
    """The config of a run as it began: where it goes on in its own folder, without `resume`."""
    return config | {"resume": None} if goes_on(config, folder) else config


def find_checkpoint(run: str | Path, key: str = "run") -> Path:
    """The checkpoint file that `run` names: itself, or the best (else the last) of a run folder.

    Args:
        run: a checkpoint file or a run folder.
        key: the key of the command's config that names it.

    Raises:
        UserError: There is no checkpoint.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     (Path(run) / "checkpoints").mkdir()
    ...     (Path(run) / "checkpoints" / "last.ckpt").touch()
    ...     find_checkpoint(run).name
    'last.ckpt'
    """
    path = Path(run)
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"{key}={run}: no such folder or file")
    for name in ("best.ckpt", "last.ckpt"):
        if (candidate := path / "checkpoints" / name).is_file():
            return candidate
    if (path / "manifest.json").is_file():
        raise UserError(f"{key}={run} has no checkpoint: {_why_no_checkpoint(RunFolder(path))}")
    raise UserError(
        f"{key}={run} is not a run folder: expected checkpoints/best.ckpt in it"
        + _hint_at_runs(path)
    )


def find_last(run: str | Path) -> Path:
    """The checkpoint to resume from: `run` itself, or the last one of a run folder.

    Raises:
        UserError: There is none.
    """
    last = Path(run) / "checkpoints" / "last.ckpt"
    path = last if last.is_file() else find_checkpoint(run, key="resume")
    if path.name == "best.ckpt":
        raise UserError(f"resume={run}: best.ckpt holds weights alone; go on from a last.ckpt")
    return path


def _why_no_checkpoint(run: RunFolder) -> str:
    """Why a run has no checkpoint, by its manifest and config."""
    try:
        manifest = run.read_manifest()
        status, reason = manifest["status"], manifest["stop_reason"]
    except (UserError, LookupError, TypeError):
        return "and its manifest.json is damaged"
    writes_one = _writes_checkpoints(run)
    if writes_one is False or (writes_one is None and status == "done"):
        return "it was trained without callbacks=checkpoint"
    if status == "running":
        return (
            "it still trains, or was killed before its first checkpoint, which is written after "
            "callbacks.checkpoint.every_seconds"
        )
    if status in ENDED:
        return "they were removed: it came to its end, and was trained with callbacks=checkpoint"
    return f"it ended before its first checkpoint ({reason})"


def _writes_checkpoints(run: RunFolder) -> bool | None:
    """Whether a run has a callback that writes checkpoints; None if its config cannot be read."""
    try:
        return has_class(run.read_config()["callbacks"], "Checkpoint")
    except (UserError, LookupError, AttributeError):
        return None


def _hint_at_runs(path: Path) -> str:
    """Suggest a run folder below `path`, which may be the folder of a sweep or of a day."""
    below = sorted(path.glob("*/manifest.json")) + sorted(path.glob("*/*/manifest.json"))
    return f"; did you mean {os.path.relpath(below[-1].parent)}?" if below else ""


def _read_json(path: Path) -> Any:
    """Plain data from a JSON file of a run."""
    with refusing(path, "is damaged", ValueError, RecursionError):
        return json.loads(read_small(path))


def _to_json(content: dict[str, Any]) -> str:
    """Indented JSON."""
    return json.dumps(content, indent=2) + "\n"


def record_failure(
    folder: Path, config: dict[str, Any], overrides: Sequence[str], error: Exception
) -> None:
    """Write the run folder of a job of a sweep that could not start.

    A manifest that is already there stays: it records the failure itself, or is an earlier run's.
    """
    run = RunFolder(folder)
    if run.manifest_file.exists():
        return
    try:
        run.begin(config, start_manifest(config, overrides) | describe_failure(error))
    except UserError as problem:  # perhaps the one that the job failed of
        log.warning(f"{folder}: no manifest written: {problem}")
