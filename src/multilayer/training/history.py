"""`history.csv`: what an epoch of a run brought, one row each."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import StringIO
from itertools import chain
from math import isnan, nan
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import polars as pl

from multilayer.core.errors import UserError
from multilayer.core.files import check_before_writing
from multilayer.runs.folder import RunFolder
from multilayer.training.epoch_callback import EpochCallback, Record

_FIRST_COLUMNS = ("epoch", "step", "lr", "seconds")

_SECONDS_BETWEEN_WRITES = 1.0

_SECONDS_A_FILE, _SHARE_OF_TIME = 0.0001, 0.01
"""About what writing takes for each run, and what it may take of the time of a training."""

_Row = tuple[tuple[str, ...], tuple[float | None, ...]]
"""The names of the columns that a row has values for, and the values."""


class History(EpochCallback):
    """Keeps a row for each epoch, and writes them as `history.csv`.

    The columns are `epoch` (from 1 on), `step` (optimizer steps so far), `lr` (the first parameter
    group's rate, as the epoch began with it), `seconds` (since the training began; a run that is
    resumed counts on), and every metric that was logged. A field is empty where a metric was not
    measured in an epoch, or is not defined for the rows. New rows are appended to the file at most
    once a second; the whole of it is written where a column is new, and at the end, also where that
    is an error.

    Args:
        folder: where the file goes; it is made if it is missing.

    Attributes:
        rows: of each run, so far.
        n_written: how many of them are in the file.
        headers: the columns of the files.
        lr: the learning rates with which the epoch began, `(K,)`; NaN before.

    >>> history = History(folder="runs/mine")
    >>> history.columns()
    {'epoch': [], 'step': [], 'lr': [], 'seconds': []}
    """

    PER_RUN = ("runs", "rows", "n_written", "headers", "seconds_before", "lr")

    def __init__(self, *, folder: str | Path) -> None:
        self.runs = [RunFolder(folder)]
        self.reset()

    def reset(self, n_runs: int = 1) -> None:
        """Begin with empty tables."""
        self.rows: list[list[_Row]] = [[] for _ in range(n_runs)]
        self.n_written = [0] * n_runs
        self.headers: list[tuple[str, ...]] = [()] * n_runs
        self.seconds_before = np.zeros(n_runs)
        self.lr = np.full(n_runs, np.nan)
        self._written = monotonic()

    def on_fit_start(self, record: Record) -> None:
        """Make the folders; tables of runs that go on there end where their checkpoints do."""
        if record.writes_files:
            for run, rows in zip(self.runs, self.rows, strict=True):
                run.path.mkdir(parents=True, exist_ok=True)
                if not rows:
                    check_before_writing(run.history_file)
                    run.history_file.unlink(missing_ok=True)
            self.write(record)

    def on_epoch_start(self, record: Record) -> None:
        """Note the rates: a run that goes on within an epoch may have others then."""
        self.lr = record.lr.copy()

    def on_epoch_end(self, record: Record) -> None:
        """Add a row, and write the tables if it is time again."""
        metrics, rates = record.metrics, record.rates
        seconds = np.round(self.seconds_before + record.seconds, 3)
        lr = np.where(np.isnan(self.lr), record.lr, self.lr)
        named = {"epoch": record.epoch, "step": record.step, "lr": lr, "seconds": seconds}
        columns = [each.tolist() for each in named.values()]
        for name, measured in record.measured.items():
            if not name.endswith("_step") and name not in rates:
                named[name] = metrics[name]
                pairs = zip(metrics[name].tolist(), measured.tolist(), strict=True)
                columns.append([value if there else None for value, there in pairs])
        names = tuple(named)
        for rows, values in zip(self.rows, zip(*columns, strict=True), strict=True):
            rows.append((names, values))
        pause = len(self.runs) * _SECONDS_A_FILE / _SHARE_OF_TIME
        if monotonic() - self._written >= max(_SECONDS_BETWEEN_WRITES, pause):
            self.write(record)

    def on_fit_end(self, record: Record) -> None:
        """Write the whole tables."""
        self.write(record, whole=True)

    def on_failure(self, record: Record, error: BaseException) -> None:
        """Write what there is; the error that came before is the one to be told."""
        with suppress(UserError):
            self.write(record, whole=True)

    def state_dict(self, k: int = 0) -> dict[str, Any]:
        """The table of run `k`."""
        lr = float(self.lr[k])
        return {"columns": self.columns(k)} | ({} if isnan(lr) else {"lr": lr})

    def load_state_dict(self, state: Mapping[str, Any], k: int = 0) -> None:
        """Go on with the table of the run that is resumed.

        Raises:
            ValueError: where its columns are not of one length.
        """
        columns = {
            str(name): [None if each is None else float(each) for each in values]
            for name, values in state["columns"].items()
        }
        if len({len(columns[name]) for name in (*_FIRST_COLUMNS, *columns)}) != 1:
            raise ValueError("History.columns are not of one length")
        for name in ("epoch", "step"):
            columns[name] = [int(each) for each in columns[name]]  # type: ignore[arg-type]
        self.rows[k] = [(tuple(columns), values) for values in zip(*columns.values(), strict=True)]
        self.lr[k] = float(state.get("lr", nan))
        self.seconds_before[k] = columns["seconds"][-1] or 0.0 if columns["seconds"] else 0.0

    def columns(self, k: int = 0) -> dict[str, list[float | None]]:
        """The table of run `k` so far, by the names of its columns."""
        return _columns_of(self.rows[k])

    def curves(self, k: int = 0) -> dict[str, list[float]]:
        """The losses of the epochs that were validated: "epoch", "train" and "validation"."""
        columns = self.columns(k)
        none = [None] * len(columns["epoch"])
        losses = {name: columns.get(f"{name}/loss", none) for name in ("train", "validation")}
        table = pl.DataFrame({"epoch": columns["epoch"], **losses}).drop_nulls()
        return table.cast(pl.Float64).to_dict(as_series=False)

    def write(self, record: Record, *, whole: bool = False) -> None:
        """Write the rows that are new, or the whole tables."""
        if not record.writes_files:
            return
        for k, run in enumerate(self.runs):
            rows, start, header = self.rows[k], self.n_written[k], self.headers[k]
            if whole or not start or not _fit(rows[start:], header):
                start, header = 0, tuple(self.columns(k))
            if len(rows) > start:
                record.submit(partial(_write, run, header, [*rows], start), k)
            self.n_written[k], self.headers[k] = len(rows), header
        self._written = monotonic()


def _write(run: RunFolder, header: Sequence[str], rows: Sequence[_Row], start: int) -> None:
    """Append the rows from `start` on to the table of a run, or write it whole."""
    if start and run.history_file.exists():
        run.append(run.history_file, _to_csv(_lines(header, rows[start:])))
    else:
        run.write(run.history_file, _to_csv([header, *_lines(header, rows)]))


def _fit(rows: Sequence[_Row], header: Sequence[str]) -> bool:
    """Whether a table with these columns has one for every value of some rows."""
    return all(
        value is None or name in header for row in rows for name, value in zip(*row, strict=True)
    )


def _lines(header: Sequence[str], rows: Sequence[_Row]) -> list[list[Any]]:
    """The values of each row in the order of the columns."""
    by_name = [dict(zip(*row, strict=True)) for row in rows]
    return [[row.get(name) for name in header] for row in by_name]


def _to_csv(lines: Iterable[Sequence[Any]]) -> str:
    """CSV to the last bit; polars reads no other NaN as a number."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(["NaN" if each != each else each for each in line] for line in lines)
    return text.getvalue()


def _columns_of(rows: Sequence[_Row]) -> dict[str, list[float | None]]:
    """The columns of a table by name; None where a row lacks a value."""
    by_name = [
        {name: value for name, value in zip(*row, strict=True) if value is not None} for row in rows
    ]
    names = dict.fromkeys(chain(_FIRST_COLUMNS, *by_name))  # other runs may have more
    return {name: [row.get(name) for row in by_name] for name in names}
