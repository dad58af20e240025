"""What is printed: a progress bar, and what a run did in a few lines when it ends."""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from time import monotonic
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column, Table

from multilayer.core.files import said_path
from multilayer.core.metric_names import (
    CROSS_ENTROPY,
    NEEDED,
    TESTED_PLAIN,
    is_undefined,
    units_note,
)
from multilayer.core.text import as_override, counted, sanitize
from multilayer.runs.folder import Metrics, Result, RunFolder

_ANY_WIDTH = 10_000
"""More characters than a table needs."""

SECONDS_BETWEEN_LINES = 10.0
"""How often a line says how far a training is, where there is no terminal for a bar."""


class _SanitizingConsole(Console):
    """A console that escapes terminal codes in what it is given; its own colours stay."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments to print."""
        for piece in super().render(renderable, options):
            is_safe = piece.control or piece.text == "\n" or piece.text.isprintable()
            yield piece if is_safe else piece._replace(text=sanitize(piece.text))


def console() -> Console:
    """A console for standard output; wide if that is not a terminal, so that logs keep whole lines.

    `COLUMNS` says how wide it is, as for other programs. Of several processes that train the same
    run, only the first prints.
    """
    quiet = os.environ.get("LOCAL_RANK", "0") != "0"
    given = os.environ.get("COLUMNS", "").strip("0").isdigit()
    width = None if sys.stdout.isatty() or given else 140
    return _SanitizingConsole(
        width=width, highlight=False, markup=False, emoji=False, quiet=quiet, soft_wrap=True
    )


def progress_bar(what: str, console: Console, *, shown: bool = True) -> Progress:
    """A bar that counts something, with the time left and a few `words`, for terminals alone.

    An epoch of a small network takes milliseconds: rich draws ten times a second at most.
    """
    whole = Column(no_wrap=True)  # where it is narrow, the words are cut and not the bar
    return Progress(
        TextColumn(what, table_column=whole),
        MofNCompleteColumn(table_column=whole),
        BarColumn(bar_width=10, table_column=Column(min_width=10)),
        TimeRemainingColumn(table_column=whole),
        TextColumn("left ", table_column=whole),
        TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True)),
        console=console,
        disable=not (shown and console.is_terminal),
    )


class RunsProgress:
    """How many runs of a sweep have ended: a bar, or a line every ten seconds without a terminal.

    Args:
        n_runs: How many there are.
        shown: Whether anything is shown.
    """

    def __init__(self, n_runs: int, *, shown: bool = True) -> None:
        self.n_runs = n_runs
        self.shown = shown
        self.console = Console(stderr=True, markup=False, emoji=False)
        self._bar = progress_bar("runs", self.console, shown=shown)
        self._task = self._bar.add_task("sweep", total=n_runs, words="")
        self._last_line = monotonic()

    def __enter__(self) -> Self:
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, n_ended: int, words: str, begun: float = 0.0) -> None:
        """Show how many have ended, and a few words; of others, the parts that are done."""
        self._bar.update(self._task, completed=n_ended + begun, total=self.n_runs, words=words)
        is_due = monotonic() - self._last_line > SECONDS_BETWEEN_LINES
        if self.shown and is_due and not self.console.is_terminal:
            line = f"{n_ended} of {counted(self.n_runs, 'run')} ended  {words}"
            self.console.print(line, soft_wrap=True)
            self._last_line = monotonic()


def print_run(folder: Path, result: Result) -> None:
    """Print the metrics of a run, how it ended, where it is, and how to look at it.

    The metrics of its refit's test rows stand next to its own.
    """
    refit, manifest = result.refit, result.manifest
    print_metrics(result.metrics | ({"test of refit": refit.metrics["test"]} if refit else {}))
    out = console()
    best = manifest["best_epoch"]
    if best is not None:
        out.print(f"best epoch  {f'{best}, its' if best else 'none, the last'} weights are kept")
    out.print(f"ended       {manifest['stop_reason']}")
    if manifest["status"] == "diverged":
        out.print("diverged    the loss is not finite: try a smaller optimizer.lr", style="red")
    run = said_path(folder)
    out.print(f"run folder  {run}")
    for profile in sorted(folder.glob("*profile*.txt")):
        out.print(f"profile     {os.path.join(run, profile.name)}")
    if (folder / "tensorboard").is_dir():
        out.print(f"look at it  tensorboard --logdir {shlex.quote(run)}")
    if refit or manifest.get("refit") is True:  # earlier versions did not note it
        _print_refit(out, folder, result)


