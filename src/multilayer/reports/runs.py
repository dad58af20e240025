"""Reads the runs of a sweep folder, whichever launcher trained them and however far they came."""

import csv
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilayer.core.errors import UserError
from multilayer.core.files import load_yaml, read_small, refusing
from multilayer.core.renamed import current_key, with_current_names
from multilayer.core.text import sanitize_data
from multilayer.reports.hyperparameters import (
    LARGEST,
    Value,
    as_value,
    format_value,
    is_number,
)
from multilayer.runs.folder import RunFolder

STATUSES = ("done", "running", "diverged", "pruned", "failed", "interrupted")
"""The statuses of a run, in the order in which they are counted."""

_NUMBERS = ("best_epoch", "fit_seconds", "members", "stack_seconds", "steps")
_TEXTS = ("data_fingerprint", "stack", "started", "stop_reason")
"""What is read of a manifest in addition to status and overrides; each may be missing."""

_MAX_OVERRIDES = 1000
"""Overrides of a run; each key that differs between runs is a column."""

_MAX_BLOCKS = 200
"""Blocks of a config that are parsed one by one; one of ours has some twenty."""

_MAX_HISTORY = 2**25
"""Bytes of a `history.csv` that are read: over a hundred thousand epochs."""

_MAX_EPOCH = 10**9

_DATA_KEYS = (
    *("data", "data.name", "data.target"),
    *("data.path", "data.train_path", "data.validation_path", "data.test_path"),
)
"""What says of which data a run is."""

_READING_KEYS = tuple(
    f"data.{name}"
    for name in (
        *("drop_columns", "categorical_columns"),
        *("group_column", "time", "split_column", "weight"),
        *("missing", "decimal", "thousands", "stream"),
    )
)
"""What changes how data is read, and so its fingerprint."""

Curves = dict[str, NDArray[Any]]
"""Metrics by epoch, `(E,)` each; NaN where one was not measured or not finite. `epoch` has the
numbers of the epochs, counted from 1."""

TEST_OF_REFIT = "test of refit"
"""The metrics of a run's refit on the test rows, among those of the run's splits."""

SPLITS = ("validation", "test", TEST_OF_REFIT, "train")


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep, as its folder describes it.

    Attributes:
        folder: Its folder.
        name: The folder's name: the job number unless `hydra.sweep.subdir` says otherwise.
        manifest: The content of `manifest.json`.
        metrics: The content of `metrics.json`: final metrics by split and name; with those of its
            refit, if that is done.

    >>> SweepRun(RunFolder("sweeps/a/0"), "0", {"status": "done"}, {}).status
    'done'
    """

    folder: RunFolder
    name: str
    manifest: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        return str(self.manifest["status"])

    @property
    def stop_reason(self) -> str:
        """Why it ended; empty where that is not known."""
        return self.manifest.get("stop_reason") or ""

    @cached_property
    def overrides(self) -> dict[str, str]:
        """The values of its overrides by key."""
        return dict(map(_split_override, self.manifest["overrides"]))

    def overrides_without(self, keys: Collection[str]) -> list[str]:
        """Its overrides but those of some keys, with each key as it is called today."""
        return [
            override.replace(override.partition("=")[0].lstrip("+~"), key, 1)
            for override in self.manifest["overrides"]
            if (key := _split_override(override)[0]) not in keys
        ]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        file = self.folder.config_file
        with refusing(file, "is damaged", ValueError):
            return _load_config(read_small(file))

    @property
    def seconds(self) -> float | None:
        """The time of its training, in a stack its share of it; None where that is not known.

        Earlier versions noted the time of the whole stack instead.
        """
        is_share = self.manifest.get("stack_seconds") is not None
        return self.manifest.get("fit_seconds") if is_share or not self.in_stack else None

    @property
    def stack_seconds(self) -> float | None:
        """The time of the stack until this run ended; None if it was trained alone."""
        if not self.in_stack:
            return None
        known: float | None = self.manifest.get("stack_seconds")
        return known if known is not None else self.manifest.get("fit_seconds")

    @property
    def has_refit(self) -> bool:
        """Whether it was to be trained once more on training and validation rows."""
        return self.manifest.get("refit") is True

    @property
    def in_stack(self) -> bool:
        """Whether it was trained together with others."""
        return (self.manifest.get("members") or 1) > 1

    def metric(self, name: str) -> float | None:
        """A final metric such as `validation/loss`; None where it is missing or not finite."""
        split, _, metric = name.partition("/")
        value = self.metrics.get(split, {}).get(metric)
        return float(value) if value is not None and abs(value) <= LARGEST else None

    def value(self, key: str) -> Value:
        """The config's value at the key of an override, as the report compares it."""
        return as_value(_raw_value(self, key))

    def config_value(self, key: str) -> Any:
        """The config's value at a dotted key; None where there is none."""
        node: Any = self.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node


