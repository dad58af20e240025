"""What a run's manifest says: where it came from, on what it ran, and how it ended."""

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

from multilayer.core.errors import UserError
from multilayer.core.interrupts import Terminated
from multilayer.runs.config import masked, masked_config, masked_words
from multilayer.runs.folder import RunFolder

log = logging.getLogger(__name__)

PACKAGES = ("multilayer", "torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy")


def start_manifest(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The manifest of a run that starts now, without secrets."""
    overrides = masked_words(overrides)
    return {
        "command": shlex.join(["multilayer", "train", *overrides]),
        "overrides": overrides,
        "seed": config["seed"],
        "git": git_state(Path.cwd()),
        "versions": versions(),
        "device": None,
        "data_fingerprint": None,
        "rows": None,
        "compiled": None,
        "config_hash": config_hash(masked_config(config)),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "fit_seconds": None,
        "steps": None,
        "steps_per_second": None,
        "best_epoch": None,
        "status": "running",
        "stop_reason": None,
    }


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide what a run gives."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}}


def record_failure(
    folder: Path, config: dict[str, Any], overrides: Sequence[str], error: Exception
) -> None:
    """Leave the run folder of a job of a sweep that could not begin.

    Where there is a manifest already, it stays: it says so itself, or it is an earlier run's.
    """
    run = RunFolder(folder)
    if run.manifest_file.exists():
        return
    try:
        run.begin(config, start_manifest(config, overrides) | describe_failure(error))
    except UserError as problem:  # which may be what the job failed of
        log.warning(f"{folder}: no manifest written: {problem}")


def describe_failure(error: BaseException) -> dict[str, Any]:
    """What the manifest says of a run that did not come to its end."""
    if isinstance(error, KeyboardInterrupt):
        by_whom = f"a {error.signal.name}" if isinstance(error, Terminated) else "the user"
        return {"status": "interrupted", "stop_reason": f"interrupted by {by_whom}"}
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return {"status": "failed", "stop_reason": masked("", f"{kind}{error}")}


def config_hash(config: dict[str, Any]) -> str:
    """A SHA-256 of the config's values, whatever the order of its keys."""
    return sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


@cache
def git_state(folder: Path) -> dict[str, Any] | None:
    """The revision that is checked out in a folder and whether files differ; None without git."""
    try:
        revision = git(folder, "rev-parse", "HEAD")
        dirty = bool(git(folder, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):  # no git here, no repository, no commit yet
        return None
    return {"revision": revision, "dirty": dirty}


def git(folder: Path, *arguments: str) -> str:
    """What a git command prints."""
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        ["git", *arguments],  # noqa: S607 - the user's own git
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
