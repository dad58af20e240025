"""`multilayer report`: what a sweep folder says, as tables, figures, and findings in words."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from multilayer.core.errors import UserError
from multilayer.core.files import write_text
from multilayer.reports.configs import ConfigResult, best_command, rank_configs
from multilayer.reports.findings import find
from multilayer.reports.findings.thresholds import Finding
from multilayer.reports.markdown import (
    config_cells,
    config_header,
    stack_lines,
    state_lines,
    to_markdown,
)
from multilayer.reports.plots import draw_all
from multilayer.reports.significance import compare, verdict
from multilayer.reports.sweep import Sweep, find_sweep, open_sweep
from multilayer.reports.tables import write_tables
from multilayer.runs.console import console

_MAX_ROWS = 10
"""Configs that are printed."""


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        sweep: What it is of.
        configs: Its configs, best first.
        verdict: Whether the best config can be told from the second.
        findings: What else the sweep teaches.
        path: The file `report.md`.
    """

    sweep: Sweep
    configs: list[ConfigResult]
    verdict: str
    findings: list[Finding]
    path: Path


def report(config: dict[str, Any]) -> Report:
    """Read a sweep folder and write `report.md`, the tables and `figures/` into it.

    Args:
        config: The `sweep` folder, and the `metric` to compare by; None for the monitored one.

    Raises:
        UserError: It is no sweep folder, no run has the metric, or the report cannot be written.
    """
    folder = find_sweep(config["sweep"])
    _refuse_link(folder / "figures")
    sweep = open_sweep(folder, config["metric"])
    configs = rank_configs(sweep)
    comparisons = compare(configs, sweep.sign)
    text = verdict(sweep, configs, comparisons)
    findings = find(sweep, configs, comparisons)
    path = sweep.folder / "report.md"
    try:
        write_tables(sweep, configs)
        pictures = draw_all(sweep, configs)
        write_text(path, to_markdown(sweep, configs, text, findings, pictures))
    except UserError as error:
        raise UserError(f"sweep={sweep.folder}: the report cannot be written: {error}") from error
    return Report(sweep, configs, text, findings, path)


def _refuse_link(figures: Path) -> None:
    """Refuse to draw where a link leads; files that are links are replaced themselves.

    Raises:
        UserError: The folder is a link.
    """
    if figures.is_symlink():
        raise UserError(
            f"{figures} is a link: the report is written inside the sweep's folder alone; "
            f"remove it: {shlex.join(['rm', str(figures)])}"
        )


def print_report(report: Report) -> None:
    """Print the best configs, the command for the best, the findings, and where the report is."""
    out, sweep = console(), report.sweep
    if sweep.running:
        out.print("the sweep is still running: these are the runs so far", style="bold")
    for warning in sweep.warnings:
        out.print(f"caution: {warning}", style="bold red")
    out.print(_configs_table(report))
    for line in stack_lines(sweep) + state_lines(sweep):
        out.print(line)
    command = best_command(report.configs, sweep)
    if command:
        out.print(f"\nbest     {command}", style="bold")
    out.print(report.verdict)
    if report.findings:
        out.print()
    for finding in report.findings:
        out.print(f"- {finding.title}: {finding.text}")
    out.print(f"\nreport   {os.path.relpath(report.path)}")


def _configs_table(report: Report) -> Table:
    """The best configs."""
    more = len(report.configs) - _MAX_ROWS
    caption = f"and {more} more, in configs.csv" if more > 0 else None
    table = Table(*config_header(report.sweep), header_style="bold", caption=caption)
    for rank, config in enumerate(report.configs[:_MAX_ROWS], start=1):
        style = "green" if rank == 1 and config.is_valid else None
        table.add_row(*config_cells(rank, config), style=style)
    return table
