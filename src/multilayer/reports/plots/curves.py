"""Figures of learning curves: all runs of a sweep, and the best one's training and validation."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from multilayer.plotting.style import (
    GREY,
    MARK,
    OVER_LINES,
    TRAIN,
    VALIDATION,
    mark_turning_point,
    new_figure,
    shortened,
    styled,
)
from multilayer.reports.configs import Candidate
from multilayer.reports.curves import Curves
from multilayer.reports.plots.axes import MOST_LETTERS, label_of, metric_label, scale_metric
from multilayer.reports.plots.colours import Colours
from multilayer.reports.runs import SweepRun


@styled
def draw_learning_curves(
    candidates: Sequence[Candidate],
    curves: Mapping[str, Curves],
    colours: Colours,
    metric: str,
    sign: int,
) -> Figure:
    """The metric of every run by epoch; the best run in black, a cross where one diverged."""
    figure = new_figure()
    axes = figure.add_subplot()
    each = [(c, run, curves[run.name]) for c in candidates for run in c.runs if run.name in curves]
    paths = [np.column_stack([curve.epochs, curve.of(metric)]) for _, _, curve in each]
    faint = max(0.08, min(0.6, 30 / len(each)))
    axes.add_collection(
        LineCollection(
            paths,
            colors=[colours.of(candidate.choice) for candidate, _, _ in each],
            linewidths=1,
            alpha=faint,
            rasterized=True,
        )
    )
    mark_single_epochs(axes, paths, [colours.of(candidate.choice) for candidate, _, _ in each])
    ends = [end_of(curve, metric) for _, run, curve in each if run.status == "diverged"]
    mark_diverged(axes, ends)
    mark_best_run(axes, candidates, curves, metric, sign)
    sound = [(run, curve) for _, run, curve in each if run.status != "diverged"]
    limit(axes, [curve.of(metric) for _, curve in sound], sign)
    count_beyond(axes, [curve.of(metric) for _, curve in sound])
    axes.set_xlim(left=0.5, right=max(float(c.epochs[-1]) for _, _, c in each) + 0.5)
    axes.set(xlabel="epoch", ylabel=metric_label(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_curve_legend(axes, colours)
    return figure


def mark_single_epochs(
    axes: Axes, paths: Sequence[NDArray[np.float64]], colours: Sequence[str]
) -> None:
    """A dot for each curve of one epoch, which would be no line."""
    single = [i for i, path in enumerate(paths) if len(path) == 1]
    if single:
        x, y = np.concatenate([paths[i] for i in single]).T
        axes.scatter(x, y, c=[colours[i] for i in single], s=20, alpha=0.6)


def marker_of(curve: Curves) -> str:
    """A dot for one epoch, which would be no line."""
    return "o" if len(curve.epochs) == 1 else ""


def end_of(curve: Curves, metric: str) -> float:
    """The first epoch from which no value is finite; the last one where the values are."""
    finite = np.flatnonzero(np.isfinite(curve.of(metric)))
    place = finite[-1] + 1 if len(finite) else 0
    return float(curve.epochs[min(place, len(curve.epochs) - 1)])


def mark_diverged(axes: Axes, epochs: Sequence[float]) -> None:
    """Crosses at the top, at the epochs in which runs diverged."""
    if epochs:
        axes.plot(
            epochs,
            [0.98] * len(epochs),
            "x",
            transform=axes.get_xaxis_transform(),
            color=MARK,
            clip_on=False,
            label=f"diverged ({len(epochs)})",
        )


def mark_best_run(
    axes: Axes,
    candidates: Sequence[Candidate],
    curves: Mapping[str, Curves],
    metric: str,
    sign: int,
) -> None:
    """The curve of the best run of the best config."""
    run = best_run(candidates, metric, sign)
    if run and run.name in curves:
        curve = curves[run.name]
        name = f"best (run {shortened(run.name, MOST_LETTERS)})"
        axes.plot(curve.epochs, curve.of(metric), marker=marker_of(curve), color=MARK, label=name)


def best_run(candidates: Sequence[Candidate], metric: str, sign: int) -> SweepRun | None:
    """The best seed of the best config; None where no config is sound."""
    if not candidates[0].is_sound:
        return None
    known = [run for run in candidates[0].done if run.metric(metric) is not None]
    return min(known, key=lambda run: sign * (run.metric(metric) or 0.0))


def limit(axes: Axes, values: Sequence[NDArray[np.float64]], sign: int) -> None:
    """From the best to twice as far from it as the median run began; what explodes is cut off."""
    joined = np.concatenate([*values, []])
    joined = joined[np.isfinite(joined)]
    if not len(joined):
        return
    best = joined.min() if sign > 0 else joined.max()
    start = np.median([own[0] for each in values if len(own := each[np.isfinite(each)])])
    worst = best + 2 * (start - best)
    scale_metric(axes, joined[np.abs(joined - best) <= abs(worst - best)])


def count_beyond(axes: Axes, values: Sequence[NDArray[np.float64]]) -> None:
    """Say how many of the curves end outside of the picture."""
    low, high = axes.get_ylim()
    ends = [own[-1] for each in values if len(own := each[np.isfinite(each)])]
    n = sum(not low <= end <= high for end in ends)
    if n:
        title = f"{n} of {len(ends)} curves end{'s' if n == 1 else ''} beyond the axis"
        axes.set_title(title, loc="left", fontsize=11)


def add_curve_legend(axes: Axes, colours: Colours) -> None:
    """What is marked, and the colours; beside the axes, where it covers nothing."""
    handles, names = axes.get_legend_handles_labels()
    if colours.setting:
        for name, colour in colours.legend.items():
            handles.append(Line2D([], [], color=colour))
            names.append(f"{label_of(colours.setting)} {name}")
    else:
        handles.append(Line2D([], [], color=GREY))
        names.append("other runs")
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=11)


@styled
def draw_training_and_validation(
    best: Candidate, run: SweepRun, curves: Mapping[str, Curves], metric: str, sign: int
) -> Figure:
    """Both curves of the best run with the turning point; its other seeds are faint.

    The loss is always there, and the metric where it is another one.
    """
    name = metric.rpartition("/")[2]
    shown = ["loss"] if name == "loss" else ["loss", name]
    figure = new_figure(6.4, 4.0 if len(shown) == 1 else 6.4)
    all_axes = figure.subplots(len(shown), squeeze=False, sharex=True)[:, 0]
    for axes, each in zip(all_axes, shown, strict=True):
        draw_splits(axes, best, run, curves, each, sign if each == name else 1)
    all_axes[-1].set_xlabel("epoch")
    all_axes[0].set_title(f"best run: {shortened(run.name, MOST_LETTERS)}", loc="left", fontsize=11)
    return figure


def draw_splits(
    axes: Axes, best: Candidate, run: SweepRun, curves: Mapping[str, Curves], name: str, sign: int
) -> None:
    """A metric in training and in validation."""
    seeds = [curves[each.name] for each in best.runs if each.name in curves]
    own = curves[run.name]
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        key = f"{split}/{name}"
        for curve in seeds:
            axes.plot(curve.epochs, curve.of(key), color=colour, lw=1, alpha=0.25)
        axes.plot(own.epochs, own.of(key), marker=marker_of(own), color=colour, label=split)
    mark_best_epoch(axes, own, f"validation/{name}", sign)
    both = [curve.of(f"{split}/{name}") for curve in seeds for split in ("train", "validation")]
    limit(axes, both, sign)
    axes.set_xlim(left=0.5)
    axes.set_ylabel(metric_label(name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=11, **OVER_LINES)


def mark_best_epoch(axes: Axes, curve: Curves, metric: str, sign: int) -> None:
    """The best epoch of a curve, if any of its values is finite."""
    values = curve.of(metric)
    if not np.isfinite(values).any():
        return
    place = int(np.nanargmin(sign * values))
    last = values[np.isfinite(values)][-1]
    mark_turning_point(axes, curve.epochs[place], values[place], last, sign)
