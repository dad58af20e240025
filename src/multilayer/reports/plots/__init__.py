"""The figures of a report: which there are, and drawing them into the sweep's folder."""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from matplotlib.figure import Figure

from multilayer.plotting.style import save_figure
from multilayer.reports.configs import Candidate
from multilayer.reports.curves import Curves
from multilayer.reports.plots.by_setting import draw_setting
from multilayer.reports.plots.colours import choose_colours
from multilayer.reports.plots.curves import (
    best_run,
    draw_learning_curves,
    draw_training_and_validation,
)
from multilayer.reports.plots.heat_map import draw_heat_map
from multilayer.reports.plots.parallel_coordinates import draw_parallel
from multilayer.reports.sweep import Sweep

MOST_FIGURES = 6
"""Of single settings, those with the most values first."""

KNOWN_WARNINGS = ("constrained_layout not applied", "Glyph .* missing from font")
"""Of names that are very long or of another script: the figure is drawn all the same, and who
reads the terminal can do nothing about them."""

CURVE_FIGURES = ("learning_curves.png", "training_and_validation.png")


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its file below the sweep folder, and what it shows."""

    path: Path
    caption: str


def draw_all(
    sweep: Sweep, candidates: Sequence[Candidate], curves: dict[str, Curves]
) -> list[Picture]:
    """Draw what there is to draw; figures of an earlier report that are no more are removed."""
    folder = sweep.folder / "figures"
    pictures = []
    with warnings.catch_warnings():
        for message in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for name, caption, figure in figures(sweep, candidates, curves):
            arrange(figure)
            save_figure(figure, folder / name)
            pictures.append(Picture(folder / name, caption))
    drawn = {picture.path for picture in pictures}
    for pattern in ("metric_by_*.png", "heat_map.png", "parallel_coordinates.png", *CURVE_FIGURES):
        for path in set(folder.glob(pattern)) - drawn:
            path.unlink()
    return pictures


def arrange(figure: Figure) -> None:
    """Let the parts of a figure make room for each other, once: saving would do it twice."""
    engine = figure.get_layout_engine()
    if engine:
        engine.execute(figure)
    figure.set_layout_engine(None)


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
        yield f"metric_by_{file_name(setting.key)}.png", caption, figure
    if len(settings) == 2:
        up, across = sorted(settings, key=lambda each: (each.is_number, len(each.levels)))
        caption = f"{metric} by {across.key} and {up.key}: mean over {sweep.repeat}s"
        yield "heat_map.png", caption, draw_heat_map(across, up, candidates, metric, sign)
    elif len(settings) > 2:
        caption = f"{metric} by all settings: each line a config, the best in black"
        figure = draw_parallel(settings, candidates, metric, sign)
        yield "parallel_coordinates.png", caption, figure


def file_name(key: str) -> str:
    """A key as a part of a file's name; where it has other letters, it is told apart by them.

    >>> file_name("optimizer.lr"), file_name("../a")
    ('optimizer.lr', '.._a-7bd30558')
    """
    plain = re.sub("[^A-Za-z0-9_.]", "_", key)[:100]
    return plain if plain == key else f"{plain}-{crc32(key.encode()):08x}"


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
