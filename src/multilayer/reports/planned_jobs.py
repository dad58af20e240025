"""The jobs that a sweep has been planned with, by its ledger or by the command that Hydra noted."""

from contextlib import suppress
from decimal import Decimal
from math import ceil, prod
from pathlib import Path
from typing import Any

from multilayer.core.errors import UserError
from multilayer.core.files import load_yaml, read_small
from multilayer.core.text import sanitize_data
from multilayer.sweeps import Job, Ledger

_MAX_JOBS = 10**12
"""Jobs of a sweep; beyond that the command cannot have been meant."""


_MAX_COMMAND = 20_000
"""Characters of a sweep's command that are parsed to count its jobs; Hydra's parser is slow."""


def read_jobs(sweep: Path) -> list[Job]:
    """The jobs of a sweep by its ledger, as they are now; none where there is none, or damaged."""
    ledger = Ledger(sweep)
    with suppress(UserError):
        ledger.refresh()
        return list(ledger.jobs.values())
    return []


def hydra_settings(sweep: Path) -> dict[str, Any]:
    """Hydra's own settings from a sweep's `multirun.yaml`; empty where it cannot be read."""
    try:
        settings = sanitize_data(load_yaml(read_small(sweep / "multirun.yaml")))["hydra"]
    except (ValueError, LookupError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}


def words_of_folders(sweep: Path) -> list[str]:
    """The words of a sweep's command that name folders with the user's own choices."""
    settings = hydra_settings(sweep)
    try:
        sources, words = settings["runtime"]["config_sources"], settings["overrides"]["hydra"]
        given = [str(each["path"]) for each in sources if each["provider"] == "command-line"]
        flags = ["--config-dir", given[0]] if given else []
        return [*flags, *(word for word in words if word.startswith("hydra.searchpath="))]
    except (LookupError, TypeError, AttributeError):
        return []


def count_jobs(sweep: Path) -> int | None:
    """How many runs the sweep has, by its ledger or by what Hydra noted of it; None if unknown."""
    if jobs := read_jobs(sweep):
        return len(jobs)
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    settings = hydra_settings(sweep)
    try:
        if not settings["sweeper"]["_target_"].endswith((".BasicSweeper", ".GridSweeper")):
            return None  # a search decides itself, and its parameters may not be lists of values
        params = settings["sweeper"].get("params") or {}
        words = [f"{key}={value}" for key, value in params.items()] + settings["overrides"]["task"]
        if sum(map(len, words)) > _MAX_COMMAND:
            return None
        parsed = OverridesParser.create().parse_overrides(words)
        last = {override.get_key_element(): override for override in parsed}  # the command line's
        n = prod(_count_values(each) for each in last.values() if each.is_sweep_override())
    except (ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    except (ValueError, HydraException):
        return None
    return n if n <= _MAX_JOBS else None


def _count_values(override: Any) -> int:
    """How many values an override of a sweep has, without listing them.

    Raises:
        AttributeError: The override alone does not tell, as for a glob or an interval.
    """
    values = override.value()
    if not override.is_range_sweep():
        return len(values.list)
    steps = (Decimal(values.stop) - Decimal(values.start)) / Decimal(values.step)
    return max(0, ceil(steps))
