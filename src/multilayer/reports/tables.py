"""The tables of a sweep: a row a run, and a row a config with its seeds folded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from multilayer.core.files import whole_file
from multilayer.reports.configs import Candidate
from multilayer.reports.hyperparameters import REPLICATES, as_level, is_number, word
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


def runs_table(sweep: Sweep) -> pl.DataFrame:
    """A row a run: what varied, status, time, and every final metric; null for what it lacks."""
    runs = sweep.runs
    seeds = {key: each for key, each in varied(runs).items() if key in REPLICATES}
    columns: dict[str, list[Any]] = {"run": [run.name for run in runs]}
    columns |= {key: column(each) for key, each in (sweep.levels | sweep.reported | seeds).items()}
    for name in ("status", "stop_reason", "best_epoch", "steps"):
        columns[name] = column([run.manifest.get(name) for run in runs])
    columns["fit_seconds"] = column([run.seconds for run in runs])
    columns["stack_seconds"] = column([run.stack_seconds for run in runs])
    columns |= {name: [run.metric(name) for run in runs] for name in metric_names(sweep)}
    return pl.DataFrame(columns, infer_schema_length=None)


def column(values: Sequence[Any]) -> list[Any]:
    """Values of one kind: numbers, or else words; null stays null."""
    levels = [as_level(value) for value in values]
    known = [level for level in levels if level is not None]
    if all(is_number(level) for level in known):
        whole = all(isinstance(level, int) and abs(level) < 2**63 for level in known)
        return levels if whole else [None if level is None else float(level) for level in levels]
    return [None if level is None else word(level) for level in levels]


def configs_table(candidates: Sequence[Candidate], names: Sequence[str]) -> pl.DataFrame:
    """A row a config, best first: for each metric its mean, deviation, n, and interval."""
    rows = [config_row(rank, each, names) for rank, each in enumerate(candidates, start=1)]
    return pl.DataFrame(rows, infer_schema_length=None)


def config_row(rank: int, candidate: Candidate, names: Sequence[str]) -> dict[str, Any]:
    """The row of a config in the folded table."""
    row: dict[str, Any] = {"rank": rank}
    row |= {key: word(level) for key, level in candidate.choice.items()}
    row |= candidate.reported
    row |= {"runs": len(candidate.runs), "n": len(candidate.scores), "status": candidate.states()}
    row["fit_seconds"] = mean_seconds(candidate)
    for name in names:
        fold = candidate.metric(name)
        for part in ("mean", "std", "low", "high"):
            row[f"{name} {part}"] = getattr(fold, part) if fold else None
    return row


def mean_seconds(candidate: Candidate) -> float | None:
    """The mean time of training, over the runs that are done and know it."""
    known = [run.seconds for run in candidate.done if run.seconds is not None]
    return sum(known) / len(known) if known else None


def write_tables(folder: Path, runs: pl.DataFrame, configs: pl.DataFrame) -> None:
    """Write `runs.csv`, `runs.parquet` and `configs.csv`; each appears whole or not at all."""
    for name, frame in (("runs.csv", runs), ("runs.parquet", runs), ("configs.csv", configs)):
        with whole_file(folder / name) as file:
            frame.write_csv(file) if name.endswith(".csv") else frame.write_parquet(file)
