"""Draws docs/images/fits.png: the learning curves of underfitting, ideal fit and overfitting.

python scripts/pictures/fits.py docs/images/fits.png
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from matplotlib.axes import Axes

from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.plotting import plot_learning_curves
from multilayer.plotting.style import OVER_LINES, new_figure, save_figure, styled
from multilayer.training.runtime import quiet_lightning

TITLES = {"underfit": "underfitting", "ideal_fit": "ideal fit", "overfit": "overfitting"}


@styled
def main(path: str) -> None:
    """Train the three experiments and draw them on one loss axis."""
    quiet_lightning()
    figure = new_figure(10.0, 3.2)
    panels = figure.subplots(1, len(TITLES), sharey=True)
    for axes, experiment in zip(panels, TITLES, strict=True):
        draw_experiment(axes, experiment)
        axes.set_title(TITLES[experiment])
        axes.label_outer()
    for axes in panels[1:]:  # the first names the curves for all
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[-1:], names[-1:], loc="upper right", **OVER_LINES)
    panels[0].set_ylim(0, 2.7)  # guessing one of ten classes costs ln 10 = 2.3
    save_figure(figure, Path(path))


def draw_experiment(axes: Axes, experiment: str) -> None:
    """Train an experiment and plot its losses."""
    config = check_command_line("train", [f"experiment={experiment}", "logger=csv"])
    assert config is not None
    with TemporaryDirectory() as folder:
        result = train(config, folder, quiet=True)
        frame = pl.read_csv(Path(folder) / "csv" / "metrics.csv", infer_schema_length=None)
    losses = {split: frame[f"{split}/loss"].drop_nulls() for split in ("train", "validation")}
    curves = {split: values.to_list() for split, values in losses.items()}
    curves["epoch"] = list(range(1, len(curves["train"]) + 1))
    plot_learning_curves(axes, curves, result.manifest["best_epoch"])
    axes.set(xlabel="epoch", ylabel="loss")


if __name__ == "__main__":
    main(sys.argv[1])
