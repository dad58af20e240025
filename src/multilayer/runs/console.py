"""What a run did, in a few lines for who started it."""

import os
import sys
from collections.abc import Iterable
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from multilayer.core.metric_names import NEEDED
from multilayer.core.text import sanitize
from multilayer.runs.folder import Metrics


class HarmlessConsole(Console):
    """A console that obeys no codes in what it is given; its own colours stay."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is printed, piece by piece."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else piece._replace(text=sanitize(piece.text))


def console() -> Console:
    """The standard output; wide where it is no terminal, so that a log keeps whole lines.

    Only the first of several processes that train the same run has something to say.
    """
    quiet = os.environ.get("LOCAL_RANK", "0") != "0"
    width = None if sys.stdout.isatty() else 140
    return HarmlessConsole(width=width, highlight=False, markup=False, quiet=quiet, soft_wrap=True)


def print_run(folder: Path, manifest: dict[str, Any], metrics: Metrics) -> None:
    """The metrics of a run, how it ended, where it is, and how to look at it."""
    print_metrics(metrics)
    out = console()
    best = manifest["best_epoch"]
    if best is not None:
        out.print(f"best epoch  {f'{best}, its' if best else 'none, the last'} weights are kept")
    out.print(f"ended       {manifest['stop_reason']}")
    if manifest["status"] == "diverged":
        out.print("diverged    the loss is not finite: try a smaller optimizer.lr", style="red")
    run = os.path.relpath(folder)
    out.print(f"run folder  {run}")
    if (folder / "tensorboard").is_dir():
        out.print(f"look at it  tensorboard --logdir {run}")


def print_metrics(metrics: Metrics) -> None:
    """A column for each split, a row for each metric; what is not defined is a dash, and said."""
    table = Table("", *metrics, header_style="bold")
    names = next(iter(metrics.values()))
    for name in names:
        table.add_row(name, *(format_metric(name, values[name]) for values in metrics.values()))
    console().print(table)
    for name, needed in NEEDED.items():
        lacking = [key for key, values in metrics.items() if is_undefined(name, values.get(name))]
        if lacking:
            console().print(f"{name} is not defined for {', '.join(lacking)}: {needed}")


def print_job(number: int, manifest: dict[str, Any], metrics: Metrics) -> None:
    """A run of a sweep, in one line."""
    loss = format_number(metrics["validation"]["loss"])
    words = [
        f"job {number}",
        " ".join(manifest["overrides"]),
        manifest["status"],
        f"validation loss {loss}",
    ]
    console().print("  ".join(words))


def is_undefined(name: str, value: float | None) -> bool:
    """Whether a metric is not defined for the rows; a loss that is NaN has diverged."""
    return name in NEEDED and value is not None and isnan(value)


def format_metric(name: str, value: float | None) -> str:
    """A metric's number; a dash where it is not defined."""
    return format_number(None if is_undefined(name, value) else value)


def format_number(value: float | None) -> str:
    """Six digits, as many as float32 has; a dash where there is no number.

    >>> format_number(0.123456789)
    '0.123457'
    """
    return "-" if value is None else f"{value:.6g}"
