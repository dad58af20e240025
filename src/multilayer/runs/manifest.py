"""The manifest of a run: how it was started, what it runs on, and how it ended."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Any

from multilayer.core.errors import Terminated, UserError
from multilayer.runs.config import mask_config, mask_overrides, mask_value

if TYPE_CHECKING:
    import torch

    from multilayer.data import Dataset

_log = logging.getLogger(__name__)

CONFIG_DIR: str | None = None
"""The folder of `--config-dir`, as the command line of this process names it."""

ENDED = ("done", "diverged", "pruned")
"""The statuses of a run that came to its end. A callback that stops it says which that is, if it is
not done, by `status` in its `manifest_entries`; pruned is one that was not worth going on."""

_PACKAGES = ("multilayer", "torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy")


def start_manifest(
    config: dict[str, Any],
    overrides: Sequence[str],
    data: Dataset | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """The manifest of a run that starts now, without secrets.

    Args:
        config: the run's config.
        overrides: what it was composed with.
        data: read; None for a run that could not start.
        device: where it trains; None if it does not.
    """
    overrides = mask_overrides(overrides)
    options = [] if CONFIG_DIR is None else ["--config-dir", CONFIG_DIR]
    return {
        "command": shlex.join(["multilayer", "train", *options, *overrides]),
        "overrides": overrides,
        "seed": config["seed"],
        "refit": config["refit"],
        "git": git_state(Path.cwd()),
        "versions": package_versions(),
        "device": device and _describe_device(device),
        "data_fingerprint": data and data.fingerprint,
        "rows": data and data.count_rows(),
        "compiled": None,
        "config_hash": config_hash(mask_config(config)),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **dict.fromkeys(("fit_seconds", "steps", "steps_per_second", "best_epoch")),
        "status": "running",
        "stop_reason": None,
    }


def has_refit(manifest: dict[str, Any]) -> bool:
    """Whether a run that has ended is followed by its refit, by its manifest."""
    return manifest["status"] == "done" and bool(manifest.get("refit") and manifest["best_epoch"])


def without_wrong_status(
    entries: dict[str, Any], callback: str, *, has_stopped: bool
) -> dict[str, Any]:
    """What a callback says of a run, less a status that is not the callback's to say.

    Args:
        entries: what it says.
        callback: what a warning calls it.
        has_stopped: whether it has stopped the run.
    """
    status, allowed = entries.get("status"), ENDED[1:]
    if status is None or (status in allowed and has_stopped):
        return entries
    known = " or ".join(map(repr, allowed))
    why = "it has not stopped the run" if status in allowed else f"expected {known}"
    _log.warning(f"{callback}: the status {status!r} of its manifest_entries is left out: {why}")
    return {name: value for name, value in entries.items() if name != "status"}


def _describe_device(device: torch.device) -> str:
    """The name of a GPU; of other devices, their kind."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide what a run gives."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in _PACKAGES}}


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
def git_state(folder: Path) -> dict[str, Any] | None:
    """What is checked out in a folder; None without git.

    Returns:
        The revision; whether files differ from it; and a digest of how the Python files do, None if
        they do not.
    """
    try:
        status = _git(folder, "status", "--porcelain=v2", "--branch").decode(errors="replace")
        head, *lines = status.splitlines() or ["(initial)"]
        revision = head.removeprefix("# branch.oid ")
        if revision == "(initial)":
            return None
        is_dirty = any(not line.startswith("# ") for line in lines)
        changes = _digest_code(folder) if is_dirty else None
    except (OSError, subprocess.CalledProcessError):  # no git here, or no repository
        return None
    return {"revision": revision, "dirty": is_dirty, "code_changes": changes}


_MOST_NEW_FILES = 1000
"""Untracked Python files that are read; where there are more, the repository ignores too little."""

_MOST_BYTES = 8 * 2**20
"""What is read of each Python file."""


def _digest_code(folder: Path) -> str | None:
    """A digest of the Python files that differ from the repository's revision, new ones too."""
    top = Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    changed = _git(top, "diff", "--no-ext-diff", "--name-only", "-z", "HEAD", "--", "*.py")
    new = _git(top, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.py")
    names = {*_names(changed), *_names(new)[:_MOST_NEW_FILES]}
    if not names:
        return None
    digest = sha256()
    for name in sorted(names):
        digest.update(name + b"\0" + sha256(_content(top / os.fsdecode(name))).digest())
    return digest.hexdigest()[:16]


def _names(listed: bytes) -> list[bytes]:
    """The names that git lists with `-z`, sorted."""
    return sorted(filter(None, listed.split(b"\0")))


def _content(file: Path) -> bytes:
    """What a digest has of a file: of a link where it points to, of a pipe or a device nothing."""
    try:
        mode = file.lstat().st_mode
        if S_ISLNK(mode):
            return b"link " + os.fsencode(file.readlink())
        if not S_ISREG(mode):
            return b"special"
        with file.open("rb") as opened:
            return b"file " + opened.read(_MOST_BYTES)
    except OSError as error:  # deleted, or not readable
        return b"none " + type(error).__name__.encode()


def _git(folder: Path, *words: str) -> bytes:
    """What git prints, in a folder.

    A repository may name a program to run for each `git status`; it may be a stranger's.
    """
    command = ["git", "-c", "core.fsmonitor=false", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout  # noqa: S603 - the user's own git
