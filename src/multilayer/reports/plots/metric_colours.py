"""The metric as a colour: yellow to blue, the best the brightest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from multilayer.plotting.style import COLOUR_MAP
from multilayer.reports.configs import Candidate
from multilayer.reports.plots.axes import WIDE_RANGE, metric_label


def colour_scale(values: Sequence[float], sign: int) -> tuple[Normalize, Any, str]:
    """From metric to colour, the best the brightest; the map, and where the scale was cut.

    It ends three times as far from the best as the median: one hopeless config would otherwise
    leave one colour for all the others.
    """
    worse = sign * np.sort(sign * np.array(values, dtype=float))  # best first
    best, median, worst = worse[0], worse[len(worse) // 2], worse[-1]
    end = best + 3 * (median - best)
    is_cut = sign * worst > sign * end and end != best
    low, high = sorted((best, end if is_cut else worst))
    name = COLOUR_MAP + ("_r" if sign > 0 else "")
    extend = ("max" if sign > 0 else "min") if is_cut else "neither"
    if low > 0 and high / low > WIDE_RANGE:
        return LogNorm(low, high), name, extend
    return Normalize(low, high if high > low else low + 1e-9), name, extend


def coloured(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The configs that have a colour, the best last, on top.

    Those of which a run diverged have none, however good their other seeds look; but they have
    where there are no others.
    """
    sound = [it for it in candidates if it.is_sound]
    return (sound or [it for it in candidates if it.score])[::-1]


def add_colour_bar(
    figure: Figure, axes: Axes, scale: tuple[Normalize, Any, str], metric: str
) -> None:
    """The scale of the metric, with its name."""
    norm, colour_map, extend = scale
    bar = figure.colorbar(ScalarMappable(norm, colour_map), ax=axes, extend=extend)
    bar.set_label(metric_label(metric))


def scale_ticks(scale: tuple[Normalize, Any, str]) -> list[tuple[float, str]]:
    """Some values of the scale and their words; an end at which it was cut says so."""
    norm, _, extend = scale
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 0.0)
    locator = LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else MaxNLocator(5)
    values = [float(value) for value in locator.tick_values(low, high) if low < value < high]
    ticks = [(value, f"{value:.3g}") for value in values]
    if extend == "max":
        ticks.append((high, f"≥ {high:.3g}"))
    if extend == "min":
        ticks.append((low, f"≤ {low:.3g}"))
    return ticks