def _load_config(text: str) -> dict[str, Any]:
    r"""A run's config. Blocks that runs share are parsed once, so they must not be changed.

    This way a thousand configs of a sweep take 0.1 s instead of 2 s.

    >>> _load_config("seed: 0\nmodel:\n  dropout: 0.1\n")
    {'seed': 0, 'model': {'dropout': 0.1}}
    """
    blocks = re.split(r"^(?=[A-Za-z_])", text, maxsplit=_MAX_BLOCKS, flags=re.MULTILINE)
    config: dict[str, Any] = {}
    try:
        for block in blocks:
            config |= _load_block(block) or {}
    except (TypeError, ValueError):  # written by hand, or damaged
        config = _load_block(text)
    return config


@cache
def _load_block(text: str) -> Any:
    """A part of a YAML file that can be parsed by itself."""
    return sanitize_data(with_current_names(load_yaml(text)))


def read_curves(path: Path, names: Collection[str]) -> Curves | None:
    """The metrics `names` of each epoch, from a run's `history.csv`; NaN where it lacks one.

    None where it has none of them, as in folders of versions that did not write one. What follows a
    damaged row is left out.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(_MAX_HISTORY).decode(errors="replace")
    reader = csv.reader(text.split("\n")[:-1])  # without a row that is just being written
    rows: dict[int, list[float]] = {}
    known: list[str] = []
    with suppress(csv.Error, ValueError, IndexError):
        header = next(reader, [])
        known = [name for name in names if name in header]
        place, *places = map(header.index, ["epoch", *known])
        for row in reader:
            rows[int(row[place])] = [float(row[each] or "nan") for each in places]
    epochs = sorted(epoch for epoch in rows if 0 < epoch <= _MAX_EPOCH)
    if not epochs or not known:
        return None
    values = np.array([rows[epoch] for epoch in epochs]).T  # (metrics, E)
    size = np.abs(values)
    values = np.where(size > LARGEST, np.nan, np.where(size < 1 / LARGEST, 0.0, values))
    curves = dict.fromkeys(names, np.full(len(epochs), np.nan))
    return curves | dict(zip(known, values, strict=True)) | {"epoch": np.array(epochs)}


def problem(run: SweepRun | str) -> str | None:
    """Why a run, or its config, cannot be used; None if it can."""
    if isinstance(run, str):
        return run
    try:
        return None if _is_config(run.config) else "config.yaml is not that of a run"
    except UserError as error:
        return _reason(run.folder.config_file, error)


def _reason(path: Path, error: UserError) -> str:
    """Why a file could not be read, without its folder and without the parser's own message."""
    return str(error).replace(str(path), path.name, 1).partition(":")[0]


def _is_config(content: Any) -> bool:
    """Whether the parts of a config that are read have the right types."""
    if not isinstance(content, dict):
        return False
    trainer, *groups = [content.get(key) or {} for key in ("trainer", "callbacks", "logger")]
    return (
        all(isinstance(content.get(key), str) for key in ("monitor", "mode"))
        and all(isinstance(part, dict) for part in (trainer, *groups))
        and (trainer.get("max_epochs") is None or is_number(trainer["max_epochs"]))
        and all(node is None or isinstance(node, dict) for part in groups for node in part.values())
    )


def read_run(folder: RunFolder, name: str) -> SweepRun | str:
    """A run, or why there is none: which of its files is missing, or not what a run writes."""
    found: list[Any] = []
    for file, read, is_valid in (
        (folder.manifest_file, folder.read_manifest, _is_manifest),
        (folder.metrics_file, folder.read_metrics, _is_metrics),
    ):
        try:
            found.append(sanitize_data(read()))
        except UserError as error:
            return _reason(file, error)
        if not is_valid(found[-1]):
            return f"{file.name} is not that of a run"
    manifest, metrics = found
    return SweepRun(folder, name, manifest, metrics | _metrics_of_refit(folder, manifest))


