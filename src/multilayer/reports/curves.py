"""Figures of learning curves: all runs of a sweep, and the best one's training and validation."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from multilayer.plotting import plot_learning_curves
from multilayer.plotting.style import GREY, MARK, TRAIN, VALIDATION, new_figure, shortened, styled
from multilayer.reports.axes import (
    MAX_LETTERS,
    Colours,
    add_legend,
    label_of,
    metric_label,
    scale_metric,
)
from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.runs import Curves, SweepRun
from multilayer.reports.sweep import Sweep


@styled
def draw_learning_curves(sweep: Sweep, configs: Configs, colours: Colours) -> Figure:
    """The metric of every run by epoch; the best run in black, a cross where one diverged."""
    figure = new_figure()
    axes = figure.add_subplot()
    metric, curves = sweep.metric, sweep.curves
    each = [(c, run, curves[run.name]) for c in configs for run in c.runs if run.name in curves]
    paths = [np.column_stack([own["epoch"], own[metric]]) for _, _, own in each]
    shades = [colours.of(config) for config, _, _ in each]
    faint = max(0.08, min(0.6, 30 / len(each)))
    axes.add_collection(
        LineCollection(paths, colors=shades, linewidths=1, alpha=faint, rasterized=True)
    )
    single = [i for i, path in enumerate(paths) if len(path) == 1]  # which would be no line
    if single:
        x, y = np.concatenate([paths[i] for i in single]).T
        axes.scatter(x, y, c=[shades[i] for i in single], s=20, alpha=0.6)
    ends = [_last_finite_epoch(own, metric) for _, run, own in each if run.status == "diverged"]
    if ends:
        top, label = axes.get_xaxis_transform(), f"diverged ({len(ends)})"
        heights = [0.98] * len(ends)
        axes.plot(ends, heights, "x", transform=top, color=MARK, clip_on=False, label=label)
    best = best_run(sweep, configs)
    if best and best.name in curves:
        own, label = curves[best.name], f"best (run {shortened(best.name, MAX_LETTERS)})"
        marker = "o" if len(own["epoch"]) == 1 else ""  # which would be no line
        axes.plot(own["epoch"], own[metric], marker=marker, color=MARK, label=label)
    stable = [own[metric] for _, run, own in each if run.status != "diverged"]
    _limit(axes, stable, sweep.sign)
    _count_beyond(axes, stable)
    axes.set_xlim(left=0.5, right=max(float(own["epoch"][-1]) for _, _, own in each) + 0.5)
    axes.set(xlabel="epoch", ylabel=metric_label(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, names = axes.get_legend_handles_labels()
    shown = {"other runs": GREY}
    if colours.hyperparameter:
        label = label_of(colours.hyperparameter)
        shown = {f"{label} {name}": colour for name, colour in colours.legend.items()}
    handles += [Line2D([], [], color=colour) for colour in shown.values()]
    add_legend(axes, handles, [*names, *shown])
    return figure


def _last_finite_epoch(curves: Curves, metric: str) -> float:
    """The first epoch from which on no value is finite; the last one if that is finite."""
    finite = np.flatnonzero(np.isfinite(curves[metric]))
    place = finite[-1] + 1 if len(finite) else 0
    return float(curves["epoch"][min(place, len(curves["epoch"]) - 1)])


def best_run(sweep: Sweep, configs: Configs) -> SweepRun | None:
    """The best seed of the best config; None where no config is valid."""
    if not configs[0].is_valid:
        return None
    known = [run for run in configs[0].done if run.metric(sweep.metric) is not None]
    return min(known, key=lambda run: sweep.sign * (run.metric(sweep.metric) or 0.0))


def _limit(axes: Axes, values: Sequence[NDArray[np.float64]], sign: int) -> None:
    """From the best to twice as far from it as the median run began; what explodes is cut off."""
    joined = np.concatenate([*values, []])
    joined = joined[np.isfinite(joined)]
    if not len(joined):
        return
    best = joined.min() if sign > 0 else joined.max()
    start = np.median([own[0] for each in values if len(own := each[np.isfinite(each)])])
    scale_metric(axes, joined[np.abs(joined - best) <= 2 * abs(start - best)])


def _count_beyond(axes: Axes, values: Sequence[NDArray[np.float64]]) -> None:
    """Say how many of the curves end outside of the picture."""
    low, high = axes.get_ylim()
    ends = [own[-1] for each in values if len(own := each[np.isfinite(each)])]
    n = sum(not low <= end <= high for end in ends)
    if n:
        title = f"{n} of {len(ends)} curves end{'s' if n == 1 else ''} beyond the axis"
        axes.set_title(title, loc="left", fontsize=11)


@styled
def draw_training_and_validation(sweep: Sweep, best: ConfigResult, run: SweepRun) -> Figure:
    """Both curves of the best run with the turning point; its other seeds are faint.

    The loss is always there, and the metric if it is another one.
    """
    name, curves = sweep.metric.rpartition("/")[2], sweep.curves
    shown = ["loss"] if name == "loss" else ["loss", name]
    figure = new_figure(6.4, 4.0 if len(shown) == 1 else 6.4)
    all_axes = figure.subplots(len(shown), squeeze=False, sharex=True)[:, 0]
    seeds = [curves[each.name] for each in best.runs if each.name in curves]
    for axes, each in zip(all_axes, shown, strict=True):
        _draw_splits(axes, curves[run.name], seeds, each, sweep.sign if each == name else 1)
    all_axes[-1].set_xlabel("epoch")
    all_axes[0].set_title(f"best run: {shortened(run.name, MAX_LETTERS)}", loc="left", fontsize=11)
    return figure


def _draw_splits(axes: Axes, own: Curves, seeds: Sequence[Curves], name: str, sign: int) -> None:
    """A metric of a run in training and in validation, and faintly of its other seeds."""
    pair = {split: own[f"{split}/{name}"] for split in ("train", "validation")}
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        for each in seeds:
            axes.plot(each["epoch"], each[f"{split}/{name}"], color=colour, lw=1, alpha=0.25)
    validation = sign * pair["validation"]
    best = own["epoch"][np.nanargmin(validation)] if np.isfinite(validation).any() else 0
    plot_learning_curves(axes, {"epoch": own["epoch"], **pair}, int(best), sign=sign)
    both = [each[f"{split}/{name}"] for each in seeds for split in pair]
    _limit(axes, both, sign)
    axes.set_xlim(left=0.5)
    axes.set_ylabel(metric_label(name))
