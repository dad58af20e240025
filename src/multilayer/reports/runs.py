"""Reads the runs of a sweep folder, whichever launcher trained them and however far they came."""

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from math import ceil, prod
from pathlib import Path
from typing import Any

from multilayer.core.errors import UserError
from multilayer.core.files import load_yaml, read_small, refusing
from multilayer.core.renamed import rename_targets
from multilayer.core.text import sanitize, sanitize_data
from multilayer.reports.hyperparameters import MOST, is_number
from multilayer.runs.folder import RunFolder

RUN_FILES = ("manifest.json", "config.yaml")

STATUSES = ("done", "running", "diverged", "failed", "interrupted")
"""Of a run, in the order in which they are counted."""

NUMBERS = ("best_epoch", "fit_seconds", "members", "stack_seconds", "steps")
WORDS = ("data_fingerprint", "stack", "started", "stop_reason")
"""What is read of a manifest beside its status and overrides; it may be missing."""

MOST_OVERRIDES = 1000
"""Of a run; each key that differs between runs is a column."""

MOST_BLOCKS = 200
"""Of a config that is parsed block by block; one of ours has some twenty."""

MOST_JOBS = 10**12
"""Of a sweep; where more were planned, nobody planned."""

MOST_COMMAND = 20_000
"""Letters of a sweep's command that are parsed to count its jobs; Hydra's parser is slow."""


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep, as its folder describes it.

    name: of its folder, which is the job number unless `hydra.sweep.subdir` says otherwise.
    """

    folder: RunFolder
    name: str
    manifest: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        status: str = self.manifest["status"]
        return status

    @cached_property
    def words(self) -> dict[str, str]:
        """Its overrides by their keys."""
        return dict(map(key_and_word, self.manifest["overrides"]))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        file = self.folder.config_file
        with refusing(file, "is damaged", ValueError):
            return load_config(read_small(file))

    @property
    def seconds(self) -> float | None:
        """The time of its training, of a stack its share; None where that is not known.

        Earlier versions noted the time of the whole stack in its place.
        """
        is_share = self.manifest.get("stack_seconds") is not None
        return self.manifest.get("fit_seconds") if is_share or not self.in_stack else None

    @property
    def stack_seconds(self) -> float | None:
        """The time of the stack up to its end; None where it was trained alone."""
        if not self.in_stack:
            return None
        known: float | None = self.manifest.get("stack_seconds")
        return known if known is not None else self.manifest.get("fit_seconds")

    @property
    def in_stack(self) -> bool:
        """Whether it was trained together with others."""
        return (self.manifest.get("members") or 1) > 1

    def metric(self, name: str) -> float | None:
        """A final metric such as `validation/loss`; None where it is missing or not finite."""
        split, _, metric = name.partition("/")
        value = self.metrics.get(split, {}).get(metric)
        return float(value) if value is not None and abs(value) <= MOST else None


def load_config(text: str) -> dict[str, Any]:
    """A run's config. Blocks that runs share are parsed once, and so are not to be changed.

    A thousand configs of a sweep take 0.1 s so, and 2 s otherwise.

    >>> load_config("seed: 0\\nmodel:\\n  dropout: 0.1\\n")
    {'seed': 0, 'model': {'dropout': 0.1}}
    """
    blocks = re.split(r"^(?=[A-Za-z_])", text, maxsplit=MOST_BLOCKS, flags=re.MULTILINE)
    config: dict[str, Any] = {}
    try:
        for block in blocks:
            config |= load_block(block) or {}
    except (TypeError, ValueError):  # written by hand, or damaged
        config = load_block(text)
    return config


@cache
def load_block(text: str) -> Any:
    """A part of a YAML file that stands by itself."""
    return sanitize_data(rename_targets(load_yaml(text)))


def config_problem(run: SweepRun) -> str | None:
    """Why a run's config is none of ours; None where it is one."""
    try:
        is_ours = is_config(run.config)
    except UserError as error:
        return reason(run.folder.config_file, error)
    return None if is_ours else "config.yaml is not that of a run"


def reason(path: Path, error: UserError) -> str:
    """Why a file could not be read, without its folder and what a library says of the damage."""
    return str(error).replace(str(path), path.name, 1).partition(":")[0]


