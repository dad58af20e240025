"""`multilayer report`: what a sweep folder says, as tables, figures, and findings in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from multilayer.drawing import save_figure
from multilayer.errors import UserError
from multilayer.runs.folder import write_text
from multilayer.sweeps.candidates import Candidate, make_candidates
from multilayer.sweeps.colours import choose_colours
from multilayer.sweeps.comparison import compare
from multilayer.sweeps.curve_figures import (
    best_run,
    draw_learning_curves,
    draw_training_and_validation,
)
from multilayer.sweeps.curves import Curves, read_curves
from multilayer.sweeps.finding import Finding
from multilayer.sweeps.findings import find
from multilayer.sweeps.joint_figures import draw_heat_map, draw_parallel
from multilayer.sweeps.markdown import Picture, to_markdown
from multilayer.sweeps.setting_figures import draw_setting
from multilayer.sweeps.sweep import Sweep, find_sweep, open_sweep
from multilayer.sweeps.table import configs_table, metric_names, runs_table, write_tables
from multilayer.sweeps.verdict import verdict

MOST_FIGURES = 6
"""Of single settings, those with the most values first."""


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
    sweep = open_sweep(find_sweep(config["sweep"]), config["metric"])
    candidates = make_candidates(sweep)
    curves = read_all_curves(sweep)
    words = verdict(candidates, compare(candidates, sweep.sign))
    findings = find(sweep, candidates, curves)
    path = sweep.folder / "report.md"
    tables = runs_table(sweep), configs_table(candidates, metric_names(sweep))
    try:
        write_tables(sweep.folder, *tables)
        pictures = draw_all(sweep, candidates, curves)
        write_text(path, to_markdown(sweep, candidates, words, findings, pictures))
    except OSError as error:
        raise UserError(f"sweep={sweep.folder}: the report cannot be written: {error}") from error
    return Report(sweep, candidates, words, findings, path)


def read_all_curves(sweep: Sweep) -> dict[str, Curves]:
    """The curves of each run that has some: losses, and the metric on both splits."""
    name = sweep.metric.rpartition("/")[2]
    wanted = {f"{split}/{each}" for split in ("train", "validation") for each in ("loss", name)}
    found = {run.name: read_curves(run.folder.path, wanted) for run in sweep.runs}
    return {name: curve for name, curve in found.items() if curve is not None}


def draw_all(
    sweep: Sweep, candidates: Sequence[Candidate], curves: dict[str, Curves]
) -> list[Picture]:
    """Draw what there is to draw; figures of an earlier report that are no more are removed."""
    folder = sweep.folder / "figures"
    pictures = []
    for name, caption, figure in figures(sweep, candidates, curves):
        save_figure(figure, folder / name)
        pictures.append(Picture(folder / name, caption))
    drawn = {picture.path for picture in pictures}
    for pattern in ("metric_by_*.png", "heat_map.png", "parallel_coordinates.png", *CURVE_FIGURES):
        for path in set(folder.glob(pattern)) - drawn:
            path.unlink()
    return pictures


CURVE_FIGURES = ("learning_curves.png", "training_and_validation.png")


def figures(
    sweep: Sweep, candidates: Sequence[Candidate], curves: dict[str, Curves]
) -> Iterator[tuple[str, str, Figure]]:
    """The name, the caption and the figure of each picture."""
    if any(candidate.score for candidate in candidates):
        yield from setting_figures(sweep, candidates)
    yield from curve_figures(sweep, candidates, curves)


def setting_figures(
    sweep: Sweep, candidates: Sequence[Candidate]
) -> Iterator[tuple[str, str, Figure]]:
    """The metric against each setting, and over all of them."""
    settings, metric, sign = sweep.settings, sweep.metric, sweep.sign
    colours = choose_colours(settings)
    by_interest = sorted(settings, key=lambda each: (not each.is_number, -len(each.levels)))
    rest = "; the line is the best config at each value, with its 95 % interval"
    for setting in by_interest[:MOST_FIGURES]:
        caption = f"{metric} by {setting.key}: each dot a run" + rest
        figure = draw_setting(setting, candidates, colours, metric, sign)
        yield f"metric_by_{setting.key}.png", caption, figure
    if len(settings) == 2:
        up, across = sorted(settings, key=lambda each: (each.is_number, len(each.levels)))
        caption = f"{metric} by {across.key} and {up.key}: mean over seeds, hatched where none is"
        yield "heat_map.png", caption, draw_heat_map(across, up, candidates, metric, sign)
    elif len(settings) > 2:
        caption = f"{metric} by all settings: each line a config, the best in black"
        figure = draw_parallel(settings, candidates, metric, sign)
        yield "parallel_coordinates.png", caption, figure


def curve_figures(
    sweep: Sweep, candidates: Sequence[Candidate], curves: dict[str, Curves]
) -> Iterator[tuple[str, str, Figure]]:
    """All learning curves, and training against validation for the best run."""
    metric, sign = sweep.metric, sweep.sign
    if curves:
        caption = f"{metric} of every run by epoch, the best in black, crosses where runs diverged"
        colours = choose_colours(sweep.settings)
        figure = draw_learning_curves(candidates, curves, colours, metric, sign)
        yield CURVE_FIGURES[0], caption, figure
    best = best_run(candidates, metric, sign)
    if best and best.name in curves:
        caption = "training and validation of the best run, its other seeds faint"
        figure = draw_training_and_validation(candidates[0], best, curves, metric, sign)
        yield CURVE_FIGURES[1], caption, figure
