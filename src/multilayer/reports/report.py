"""`multilayer report`: what a sweep folder says, as tables, figures, and findings in words."""

import os
import re
import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import polars as pl
from matplotlib.figure import Figure

from multilayer.core.errors import UserError
from multilayer.core.files import whole_file, write_error, write_text
from multilayer.plotting.style import save_figure
from multilayer.reports.axes import Colours
from multilayer.reports.by_data import Part, parts_of
from multilayer.reports.by_hyperparameter import draw_hyperparameter, has_intervals
from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.curves import best_run, draw_learning_curves, draw_training_and_validation
from multilayer.reports.heat_map import draw_heat_map
from multilayer.reports.hyperparameters import SEED_KEYS, as_column, format_value
from multilayer.reports.markdown import print_summary, to_markdown
from multilayer.reports.parallel_coordinates import draw_parallel
from multilayer.reports.runs import varied
from multilayer.reports.sweep import Sweep, find_sweep, open_sweep
from multilayer.runs.console import console

_MAX_FIGURES = 6
"""Figures of single hyperparameters, those with the most values first."""

_KNOWN_WARNINGS = ("constrained_layout not applied", "Glyph .* missing from font")
"""About names that are very long or of another script: the figure is drawn all the same, and who
reads the terminal can do nothing about them."""

_PART = re.compile(r"data\S*(=\S*|-[0-9a-f]{8})")
"""How the folders of parts are called; see `_file_name`."""

_FIGURES = (
    "metric_by_*.png",
    "heat_map.png",
    "parallel_coordinates.png",
    "learning_curves.png",
    "training_and_validation.png",
)
"""Files of an earlier report, which are removed unless they are drawn again."""


def report(config: dict[str, Any]) -> Path:
    """Write `report.md`, the tables and `figures/` into a sweep folder, and print a summary.

    Args:
        config: The `sweep` folder, and the `metric` to compare by; None for the monitored one.

    Returns:
        The path of `report.md`.

    Raises:
        UserError: It is no sweep folder, no run has the metric, or the report cannot be written.
    """
    folder = find_sweep(config["sweep"])
    sweep = open_sweep(folder, config["metric"])
    parts = parts_of(sweep)
    for each in {folder / "figures", *(_figures_folder(part) for part in parts)}:
        if each.is_symlink():  # files that are links are replaced themselves
            raise UserError(
                f"{each} is a link: the report is written inside the sweep's folder alone; "
                f"remove it: {shlex.join(['rm', str(each)])}"
            )
    path = folder / "report.md"
    try:
        _write_tables(sweep, parts)
        pictures = draw_all(parts)
        write_text(path, to_markdown(sweep, parts, pictures))
    except UserError as error:
        raise UserError(f"sweep={folder}: the report cannot be written: {error}") from error
    print_summary(sweep, parts)
    console().print(f"\nreport   {os.path.relpath(path)}")
    return path


def _write_tables(sweep: Sweep, parts: Sequence[Part]) -> None:
    """Write `runs.csv`, `runs.parquet` and `configs.csv`; each appears whole or not at all.

    Raises:
        UserError: One cannot be written.
    """
    runs = _runs_table(sweep)
    pooled = pl.DataFrame(
        [
            ({"of": part.name} if part.name else {}) | _config_row(rank, each, part.sweep)
            for part in parts
            for rank, each in enumerate(part.configs, start=1)
        ],
        infer_schema_length=None,
    )
    for name, table in (("runs.csv", runs), ("runs.parquet", runs), ("configs.csv", pooled)):
        with whole_file(sweep.folder / name) as file:
            table.write_csv(file) if name.endswith(".csv") else table.write_parquet(file)


def _runs_table(sweep: Sweep) -> pl.DataFrame:
    """A row for each run: what varied, status, time, every final metric; null for what it lacks."""
    runs = sweep.runs
    swept = [each.key for each in sweep.hyperparameters]
    seeds = [key for key in varied(runs) if key in SEED_KEYS]
    columns: dict[str, list[Any]] = {"run": [run.name for run in runs]}
    columns |= {key: [run.value(key) for run in runs] for key in [*swept, *sweep.derived, *seeds]}
    for name in ("status", "stop_reason", "best_epoch", "steps"):
        columns[name] = [run.manifest.get(name) for run in runs]
    columns["fit_seconds"] = [run.seconds for run in runs]
    columns["stack_seconds"] = [run.stack_seconds for run in runs]
    columns = {name: as_column(values) for name, values in columns.items()}
    columns |= {name: [run.metric(name) for run in runs] for name in sweep.metric_names}
    return pl.DataFrame(columns, infer_schema_length=None)