def is_config(content: Any) -> bool:
    """Whether a config has what is read of it."""
    if not isinstance(content, dict):
        return False
    trainer = content.get("trainer") or {}
    parts = [content.get(key) or {} for key in ("callbacks", "logger")]
    return (
        all(isinstance(content.get(key), str) for key in ("monitor", "mode"))
        and isinstance(trainer, dict)
        and (trainer.get("max_epochs") is None or is_number(trainer["max_epochs"]))
        and all(isinstance(part, dict) for part in parts)
        and all(node is None or isinstance(node, dict) for part in parts for node in part.values())
    )


def read_sweep(sweep: Path) -> list[SweepRun]:
    """The runs that have begun, in the order of their job numbers."""
    return sorted(
        (it for it in read_folders(sweep).values() if isinstance(it, SweepRun)), key=place
    )


def read_folders(sweep: Path) -> dict[str, SweepRun | str]:
    """Each run that has begun by its name, or why it cannot be read.

    Folders of one name, each in its own folder, are called by both.
    """
    begun = sorted({path.parent for name in RUN_FILES for path in files_of_runs(sweep, name)})
    n_of_name = Counter(path.name for path in begun)
    found: dict[str, SweepRun | str] = {}
    for path in begun:
        own = path.name if n_of_name[path.name] == 1 else f"{path.parent.name}/{path.name}"
        name = sanitize(own, keep="")
        found[name] = read_run(RunFolder(path), name)
    return found


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


def read_run(folder: RunFolder, name: str) -> SweepRun | str:
    """A run, or why there is none: which of its files is missing, or not what a run writes."""
    found: list[Any] = []
    for file, read, is_ours in (
        (folder.manifest_file, folder.read_manifest, is_manifest),
        (folder.metrics_file, folder.read_metrics, is_metrics),
    ):
        try:
            found.append(sanitize_data(read()))
        except UserError as error:
            return reason(file, error)
        if not is_ours(found[-1]):
            return f"{file.name} is not that of a run"
    return SweepRun(folder, name, *found)


def is_manifest(content: Any) -> bool:
    """Whether a manifest has what is read of it.

    >>> is_manifest({"status": "done", "overrides": ["seed=1"]}), is_manifest([])
    (True, False)
    """
    if not isinstance(content, dict) or content.get("status") not in STATUSES:
        return False
    overrides = content.get("overrides")
    return (
        isinstance(overrides, list)
        and len(overrides) <= MOST_OVERRIDES
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
        and all(value is None or type(value) in (int, float) for value in split.values())
        for split in content.values()
    )


def place(run: SweepRun) -> tuple[int, str]:
    """Where a run stands among the others: by number, then by name."""
    return (int(run.name), "") if is_job_number(run.name) else (2**63, run.name)


def is_job_number(name: str) -> bool:
    """Whether a folder is called by the number of a job.

    >>> is_job_number("12"), is_job_number("²"), is_job_number("012"), is_job_number("9" * 200)
    (True, False, False, False)
    """
    return re.fullmatch("0|[1-9][0-9]{0,8}", name) is not None


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


def noted_by_hydra(sweep: Path) -> dict[str, Any]:
    """What Hydra notes of itself in a sweep's multirun.yaml; empty where it cannot be read."""
    try:
        noted = load_block(read_small(sweep / "multirun.yaml"))["hydra"]
    except (ValueError, LookupError, TypeError):
        return {}
    return noted if isinstance(noted, dict) else {}


def count_jobs(sweep: Path) -> int | None:
    """How many runs the sweep was to have, by the command that Hydra noted; None if unknown."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    noted = noted_by_hydra(sweep)
    try:
        if not noted["sweeper"]["_target_"].endswith(".BasicSweeper"):
            return None  # as many as it likes, and a parameter's words may not be values
        params = noted["sweeper"].get("params") or {}
        words = [*(f"{key}={value}" for key, value in params.items()), *noted["overrides"]["task"]]
        if sum(map(len, words)) > MOST_COMMAND:
            return None
        parsed = OverridesParser.create().parse_overrides(words)
        last = {override.get_key_element(): override for override in parsed}  # the command line's
        n = prod(count_values(each) for each in last.values() if each.is_sweep_override())
    except (ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    except (ValueError, HydraException):
        return None
    return n if n <= MOST_JOBS else None


def count_values(override: Any) -> int:
    """How many values an override of a sweep has, without listing them.

    Raises `TypeError` where that is not known from it alone.
    """
    values = override.value()
    if not override.is_range_sweep():
        return len(values.list)  # of a glob or an interval there is none
    steps = (Decimal(values.stop) - Decimal(values.start)) / Decimal(values.step)
    return max(0, ceil(steps))
