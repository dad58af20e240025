"""The figures of a report: which there are, and drawing them into the sweep's folder."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from matplotlib.figure import Figure

from multilayer.plotting.style import save_figure
from multilayer.reports.configs import Configs
from multilayer.reports.plots.by_hyperparameter import draw_hyperparameter
from multilayer.reports.plots.colours import Colours, choose_colours
from multilayer.reports.plots.curves import (
    best_run,
    draw_learning_curves,
    draw_training_and_validation,
)
from multilayer.reports.plots.heat_map import draw_heat_map
from multilayer.reports.plots.parallel_coordinates import draw_parallel
from multilayer.reports.sweep import Sweep

_MAX_FIGURES = 6
"""Figures of single hyperparameters, those with the most values first."""

_KNOWN_WARNINGS = ("constrained_layout not applied", "Glyph .* missing from font")
"""About names that are very long or of another script: the figure is drawn all the same, and who
reads the terminal can do nothing about them."""

_NAMES = (
    "metric_by_*.png",
    "heat_map.png",
    "parallel_coordinates.png",
    "learning_curves.png",
    "training_and_validation.png",
)
"""Files of an earlier report, which are removed unless they are drawn again."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its file below the sweep folder, and what it shows."""

    path: Path
    caption: str


def draw_all(sweep: Sweep, configs: Configs) -> list[Picture]:
    """Draw what there is to draw, and remove what is left of an earlier report.

    Raises:
        UserError: A figure cannot be written.
    """
    folder = sweep.folder / "figures"
    pictures = []
    with warnings.catch_warnings():
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for name, caption, figure in figures(sweep, configs):
            _arrange(figure)
            save_figure(figure, folder / name)
            pictures.append(Picture(folder / name, caption))
    drawn = {picture.path for picture in pictures}
    for pattern in _NAMES:
        for path in set(folder.glob(pattern)) - drawn:
            path.unlink()
    return pictures


def _arrange(figure: Figure) -> None:
    """Let the parts of a figure make room for each other, once: saving would do it twice."""
    engine = figure.get_layout_engine()
    if engine:
        engine.execute(figure)
    figure.set_layout_engine(None)


def figures(sweep: Sweep, configs: Configs) -> Iterator[tuple[str, str, Figure]]:
    """The file name, the caption and the figure of each picture; configs come best first."""
    colours = choose_colours(sweep.hyperparameters)
    if any(config.score for config in configs):
        yield from _hyperparameter_figures(sweep, configs, colours)
    if sweep.curves:
        caption = "of every run by epoch, the best in black, crosses where runs diverged"
        figure = draw_learning_curves(sweep, configs, colours)
        yield "learning_curves.png", f"{sweep.metric} {caption}", figure
    best = best_run(sweep, configs)
    if best and best.name in sweep.curves:
        caption = "training and validation of the best run, its other seeds faint"
        figure = draw_training_and_validation(sweep, configs[0], best)
        yield "training_and_validation.png", caption, figure


def _hyperparameter_figures(
    sweep: Sweep, configs: Configs, colours: Colours
) -> Iterator[tuple[str, str, Figure]]:
    """The metric against each hyperparameter, and over all of them."""
    swept, metric = sweep.hyperparameters, sweep.metric
    by_interest = sorted(swept, key=lambda each: (not each.is_number, -len(each.values)))
    for each in by_interest[:_MAX_FIGURES]:
        what = "each dot a run; the line is the best config at each value, with its 95 % interval"
        figure = draw_hyperparameter(sweep, each, configs, colours)
        yield f"metric_by_{_file_name(each.key)}.png", f"{metric} by {each.key}: {what}", figure
    if len(swept) == 2:
        up, across = sorted(swept, key=lambda each: (each.is_number, len(each.values)))
        caption = f"{metric} by {across.key} and {up.key}: mean over {sweep.seed_word}s"
        yield "heat_map.png", caption, draw_heat_map(sweep, across, up, configs)
    elif len(swept) > 2:
        caption = f"{metric} by all settings: each line a config, the best in black"
        yield "parallel_coordinates.png", caption, draw_parallel(sweep, configs)


def _file_name(key: str) -> str:
    """A key as part of a file's name; a checksum replaces what its other characters would tell.

    >>> _file_name("optimizer.lr"), _file_name("../a")
    ('optimizer.lr', '.._a-7bd30558')
    """
    plain = re.sub("[^A-Za-z0-9_.]", "_", key)[:100]
    return plain if plain == key else f"{plain}-{crc32(key.encode()):08x}"
