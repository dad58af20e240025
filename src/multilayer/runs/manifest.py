"""A run's manifest: how it was started, what it ran on, and how it ended."""

import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from multilayer.core.errors import Terminated, UserError
from multilayer.runs.config import mask_config, mask_overrides, mask_value
from multilayer.runs.folder import RunFolder

log = logging.getLogger(__name__)

_PACKAGES = ("multilayer", "torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy")


def start_manifest(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The manifest of a run that starts now, without secrets."""
    overrides = mask_overrides(overrides)
    return {
        "command": shlex.join(["multilayer", "train", *overrides]),
        "overrides": overrides,
        "seed": config["seed"],
        "git": _git_state(Path.cwd()),
        "versions": _versions(),
        **dict.fromkeys(("device", "data_fingerprint", "rows", "compiled")),
        "config_hash": config_hash(mask_config(config)),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **dict.fromkeys(("fit_seconds", "steps", "steps_per_second", "best_epoch")),
        "status": "running",
        "stop_reason": None,
    }


@cache
def _versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide what a run gives."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in _PACKAGES}}


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


def describe_failure(error: BaseException) -> dict[str, Any]:
    """The manifest's entries for a run that ended early."""
    if isinstance(error, KeyboardInterrupt):
        by_whom = f"a {error.signal.name}" if isinstance(error, Terminated) else "the user"
        return {"status": "interrupted", "stop_reason": f"interrupted by {by_whom}"}
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return {"status": "failed", "stop_reason": mask_value("", f"{kind}{error}")}


def config_hash(config: dict[str, Any]) -> str:
    """A SHA-256 of the config's values, independent of the order of its keys."""
    return sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


@cache
def _git_state(folder: Path) -> dict[str, Any] | None:
    """The revision checked out in a folder and whether files differ from it; None without git."""
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        dirty = bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):  # no git here, no repository, no commit yet
        return None
    return {"revision": revision, "dirty": dirty}


def _git(folder: Path, *arguments: str) -> str:
    """The output of a git command."""
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        ["git", *arguments],  # noqa: S607 - the user's own git
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
