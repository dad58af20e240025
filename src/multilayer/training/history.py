"""`history.csv`: what an epoch of a run brought, one row each."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar
from weakref import WeakSet

import polars as pl

from multilayer.core.errors import UserError
from multilayer.runs.folder import RunFolder
from multilayer.training.epoch_callback import EpochCallback, Record

_FIRST_COLUMNS = ("epoch", "step", "lr", "seconds")

_SECONDS_BETWEEN_WRITES = 1.0

_SHARE_OF_TIME = 0.01
"""Of the time of a training, what writing may take."""


class History(EpochCallback):
    """Keeps a row for each epoch, and writes them as `history.csv`.

    The columns are `epoch` (from 1 on), `step` (optimizer steps so far), `lr` (the first parameter
    group's rate, as the epoch began with it), `seconds` (since the training began; a run that is
    resumed counts on), and every metric that was logged. A field is empty where a metric was not
    measured in an epoch, or is not defined for the rows. The file is written at most once a second,
    and at the end, also where that is an error.

    Args:
        folder: where the file goes; it is made if it is missing.

    Attributes:
        columns: the table so far, by the names of its columns.
    """

    STATE = (("columns", "columns"),)

    training: ClassVar[WeakSet["History"]] = WeakSet()
    """Those of all runs that train at the moment: in a stack there may be many."""

    def __init__(self, *, folder: str | Path) -> None:
        self.run = RunFolder(folder)
        self.reset()

    def reset(self, n_runs: int = 1) -> None:
        """Begin an empty table."""
        self.columns: dict[str, list[float | None]] = {name: [] for name in _FIRST_COLUMNS}
        self.seconds_before = 0.0
        self.written = monotonic()
        self.pause = _SECONDS_BETWEEN_WRITES

    def on_fit_start(self, record: Record) -> None:
        """Make the folder."""
        self.training.add(self)
        if record.writes_files:
            self.run.path.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, record: Record) -> None:
        """Add a row, and write the table if it is time again."""
        metrics, rates = record.metrics, record.rates
        self.add(
            {
                "epoch": int(record.epoch[0]),
                "step": int(record.step[0]),
                "lr": float(record.lr[0]),
                "seconds": round(self.seconds_before + float(record.seconds[0]), 3),
            }
            | {
                name: float(metrics[name][0])
                for name in record.measured
                if not name.endswith("_step") and name not in rates
            }
        )
        if monotonic() - self.written >= self.pause:
            self.write(record)

    def on_fit_end(self, record: Record) -> None:
        """Write the table."""
        self.training.discard(self)
        self.write(record)

    def on_failure(self, record: Record, error: BaseException) -> None:
        """Write what there is; the error that came before is the one to be told."""
        self.training.discard(self)
        if self.columns["epoch"]:
            with suppress(UserError):
                self.write(record)

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
        self.columns = columns
        self.seconds_before = columns["seconds"][-1] or 0.0 if columns["seconds"] else 0.0

    def curves(self) -> dict[str, list[float]]:
        """The losses of the epochs that were validated: "epoch", "train" and "validation"."""
        none = [None] * len(self.columns["epoch"])
        losses = {name: self.columns.get(f"{name}/loss", none) for name in ("train", "validation")}
        table = pl.DataFrame({"epoch": self.columns["epoch"], **losses}).drop_nulls()
        return table.cast(pl.Float64).to_dict(as_series=False)

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row; a metric that is new gets a column that is empty before."""
        n = len(self.columns["epoch"])
        for name in row:
            self.columns.setdefault(name, [None] * n)
        for name, values in self.columns.items():
            values.append(row.get(name))

    def write(self, record: Record) -> None:
        """Write the table, as often as that takes no more than a small share of the time."""
        if not record.writes_files:
            return
        started = monotonic()
        self.run.write(self.run.history_file, pl.DataFrame(self.columns).write_csv())
        self.written = monotonic()
        seconds_for_all = (self.written - started) * len(self.training)
        self.pause = max(_SECONDS_BETWEEN_WRITES, seconds_for_all / _SHARE_OF_TIME)
