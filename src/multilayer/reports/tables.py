"""The tables of a report: a row for each run, and a row for each config with its seeds pooled."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from multilayer.core.files import whole_file
from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.hyperparameters import SEED_KEYS, as_column, format_value
from multilayer.reports.runs import varied
from multilayer.reports.sweep import Sweep

SPLITS = ("validation", "test", "train")


def metric_names(sweep: Sweep) -> list[str]:
    """Every final metric that some run has, as `validation/loss`, one split after the other."""
    found = {
        (split, name): None
        for run in sweep.runs
        for split in run.metrics
        for name in run.metrics[split]
    }
    names = dict.fromkeys(name for _, name in found)
    splits = dict.fromkeys([*SPLITS, *(split for split, _ in found)])
    return [f"{split}/{name}" for split in splits for name in names if (split, name) in found]


def write_tables(sweep: Sweep, configs: Configs) -> None:
    """Write `runs.csv`, `runs.parquet` and `configs.csv`; each appears whole or not at all.

    Raises:
        UserError: One cannot be written.
    """
    runs, pooled = _runs_table(sweep), _configs_table(configs, metric_names(sweep))
    for name, table in (("runs.csv", runs), ("runs.parquet", runs), ("configs.csv", pooled)):
        with whole_file(sweep.folder / name) as file:
            table.write_csv(file) if name.endswith(".csv") else table.write_parquet(file)


def _runs_table(sweep: Sweep) -> pl.DataFrame:
    """A row for each run: what varied, status, time, every final metric; null for what it lacks."""
    runs = sweep.runs
    seeds = {key: each for key, each in varied(runs).items() if key in SEED_KEYS}
    columns: dict[str, list[Any]] = {"run": [run.name for run in runs]}
    columns |= {
        key: as_column(each) for key, each in (sweep.values | sweep.derived | seeds).items()
    }
    for name in ("status", "stop_reason", "best_epoch", "steps"):
        columns[name] = as_column([run.manifest.get(name) for run in runs])
    columns["fit_seconds"] = as_column([run.seconds for run in runs])
    columns["stack_seconds"] = as_column([run.stack_seconds for run in runs])
    columns |= {name: [run.metric(name) for run in runs] for name in metric_names(sweep)}
    return pl.DataFrame(columns, infer_schema_length=None)


def _configs_table(configs: Configs, names: Sequence[str]) -> pl.DataFrame:
    """A row for each config, best first: of each metric, mean, deviation and interval."""
    rows = [_config_row(rank, each, names) for rank, each in enumerate(configs, start=1)]
    return pl.DataFrame(rows, infer_schema_length=None)


def _config_row(rank: int, config: ConfigResult, names: Sequence[str]) -> dict[str, Any]:
    """The row of a config."""
    row: dict[str, Any] = {"rank": rank}
    row |= {key: format_value(value) for key, value in config.values.items()}
    row |= config.derived
    row |= {"runs": len(config.runs), "n": len(config.scores), "status": config.status_text}
    row["fit_seconds"] = config.seconds
    for name in names:
        stats = config.metric(name)
        for part in ("mean", "std", "low", "high"):
            row[f"{name} {part}"] = getattr(stats, part) if stats else None
    return row