def _print_refit(out: Console, folder: Path, result: Result) -> None:
    """Print what the refit of a run was trained on, and how to use it, or why there is none."""
    if result.refit is None:
        status = result.manifest["status"]
        why = {"diverged": "the run diverged", "pruned": "the run was pruned"}.get(status)
        why = why or "there is no best epoch"
        out.print(f"refit       none, since {why}")
        return
    n_epochs, rows = result.manifest["best_epoch"], result.refit.manifest["rows"]["train"]
    epochs = counted(n_epochs, "epoch")
    out.print(f"refit       {epochs} on {counted(rows, 'row')}, those of training and validation")
    if result.refit.manifest["status"] == "diverged":
        out.print("            it diverged: use the run itself", style="red")
        return
    word = as_override("run", said_path(RunFolder(folder).refit))
    out.print(f"use it      multilayer predict {word} input=FILE output=FILE")


def print_table(out: Console, table: Table) -> None:
    """Print a table; where a terminal is too narrow for its words and numbers, a line for each.

    rich would cut them. The first column then has the headings.
    """
    any_width = out.options.update(max_width=_ANY_WIDTH)
    if out.measure(table, options=any_width).minimum <= out.width:
        out.print(table)
        return
    headings, *columns = table.columns
    for index, heading in enumerate(headings.cells):
        out.print(f"{headings.header} {heading}".strip())
        for column in columns:
            cell = [*column.cells][index]
            if cell:
                out.print(_wrapped(f"  {column.header}  {cell}", out.width))


def _wrapped(line: str, width: int) -> str:
    """A line whose words go on in further lines, indented; none is cut."""
    lines = wrap(
        line,
        max(width, 20),
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def print_metrics(metrics: Metrics) -> None:
    """Print a column for each split and a row for each metric; a dash if it is not defined."""
    out = console()
    table = Table("", *metrics, header_style="bold")
    for name in next(iter(metrics.values())):
        table.add_row(name, *(_format_metric(name, values[name]) for values in metrics.values()))
    print_table(out, table)
    if note := units_note([name for values in metrics.values() for name in values]):
        out.print(note)
    losses = {key: (each["loss"], each.get(CROSS_ENTROPY)) for key, each in metrics.items()}
    plain = [key for key, (loss, entropy) in losses.items() if entropy in (None, loss)]
    if 0 < len(plain) < len(metrics):  # the test rows alone
        out.print(TESTED_PLAIN)
    for name, needed in NEEDED.items():
        lacking = [
            key for key, values in metrics.items() if is_undefined(name, values.get(name, 0.0))
        ]
        if lacking:
            out.print(f"{name} is not defined for {', '.join(lacking)}: {needed}")


def print_job(number: int, manifest: dict[str, Any], metrics: Metrics) -> None:
    """Print a run of a sweep in one line."""
    overrides, status = " ".join(manifest["overrides"]), manifest["status"]
    loss = format_number(metrics["validation"]["loss"])
    console().print(f"job {number}  {overrides}  {status}  validation loss {loss}")


def _format_metric(name: str, value: float) -> str:
    """A metric's number; a dash if it is not defined."""
    return format_number(None if is_undefined(name, value) else value)


def format_number(value: float | None) -> str:
    """Six significant digits, as many as float32 has; a dash for None.

    >>> format_number(0.123456789)
    '0.123457'
    """
    return "-" if value is None else f"{value:.6g}"
