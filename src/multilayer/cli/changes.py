"""What has changed since the jobs of a sweep were trained: versions, code, files of the data."""

import json
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from multilayer.core.errors import UserError
from multilayer.runs.config import Config, expand_env, with_absolute_paths
from multilayer.runs.folder import RunFolder
from multilayer.runs.manifest import git_state, package_versions

_FILES = ("path", "train_path", "validation_path", "test_path")
"""The keys of `data` that name files."""


def find_changes(folders: Mapping[int, Path], configs: Mapping[int, Config]) -> dict[str, set[int]]:
    """The finished jobs that would be trained otherwise today, by what has changed since.

    A file of the data is compared by its content if it was written after a job began.

    Args:
        folders: The run folders of finished jobs, by their numbers.
        configs: Their configs.
    """
    found: defaultdict[str, set[int]] = defaultdict(set)
    now = _Now()
    for number, folder in folders.items():
        with suppress(UserError, LookupError, TypeError, ValueError, AttributeError):
            # A damaged manifest is the report's to tell.
            for change in now.differences(RunFolder(folder).read_manifest(), configs[number]):
                found[change].add(number)
    return dict(found)


class _Now:
    """What a job would be trained with today."""

    def __init__(self) -> None:
        self.versions = package_versions()
        self.git = git_state(Path.cwd())
        self._fingerprints: dict[str, str] = {}

    def differences(self, manifest: Any, config: Config) -> list[str]:
        """How that differs from what a manifest says."""
        then = manifest["versions"]
        changes = [
            f"{name} {then[name]}, which is {version} now"
            for name, version in self.versions.items()
            if then.get(name, version) != version
        ]
        if manifest["git"] and self.git:
            changes += _code_differences(manifest["git"], self.git)
        started = datetime.fromisoformat(manifest["started"]).timestamp()
        is_newer = self._written_at(config) >= started
        if is_newer and self._fingerprint(config) != manifest["data_fingerprint"]:
            changes.append("data that has changed since")
        return changes

    def _written_at(self, config: Config) -> float:
        """When the files of the data were last written, or came where they are."""
        data = with_absolute_paths(config)["data"]
        paths = [Path(expand_env(name, data[name])) for name in _FILES if data.get(name)]
        # A link may lead to another file than before.
        times = [each for path in paths if path.exists() for each in (path.stat(), path.lstat())]
        return max((max(each.st_mtime, each.st_ctime) for each in times), default=0.0)

    def _fingerprint(self, config: Config) -> str:
        """That of the data today."""
        key = json.dumps({**config["data"], "shuffle_seed": None}, sort_keys=True)
        if key not in self._fingerprints:
            from multilayer.training.components import make_data  # torch, if a file is new

            data = make_data(config)
            data.setup()
            self._fingerprints[key] = data.fingerprint
        return self._fingerprints[key]


def _code_differences(then: Any, now: dict[str, Any]) -> list[str]:
    """How the user's code differs, by its revision and what was not committed of it."""
    if then["revision"] != now["revision"]:
        return [f"revision {then['revision'][:8]} of your code, which is {now['revision'][:8]} now"]
    unknown = "?" if then["dirty"] else None  # of earlier versions
    before, after = then.get("code_changes", unknown), now["code_changes"]
    if before == after:
        return []
    if before is None:
        return [f"your code as revision {then['revision'][:8]} has it, which was changed since"]
    today = "are gone" if after is None else "are others"
    return [f"changes of your code that were not committed, which {today} now"]
