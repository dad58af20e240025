"""The short of a report, for the terminal."""

import os

from rich.table import Table

from multilayer.report import Report
from multilayer.runs.summary import console
from multilayer.sweeps.findings.finding import number
from multilayer.sweeps.markdown import state_lines
from multilayer.sweeps.settings import word
from multilayer.sweeps.table import mean_seconds
from multilayer.sweeps.verdict import best_command, in_words

MOST_ROWS = 10


def print_report(report: Report) -> None:
    """The best configs, the command for the best, the findings, and where the report is."""
    out = console()
    if "running" in report.sweep.counts:
        out.print("the sweep is still running: these are the runs so far", style="bold")
    out.print(configs(report))
    for line in state_lines(report.sweep):
        out.print(line)
    command = best_command(report.candidates, report.sweep)
    if command:
        out.print(f"\nbest     {command}", style="bold")
    out.print(report.verdict)
    if report.findings:
        out.print()
    for finding in report.findings:
        out.print(f"- {finding.title}: {finding.text}")
    out.print(f"\nreport   {os.path.relpath(report.path)}")


def configs(report: Report) -> Table:
    """The best configs, seeds folded."""
    sweep, candidates = report.sweep, report.candidates
    keys = [setting.key for setting in sweep.settings]
    more = len(candidates) - MOST_ROWS
    caption = f"and {more} more, in configs.csv" if more > 0 else None
    header = ["", *keys, sweep.metric, "n", "status", "time (s)"]
    table = Table(*header, header_style="bold", caption=caption)
    for rank, it in enumerate(candidates[:MOST_ROWS], start=1):
        table.add_row(
            str(rank),
            *(word(level) for level in it.choice.values()),
            in_words(it.score),
            str(it.score.n if it.score else 0),
            it.states(),
            number(mean_seconds(it)),
            style="green" if rank == 1 and it.is_sound else None,
        )
    return table
