"""Reads the runs of a sweep folder, whichever launcher trained them and however far they came."""

import re
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any

import yaml

from multilayer.runs.folder import RunFolder
from multilayer.sweeps.settings import is_number

# The same in C, where PyYAML was built with it.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


NUMBERS = ("best_epoch", "fit_seconds", "members", "steps")
WORDS = ("data_fingerprint", "started", "stop_reason")
"""What is read of a manifest beside its status and overrides; it may be missing."""


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep, as its folder describes it."""

    folder: RunFolder
    manifest: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]

    @property
    def name(self) -> str:
        """What its folder is called: the job number, unless `hydra.sweep.subdir` says otherwise."""
        return self.folder.path.name

    @property
    def status(self) -> str:
        """running, done, failed, diverged or interrupted."""
        status: str = self.manifest["status"]
        return status

    @cached_property
    def words(self) -> dict[str, str]:
        """Its overrides by their keys."""
        return dict(map(key_and_word, self.manifest["overrides"]))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return load_config(self.folder.config_file.read_text())

    def metric(self, name: str) -> float | None:
        """A final metric such as `validation/loss`; None where it is missing or not finite."""
        split, _, metric = name.partition("/")
        value = self.metrics.get(split, {}).get(metric)
        return value if value is not None and abs(value) <= sys.float_info.max else None


def load_config(text: str) -> dict[str, Any]:
    """A run's config. Blocks that runs share are parsed once, and so are not to be changed.

    A thousand configs of a sweep take 0.1 s so, and 2 s otherwise.

    >>> load_config("seed: 0\\nmodel:\\n  dropout: 0.1\\n")
    {'seed': 0, 'model': {'dropout': 0.1}}
    """
    blocks = re.split(r"^(?=[A-Za-z_])", text, flags=re.MULTILINE)
    config: dict[str, Any] = {}
    try:
        for block in blocks:
            config |= load_block(block) or {}
    except (yaml.YAMLError, TypeError, ValueError):  # written by hand, with anchors, or broken
        config = yaml.load(text, Loader)  # noqa: S506 - it is safe
    return config


@cache
def load_block(text: str) -> Any:
    """A part of a YAML file that stands by itself."""
    return yaml.load(text, Loader)  # noqa: S506 - it is safe


def read_sweep(sweep: Path) -> list[SweepRun]:
    """The runs that have begun, in the order of their job numbers."""
    found = [read_run(RunFolder(path.parent)) for path in manifests(sweep)]
    return sorted((run for run in found if isinstance(run, SweepRun)), key=place)


def manifests(sweep: Path) -> list[Path]:
    """The manifests of a sweep's runs.

    They may lie a folder deeper, as with `hydra.sweep.subdir='group/${hydra.job.num}'`.
    """
    return files_of_runs(sweep, "manifest.json")


def files_of_runs(sweep: Path, name: str) -> list[Path]:
    """The files of one name in the run folders of a sweep."""
    found = list(sweep.glob(f"*/{name}"))
    if not found and (sweep / "multirun.yaml").is_file():
        found = list(sweep.glob(f"*/*/{name}"))
    return found


def read_run(folder: RunFolder) -> SweepRun | str:
    """A run, or why there is none: which of its files is missing, or not what a run writes."""
    if not folder.manifest_file.is_file():
        return "manifest.json is missing"
    found: list[Any] = []
    for name, read, is_ours in (
        ("manifest.json", folder.read_manifest, is_manifest),
        ("metrics.json", folder.read_metrics, is_metrics),
    ):
        try:
            found.append(read())
        except (OSError, ValueError, RecursionError):
            return f"{name} is broken"
        if not is_ours(found[-1]):
            return f"{name} is not that of a run"
    return SweepRun(folder, *found)


def is_manifest(content: Any) -> bool:
    """Whether a manifest has what is read of it.

    >>> is_manifest({"status": "done", "overrides": ["seed=1"]}), is_manifest([])
    (True, False)
    """
    if not isinstance(content, dict) or not isinstance(content.get("status"), str):
        return False
    overrides = content.get("overrides")
    return (
        isinstance(overrides, list)
        and all(isinstance(word, str) for word in overrides)
        and all(content.get(key) is None or is_number(content[key]) for key in NUMBERS)
        and all(content.get(key) is None or isinstance(content[key], str) for key in WORDS)
    )


def is_metrics(content: Any) -> bool:
    """Whether final metrics are numbers, or null, by split and name.

    >>> is_metrics({"train": {"loss": 0.1, "r2": None}}), is_metrics({"train": {"loss": "x"}})
    (True, False)
    """
    return isinstance(content, dict) and all(
        isinstance(split, dict)
        and all(value is None or is_number(value) for value in split.values())
        for split in content.values()
    )


def place(run: SweepRun) -> tuple[int, str]:
    """Where a run stands among the others: by number, then by name."""
    return (int(run.name), "") if run.name.isdigit() else (2**63, run.name)


def varied(runs: list[SweepRun]) -> dict[str, list[Any]]:
    """What varies between the runs: by the key of the override, the value of each run.

    Values are those of the config, numbers as numbers; a choice from a group is its name. A run
    that lacks an override has what its config says there, else None.
    """
    words = [run.words for run in runs]
    keys = dict.fromkeys(key for own in words for key in own)
    values = {
        key: [value_of(run, key, own.get(key)) for run, own in zip(runs, words, strict=True)]
        for key in keys
        if len({own.get(key) for own in words}) > 1
    }
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def key_and_word(override: str) -> tuple[str, str]:
    """The key of an override and the rest of it.

    >>> key_and_word("+model.dropout=0.1"), key_and_word("~callbacks")
    (('model.dropout', '0.1'), ('callbacks', '~'))
    """
    key, has_value, word = override.partition("=")
    return key.lstrip("+~"), word if has_value else "~"


def value_of(run: SweepRun, key: str, word: str | None) -> Any:
    """What a run's config has at a dotted key; where that is a whole group, the chosen name."""
    node = config_at(run, key)
    return word if node is None or isinstance(node, dict) else node


def config_at(run: SweepRun, key: str) -> Any:
    """What a run's config has at a dotted key; None where it has nothing."""
    node: Any = run.config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def count_jobs(sweep: Path) -> int | None:
    """How many runs the sweep was to have, by the command that Hydra noted; None if unknown."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        noted = yaml.load((sweep / "multirun.yaml").read_text(), Loader)  # noqa: S506 - it is safe
        if not noted["hydra"]["sweeper"]["_target_"].endswith(".BasicSweeper"):
            return None  # as many as it likes, and a parameter's words may not be values
        params = noted["hydra"]["sweeper"].get("params") or {}
        words = [*(f"{key}={value}" for key, value in params.items())]
        words += noted["hydra"]["overrides"]["task"]
        parsed = OverridesParser.create().parse_overrides(words)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    except (yaml.YAMLError, HydraException):
        return None
    if any(override.is_interval_sweep() for override in parsed):
        return None
    last = {override.get_key_element(): override for override in parsed}  # the command line's wins
    return prod(
        sum(1 for _ in override.sweep_string_iterator())
        for override in last.values()
        if override.is_sweep_override()
    )