def _metrics_of_refit(
    folder: RunFolder, manifest: dict[str, Any]
) -> dict[str, dict[str, float | None]]:
    """The metrics of a run's refit on the test rows; none where it has no refit that is done."""
    refit = manifest.get("refit") is True and read_run(RunFolder(folder.refit), "refit")
    if not isinstance(refit, SweepRun) or refit.status != "done":
        return {}
    return {TEST_OF_REFIT: refit.metrics.get("test", {})}


def _is_manifest(content: Any) -> bool:
    """Whether the parts of a manifest that are read have the right types.

    >>> _is_manifest({"status": "done", "overrides": ["seed=1"]}), _is_manifest([])
    (True, False)
    """
    if not isinstance(content, dict) or content.get("status") not in STATUSES:
        return False
    overrides = content.get("overrides")
    return (
        isinstance(overrides, list)
        and len(overrides) <= _MAX_OVERRIDES
        and all(isinstance(override, str) for override in overrides)
        and all(content.get(key) is None or is_number(content[key]) for key in _NUMBERS)
        and all(content.get(key) is None or isinstance(content[key], str) for key in _TEXTS)
    )


def _is_metrics(content: Any) -> bool:
    """Whether final metrics are numbers, or null, by split and name.

    >>> _is_metrics({"train": {"loss": 0.1, "r2": None}}), _is_metrics({"train": {"loss": "x"}})
    (True, False)
    """
    return isinstance(content, dict) and all(
        isinstance(split, dict)
        and all(value is None or type(value) in (int, float) for value in split.values())
        for split in content.values()
    )


def final_metrics(runs: Sequence[SweepRun]) -> list[str]:
    """Every final metric that some run has, as `validation/loss`, one split after the other."""
    found = {
        (split, name): run for run in runs for split in run.metrics for name in run.metrics[split]
    }
    names = dict.fromkeys(name for _, name in found)
    splits = dict.fromkeys([*SPLITS, *(split for split, _ in found)])
    return [f"{split}/{name}" for split in splits for name in names if (split, name) in found]


def varied(runs: Sequence[SweepRun]) -> dict[str, list[Any]]:
    """What varies between the runs: by the key of the override, the value of each run.

    Values are those of the config, with its types; a choice from a config group is its name. A run
    without the override has what its config says there, else None.
    """
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    values = {
        key: [_raw_value(run, key) for run in runs]
        for key in keys
        if len({run.overrides.get(key) for run in runs}) > 1
    }
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def _split_override(override: str) -> tuple[str, str]:
    """The key of an override and its value.

    >>> _split_override("+model.dropout=0.1"), _split_override("~callbacks")
    (('model.dropout', '0.1'), ('callbacks', '~'))
    """
    key, has_value, value = override.partition("=")
    return current_key(key.lstrip("+~")), value if has_value else "~"


def _raw_value(run: SweepRun, key: str) -> Any:
    """The config's value at a dotted key; where that is a whole group, the name of the choice."""
    value = run.config_value(key)
    return run.overrides.get(key) if value is None or isinstance(value, dict) else value


def group_by_data(runs: Sequence[SweepRun]) -> dict[str, list[SweepRun]]:
    """The runs by the data that they are of, which are named as overrides do.

    Data of one name are told apart by their fingerprint, where they are read in the same way: what
    leaves out a column leaves the rows and the target as they are.
    """
    varying = varied(runs)
    keys = [key for key in _DATA_KEYS if key in varying]
    read_by = [key for key in _READING_KEYS if key in varying]
    groups: dict[str, list[SweepRun]] = {}
    versions: dict[tuple[Value, ...], list[str]] = {}
    for run in runs:
        words = [f"{key}={format_value(run.value(key))}" for key in keys or _known(run)]
        name = " ".join(words) or "data"
        fingerprint = run.manifest.get("data_fingerprint")
        if isinstance(fingerprint, str):  # else it failed before it read them
            seen = versions.setdefault((name, *(run.value(key) for key in read_by)), [])
            if fingerprint not in seen:
                seen.append(fingerprint)
            n = seen.index(fingerprint)
            name += f" (version {n + 1})" if n else ""
        groups.setdefault(name, []).append(run)
    return groups


def _known(run: SweepRun) -> list[str]:
    """The keys that name the data of a run."""
    return [key for key in _DATA_KEYS[1:] if run.config_value(key) is not None]
