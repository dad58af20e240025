"""The short of a report, for the terminal."""

import os

from rich.table import Table

from multilayer.reports.markdown import config_cells, config_header, stack_lines, state_lines
from multilayer.reports.report import Report
from multilayer.reports.verdict import best_command
from multilayer.runs.console import console

MOST_ROWS = 10


def print_report(report: Report) -> None:
    """The best configs, the command for the best, the findings, and where the report is."""
    out = console()
    if report.sweep.running:
        out.print("the sweep is still running: these are the runs so far", style="bold")
    for caution in report.sweep.cautions:
        out.print(f"caution: {caution}", style="bold red")
    out.print(configs(report))
    for line in stack_lines(report.sweep) + state_lines(report.sweep):
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
    more = len(candidates) - MOST_ROWS
    caption = f"and {more} more, in configs.csv" if more > 0 else None
    table = Table(*config_header(sweep), header_style="bold", caption=caption)
    for rank, it in enumerate(candidates[:MOST_ROWS], start=1):
        style = "green" if rank == 1 and it.is_sound else None
        table.add_row(*config_cells(rank, it), style=style)
    return table
