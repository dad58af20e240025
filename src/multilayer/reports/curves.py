"""Figures of learning curves: the configs of a sweep, and the best run's two splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from multilayer.core.text import counted
from multilayer.plotting import plot_learning_curves
from multilayer.plotting.style import (
    GREY,
    MARK,
    TRAIN,
    VALIDATION,
    new_figure,
    shortened,
    styled,
)
from multilayer.reports.axes import (
    MAX_LETTERS,
    Colours,
    add_legend,
    label_of,
    metric_label,
    name_of_best,
    scale_metric,
)
from multilayer.reports.configs import ConfigResult, Configs, tied_best
from multilayer.reports.hyperparameters import Hyperparameter
from multilayer.reports.runs import Curves, SweepRun
from multilayer.reports.sweep import Sweep

_MOST_LINES = 30
"""Configs of which each has a line."""

_MOST_BANDS = 12
"""Lines that have a band for the spread of their runs: more would hide each other."""

_MOST_BEST = 3
"""Configs that tie for the best and are outlined; more would hide the others."""

_CUT = 2
"""What is this many times as far from the best as the other lines need is left out."""


_WIDE = 4
"""The factor from which curves are on a log axis: most of their points are near the lower end."""


@dataclass(frozen=True)
class _Line:
    """Some runs as one line: the quartiles of the metric at each epoch.

    Attributes:
        colour: of the line.
        runs: how many it stands for.
        epoch, low, middle, high: `(n_epochs,)`.
    """

    colour: str
    runs: int
    epoch: NDArray[np.float64]
    low: NDArray[np.float64]
    middle: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, curves: Sequence[Curves], metric: str, colour: str) -> "_Line":
        """The line of some runs; it ends where fewer than half of them go on.

        A run that has ended counts with its last value: without it the line would jump.
        """
        epochs = np.unique(np.concatenate([own["epoch"] for own in curves]))
        table = np.full((len(curves), len(epochs)), np.nan)
        for row, own in zip(table, curves, strict=True):
            row[np.searchsorted(epochs, own["epoch"])] = own[metric]
            row[epochs > own["epoch"][-1]] = own[metric][-1]
        table[~np.isfinite(table)] = np.nan
        n_there = np.sum([epochs <= own["epoch"][-1] for own in curves], axis=0)
        kept = (2 * n_there >= len(curves)) & np.isfinite(table).any(axis=0)
        low, middle, high = np.empty((3, 0))
        if kept.any():
            low, middle, high = np.nanquantile(table[:, kept], [0.25, 0.5, 0.75], axis=0)
        return cls(colour, len(curves), epochs[kept].astype(float), low, middle, high)

    def draw(self, axes: Axes, *, has_band: bool, is_best: bool = False) -> None:
        """Draw the median, outlined if it is the best, and the middle half of the runs."""
        marker = "o" if len(self.epoch) == 1 else ""  # which would be no line
        if is_best:
            wide: Any = {"lw": 4.5, "color": MARK, "zorder": 4}
            axes.plot(self.epoch, self.middle, marker=marker, ms=9, **wide)
        look: Any = {"lw": 1.8, "color": self.colour, "zorder": 5 if is_best else 3}
        axes.plot(self.epoch, self.middle, marker=marker, **look)
        if has_band and self.runs > 1:
            axes.fill_between(self.epoch, self.low, self.high, color=self.colour, alpha=0.15, lw=0)


@styled
def draw_learning_curves(sweep: Sweep, configs: Configs, colours: Colours) -> Figure:
    """The metric by epoch, a line for each config: the median of its runs, the best outlined.

    Of more than `_MOST_LINES` configs there is a line for each value of a hyperparameter, or of
    ranges of them. A cross is where a run diverged.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    metric, curves = sweep.metric, sweep.curves
    known = [config for config in configs if any(run.name in curves for run in config.runs)]
    if len(known) > _MOST_LINES:
        colours = Colours.choose(_most_telling(sweep.hyperparameters, known))
    groups = _groups(known, colours)
    lines = [_line_of(group, sweep, colour) for colour, group in groups]
    has_bands = len(lines) <= _MOST_BANDS
    for line in lines:
        line.draw(axes, has_band=has_bands)
    stable = [
        line.middle for line, (_, group) in zip(lines, groups, strict=True) if _is_stable(group)
    ]
    tied = tied_best(configs)
    bests = [_line_of([config], sweep, colours.of(config)) for config in tied if config in known]
    are_lines = len(bests) <= _MOST_BEST
    for best in bests:
        if are_lines:
            best.draw(axes, has_band=has_bands, is_best=True)
        else:
            axes.plot(best.epoch[-1:], best.middle[-1:], "o", color=MARK, zorder=4)
    runs = [run for config in known for run in config.runs if run.name in curves]
    ends = [_last_finite_epoch(curves[run.name], metric) for run in runs if _diverged(run)]
    if ends:
        above: Any = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(ends, [0.98] * len(ends), "x", color=MARK, **above)
    _limit(axes, [*stable, *(best.middle for best in bests)], sweep.sign)
    look = "outlined" if are_lines else "black dots"
    marked = f"{look}: the {name_of_best(len(tied))}" if bests else ""
    gone = f"x: {len(ends)} diverged" if ends else ""
    marks = "; ".join(filter(None, [marked, gone, _count_beyond(axes, stable)]))
    axes.set_title(f"{_name_lines(lines, has_bands)}{marks}", loc="left", fontsize=11)
    axes.set_xlim(left=0.5, right=max(float(curves[run.name]["epoch"][-1]) for run in runs) + 0.5)
    axes.set(xlabel="epoch", ylabel=metric_label(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _explain(axes, colours)
    return figure


def _name_lines(lines: Sequence[_Line], has_bands: bool) -> str:
    """What lines are that stand for several runs, as a line of the title."""
    if all(line.runs == 1 for line in lines):
        return ""
    return "medians of runs" + ", with their middle half as bands" * has_bands + "\n"


def _most_telling(hyperparameters: Sequence[Hyperparameter], configs: Configs) -> list[Any]:
    """The hyperparameter that explains most of the configs' ranks; they come best first."""

    def between(swept: Hyperparameter) -> float:
        found = 0.0
        for values in swept.bins().values():
            ranks = [i for i, config in enumerate(configs) if config.values[swept.key] in values]
            mean = sum(ranks) / max(1, len(ranks))
            found += len(ranks) * (mean - (len(configs) - 1) / 2) ** 2
        return found

    able = [each for each in hyperparameters if Colours.choose([each]).hyperparameter]
    return [max(able, key=between)] if able else []


def _groups(configs: Configs, colours: Colours) -> list[tuple[str, Configs]]:
    """Configs that are one line, and its colour."""
    if len(configs) <= _MOST_LINES:
        return [(colours.of(config), [config]) for config in configs]
    swept = colours.hyperparameter
    if swept is None:
        return [(GREY, configs)]
    found: list[tuple[str, Configs]] = []
    for values in swept.bins().values():
        here = [config for config in configs if config.values[swept.key] in values]
        found += [(colours.of_value[values[len(values) // 2]], here)] if here else []
    return found


def _line_of(group: Configs, sweep: Sweep, colour: str) -> _Line:
    """The line of some configs: of their runs that did not diverge, if there are any."""
    known = [run for config in group for run in config.runs if run.name in sweep.curves]
    stable = [run for run in known if not _diverged(run)]
    return _Line.of([sweep.curves[run.name] for run in stable or known], sweep.metric, colour)


def _is_stable(group: Configs) -> bool:
    """Whether any of the runs of configs did not diverge."""
    return any(not _diverged(run) for config in group for run in config.runs)


def _diverged(run: SweepRun) -> bool:
    """Whether a run diverged."""
    return run.status == "diverged"


def _explain(axes: Axes, colours: Colours) -> None:
    """Say what the colours are: a bar for a number, a legend for a choice."""
    swept = colours.hyperparameter
    if swept is not None and swept.is_number:
        colours.add_bar(axes)
    elif swept is not None:
        handles = [Line2D([], [], color=colour) for colour in colours.legend.values()]
        add_legend(axes, handles, [f"{label_of(swept)} {name}" for name in colours.legend])


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
    """From the best to twice as far from it as the median line began, and on to the other lines.

    Of where lines begin, of their best values and of where they end, three in four are shown, and
    the rest unless that is far beyond, as where lines explode.
    """
    costs = [sign * own[np.isfinite(own)] for own in values if np.isfinite(own).any()]
    if not costs:
        return
    joined = np.concatenate(costs)
    best = joined.min()
    points = np.array([(own[0], own.min(), own[-1]) for own in costs]) - best  # (L, 3)
    far = max(2 * np.median(points[:, 0]), np.sort(points, axis=None)[3 * points.size // 4])
    far = points[points <= _CUT * far].max(initial=far) or points.max()
    scale_metric(axes, sign * joined[joined - best <= far], _WIDE)


def _count_beyond(axes: Axes, values: Sequence[NDArray[np.float64]]) -> str:
    """How many of the lines end outside of the picture, in words; empty if none does."""
    low, high = axes.get_ylim()
    ends = [own[-1] for each in values if len(own := each[np.isfinite(each)])]
    n = sum(not low <= end <= high for end in ends)
    return f"{n} of {counted(len(ends), 'line')} end{'s' * (n == 1)} beyond the axis" if n else ""


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
