"""`multilayer report`: what a sweep folder says, as tables, figures, and findings in words."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multilayer.core.errors import UserError
from multilayer.core.files import write_text
from multilayer.reports.configs import Candidate, make_candidates
from multilayer.reports.curves import Curves, read_curves
from multilayer.reports.findings import find
from multilayer.reports.findings.finding import Finding
from multilayer.reports.folder import find_sweep
from multilayer.reports.markdown import to_markdown
from multilayer.reports.plots import draw_all
from multilayer.reports.significance import compare
from multilayer.reports.sweep import Sweep, open_sweep
from multilayer.reports.tables import configs_table, metric_names, runs_table, write_tables
from multilayer.reports.verdict import verdict


@dataclass(frozen=True)
class Report:
    """What the command prints: the sweep, its configs best first, and the findings."""

    sweep: Sweep
    candidates: list[Candidate]
    verdict: str
    findings: list[Finding]
    path: Path


def report(config: dict[str, Any]) -> Report:
    """Read a sweep folder and write `report.md`, the tables and `figures/` into it.

    Raises `UserError` where it is no sweep folder, no run has the metric, or it cannot be written.
    """
    folder = find_sweep(config["sweep"])
    refuse_link(folder / "figures")
    sweep = open_sweep(folder, config["metric"])
    candidates = make_candidates(sweep)
    curves = read_all_curves(sweep)
    comparisons = compare(candidates, sweep.sign)
    words = verdict(sweep, candidates, comparisons)
    findings = find(sweep, candidates, comparisons, curves)
    path = sweep.folder / "report.md"
    tables = runs_table(sweep), configs_table(candidates, metric_names(sweep))
    try:
        write_tables(sweep.folder, *tables)
        pictures = draw_all(sweep, candidates, curves)
        write_text(path, to_markdown(sweep, candidates, words, findings, pictures))
    except UserError as error:
        raise UserError(f"sweep={sweep.folder}: the report cannot be written: {error}") from error
    return Report(sweep, candidates, words, findings, path)


def refuse_link(figures: Path) -> None:
    """Refuse to draw where a link leads; files that are links are replaced themselves.

    Raises `UserError`.
    """
    if figures.is_symlink():
        raise UserError(
            f"{figures} is a link: the report is written inside the sweep's folder alone; "
            f"remove it: {shlex.join(['rm', str(figures)])}"
        )


def read_all_curves(sweep: Sweep) -> dict[str, Curves]:
    """The curves of each run that has some: losses, and the metric on both splits."""
    name = sweep.metric.rpartition("/")[2]
    wanted = {f"{split}/{each}" for split in ("train", "validation") for each in ("loss", name)}
    found = {run.name: read_curves(run.folder.path, wanted) for run in sweep.runs}
    return {name: curve for name, curve in found.items() if curve is not None}