def _config_row(rank: int, config: ConfigResult, sweep: Sweep) -> dict[str, Any]:
    """The row of a config: of each metric the mean, the deviation and the interval over seeds."""
    row: dict[str, Any] = {"rank": rank}
    row |= {key: format_value(value) for key, value in config.values.items()}
    row |= config.derived
    row |= {"runs": len(config.runs), "n": len(config.scores), "status": config.status_text}
    row["fit_seconds"] = config.seconds
    for name in sweep.metric_names:
        for part in ("mean", "std", "low", "high"):
            row[f"{name} {part}"] = getattr(config.stats.get(name), part, None)
    return row


def draw_all(parts: Sequence[Part]) -> list[dict[str, str]]:
    """Draw what there is to draw, and remove what is left of an earlier report.

    Returns:
        For each part the caption of each figure, by the path of its file in the sweep's folder.

    Raises:
        UserError: A figure cannot be written.
    """
    sweep = parts[0].sweep.folder
    found = []
    try:  # those of a part are in a folder within it
        (sweep / "figures").mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(error, sweep / "figures") from error
    with warnings.catch_warnings():
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for part in parts:
            captions = {}
            for name, caption, figure in _figures(part.sweep, part.configs):
                engine = figure.get_layout_engine()
                if engine:  # let the parts make room for each other, once: saving does it twice
                    engine.execute(figure)
                figure.set_layout_engine(None)
                path = _figures_folder(part) / name
                save_figure(figure, path)
                captions[path.relative_to(sweep).as_posix()] = caption
            found.append(captions)
    drawn = {sweep / name for captions in found for name in captions}
    folders = [sweep / "figures", *_folders_in(sweep / "figures")]
    for path in {path for each in folders for name in _FIGURES for path in each.glob(name)} - drawn:
        path.unlink()
    for each in folders[::-1]:
        with suppress(OSError):  # it is not empty
            each.rmdir()
    return found


def _figures_folder(part: Part) -> Path:
    """The folder of the figures of a part."""
    folder = part.sweep.folder / "figures"
    return folder / _file_name(part.name) if part.name else folder


def _folders_in(folder: Path) -> list[Path]:
    """The folders of parts in `figures/`, without links: all other folders are the user's."""
    own = [path for path in folder.glob("data*") if _PART.fullmatch(path.name)]
    return [path for path in own if path.is_dir() and not path.is_symlink()]


def _figures(sweep: Sweep, configs: Configs) -> Iterator[tuple[str, str, Figure]]:
    """The file name, the caption and the figure of each picture; configs come best first."""
    colours, metric = Colours.choose(sweep.hyperparameters), sweep.metric
    swept = sweep.hyperparameters if any(config.score for config in configs) else []
    by_interest = sorted(swept, key=lambda each: (not each.is_number, -len(each.values)))
    for each in by_interest[:_MAX_FIGURES]:
        what = "each dot is a run; the best config at each value is marked"
        what += ", with the 95 % interval of its mean" * has_intervals(configs)
        figure = draw_hyperparameter(sweep, each, configs, colours)
        yield f"metric_by_{_file_name(each.key)}.png", f"{metric} by {each.key}: {what}", figure
    if len(swept) == 2:
        up, across = sorted(swept, key=lambda each: (each.is_number, len(each.values)))
        caption = f"{metric} by {across.key} and {up.key}: mean over {sweep.seed_word}s"
        yield "heat_map.png", caption, draw_heat_map(sweep, across, up, configs)
    elif len(swept) > 2:
        caption = f"{metric} by all hyperparameters: each line a config, the best in black"
        yield "parallel_coordinates.png", caption, draw_parallel(sweep, configs)
    if sweep.curves:
        caption = (
            "by epoch: the median of the runs of each config, or, of many configs, of those that "
            "share a value; the best config outlined, crosses where runs diverged"
        )
        figure = draw_learning_curves(sweep, configs, colours)
        yield "learning_curves.png", f"{metric} {caption}", figure
    best = best_run(sweep, configs)
    if best and best.name in sweep.curves:
        caption = "training and validation of the best run, its other seeds faint"
        figure = draw_training_and_validation(sweep, configs[0], best)
        yield "training_and_validation.png", caption, figure


def _file_name(key: str) -> str:
    """A key as part of a file's name; a checksum replaces what its other characters would tell.

    >>> _file_name("optimizer.lr"), _file_name("../a")
    ('optimizer.lr', '.._a-7bd30558')
    """
    plain = re.sub("[^A-Za-z0-9_.=]", "_", key)[:100]
    return plain if plain == key else f"{plain}-{crc32(key.encode()):08x}"
