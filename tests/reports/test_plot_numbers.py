"""The numbers that figures are drawn from: ends of bars, of axes, of scales and of curves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from multilayer.reports.axes import Colours, MetricScale, _coloured, mark_best
from multilayer.reports.by_hyperparameter import (
    _dots,
    _draw_best_at_values,
    _end_of_axis,
    draw_hyperparameter,
)
from multilayer.reports.configs import ConfigResult, tied_best
from multilayer.reports.curves import _count_beyond, _last_finite_epoch, _limit, best_run
from multilayer.reports.heat_map import draw_heat_map
from multilayer.reports.hyperparameters import Hyperparameter
from multilayer.reports.parallel_coordinates import draw_parallel

from .fake_sweeps import fake_config, opened, write_grid, write_run

NAN = float("nan")


def scale(values: list[float], sign: int) -> MetricScale:
    """The scale for configs with these means."""
    return MetricScale.of([fake_config([value]) for value in values], sign)


def new_axes() -> Axes:
    """Empty ones."""
    return Figure().add_subplot()


def test_the_bars_have_both_ends_of_the_interval(tmp_path: Path) -> None:
    """Of the best sound config at each level; none where there are two seeds."""
    write_grid(tmp_path, {0.1: [0.1, 0.2, 0.9], 1.0: [0.5, 0.6], 10.0: [0.05, None, 0.05]})
    sweep, configs = opened(tmp_path)
    (swept,) = sweep.hyperparameters
    axes = new_axes()
    reached = _draw_best_at_values(axes, swept, configs, "black")
    (bars,) = axes.containers
    line, _, (spans,) = bars.lines
    np.testing.assert_allclose(line.get_xydata(), [[0.1, 0.4], [1.0, 0.55]])
    segments = np.array(spans.get_segments())
    np.testing.assert_allclose(segments[0], [[0.1, 0.1], [0.1, 0.9]])
    np.testing.assert_allclose(segments[1], [[1.0, 0.55], [1.0, 0.55]])
    assert sorted(reached) == pytest.approx([0.1, 0.4, 0.55, 0.55, 0.55, 0.9])


def test_where_all_have_a_diverged_seed_nothing_is_marked_as_best(tmp_path: Path) -> None:
    """In none of the figures, however good the other seeds are."""
    number = 0
    for optimizer in ("adam", "sgd"):
        for lr in (0.1, 1.0):
            for loss in (0.1, None):
                values = {"optimizer": optimizer, "optimizer__lr": lr, "seed": int(loss is None)}
                status = "done" if loss else "diverged"
                write_run(tmp_path / str(number), loss, status=status, **values)
                number += 1
    sweep, configs = opened(tmp_path)
    across, up = sweep.hyperparameters
    axes = new_axes()
    assert tied_best(configs) == []
    mark_best(axes, [], [])
    assert not axes.get_lines()
    assert _draw_best_at_values(axes, across, configs, "black") == []
    assert best_run(sweep, configs) is None
    heat = draw_heat_map(sweep, across, up, configs).axes[0]
    assert "framed" not in heat.get_title(loc="left")
    assert all(patch.get_fill() for patch in heat.patches)  # no frame
    for figure in (
        draw_hyperparameter(sweep, across, configs, Colours()),
        draw_parallel(sweep, configs),
    ):
        assert "best" not in [each.get_label() for each in figure.axes[0].get_lines()]


def test_the_best_run_is_the_best_seed_of_the_best_config(tmp_path: Path) -> None:
    """Not the best of all, which may be a lucky one; by the mode."""
    write_grid(tmp_path, {0.1: [0.3, 0.2, 0.4], 1.0: [0.1, 0.9, 0.9]})
    sweep, configs = opened(tmp_path)
    lowest = best_run(sweep, configs)
    highest = best_run(replace(sweep, mode="max"), configs)
    assert lowest is not None
    assert highest is not None
    assert (lowest.name, highest.name) == ("1", "2")


@pytest.mark.parametrize(
    ("scores", "lines", "sign", "end"),
    [
        ([1.0, 1.2, 1.4, 1.5], [], 1, 1.5),  # shown whole
        ([1.0, 1.2, 1.4, 1.5, 90.0], [], 1, 1.5),  # the upper quartile, and what is near it
        ([1.0, 1.2, 1.4, 1.5, 4.0], [3.4], 1, 4.0),  # a line within five times the better ones
        ([1.0, 1.2, 1.4, 1.5, 90.0], [3.0], 1, 3.0),
        ([1.0, 1.2, 1.4, 1.5, 90.0], [60.0], 1, 1.5),  # one that explodes is cut
        ([0.9, 0.8, 0.7, 0.7, -9.0], [], -1, 0.7),
        ([0.9, 0.8, 0.7, 0.7], [], -1, 0.7),
        ([1.0, 1.0, 1.0], [], 1, 1.0),
    ],
)
def test_the_axis_ends_where_runs_are_no_longer_near_the_better_ones(
    scores: list[float], lines: list[float], sign: int, end: float
) -> None:
    """Five times as far from the best as three quarters of the runs."""
    assert _end_of_axis(np.array(scores), lines, sign) == pytest.approx(end)


def test_the_dots_are_at_their_level_and_score() -> None:
    """Seeds of a config a little beside each other, less than half of the way to the next."""
    linear = Hyperparameter.from_runs("model.dropout", [0.0, 0.25, 0.5])
    config = ConfigResult({"model.dropout": 0.25}, [], {(0,): 1.0, (1,): 2.0, (2,): 3.0})
    x, y = np.array(list(_dots(linear, [config]))).T
    np.testing.assert_allclose(x, [0.23, 0.25, 0.27])
    assert y.tolist() == [1.0, 2.0, 3.0]
    rates = Hyperparameter.from_runs("optimizer.lr", [0.01, 0.1, 1.0])
    config = ConfigResult({"optimizer.lr": 0.1}, [], {(0,): 1.0, (1,): 2.0})
    x = [place for place, _ in _dots(rates, [config])]
    np.testing.assert_allclose(x, [0.1 * 10**-0.08, 0.1 * 10**0.08])
    config = ConfigResult({"optimizer.lr": 0.1}, [], {(0,): 1.0})
    assert list(_dots(rates, [config])) == [(pytest.approx(0.1), 1.0)]


@pytest.mark.parametrize(
    ("values", "sign", "ends", "extend"),
    [
        ([1.0, 2.0, 3.0], 1, (1.0, 3.0), "neither"),
        ([1.0, 2.0, 9.0], 1, (1.0, 4.0), "max"),  # thrice as far from the best as the median
        ([1.0, 2.0, 4.0], 1, (1.0, 4.0), "neither"),
        ([0.9, 0.8, 0.1], -1, (0.6, 0.9), "min"),
        ([0.9, 0.8, 0.7], -1, (0.7, 0.9), "neither"),
        ([1.0, 1.0, 5.0], 1, (1.0, 5.0), "neither"),  # half are equal: there is no such distance
    ],
)
def test_the_scale_of_colours_is_cut_for_hopeless_configs(
    values: list[float], sign: int, ends: tuple[float, float], extend: str
) -> None:
    """And says at which end."""
    found = scale(values, sign)
    assert (found.norm.vmin, found.norm.vmax) == pytest.approx(ends)
    assert found.extend == extend
    assert not isinstance(found.norm, LogNorm)


def test_the_scale_is_a_log_one_over_more_than_a_factor_of_ten() -> None:
    """Of positive values; the best is the brightest whichever way."""
    assert isinstance(scale([1.0, 20.0, 40.0], 1).norm, LogNorm)
    assert not isinstance(scale([0.0, 20.0, 40.0], 1).norm, LogNorm)
    assert not isinstance(scale([4.0, 20.0, 40.0], 1).norm, LogNorm)
    assert scale([1.0], 1).cmap == "viridis_r"
    assert scale([1.0], -1).cmap == "viridis"


def test_the_ticks_of_a_scale_say_where_it_was_cut() -> None:
    """At its own end."""
    assert scale([1.0, 2.0, 9.0], 1).ticks()[-1] == (4.0, "≥ 4")
    assert scale([0.9, 0.8, 0.1], -1).ticks()[-1][1] == "≤ 0.6"
    cut = scale([0.46, 0.98, 0.987, 300.0], 1).ticks()
    assert [text for _, text in cut][-2:] == ["1.6", "≥ 2.04"]  # 2.0 would lie over it
    inside = scale([1.0, 2.0, 3.0], 1).ticks()
    assert all(1.0 < value < 3.0 and text == f"{value:.3g}" for value, text in inside)


def test_a_config_with_a_diverged_run_has_no_colour_but_where_there_are_no_others(
    tmp_path: Path,
) -> None:
    """The best comes last, on top."""
    write_grid(tmp_path / "a", {0.1: [0.3, 0.3], 1.0: [0.2, 0.2], 10.0: [0.1, None]})
    _, configs = opened(tmp_path / "a")
    assert [each.mean for each in _coloured(configs)] == [0.3, 0.2]
    write_grid(tmp_path / "b", {1.0: [0.3, None], 10.0: [0.1, None], 100.0: [None, None]})
    _, configs = opened(tmp_path / "b")
    assert [each.mean for each in _coloured(configs)] == [0.3, 0.1]


def test_a_level_has_its_height_between_the_lowest_and_the_highest() -> None:
    """In the logarithm where it was swept so."""
    assert Hyperparameter.from_runs("x", [0.0, 0.25, 1.0]).scaled(0.25) == pytest.approx(0.25)
    assert Hyperparameter.from_runs("optimizer.lr", [1e-4, 1e-3, 1e-1]).scaled(
        1e-3
    ) == pytest.approx(1 / 3)
    assert Hyperparameter.from_runs("optimizer", ["a", "b", "c"]).scaled("b") == 0.5
    assert Hyperparameter.from_runs("x", [0.3]).scaled(0.3) == 0.5


@pytest.mark.parametrize(
    ("values", "epoch"),
    [([1.0, NAN, NAN], 6), ([NAN, NAN, NAN], 5), ([1.0, 2.0, 3.0], 7), ([1.0, NAN, 3.0], 7)],
)
def test_a_cross_is_where_no_value_is_finite_any_more(values: list[float], epoch: int) -> None:
    """At the last epoch where they are."""
    curve = {"epoch": np.array([5, 6, 7]), "m": np.array(values)}
    assert _last_finite_epoch(curve, "m") == epoch


@pytest.mark.parametrize(("sign", "shown"), [(1, (0.5, 1.5)), (-1, (-1.5, -0.5))])
def test_curves_are_shown_to_twice_as_far_from_the_best_as_they_began(
    sign: int, shown: tuple[float, float]
) -> None:
    """In the median; what explodes is cut off, and counted."""
    curves = [np.array(each) for each in ([1.0, 0.5], [1.0, 0.7], [1.0, 1.5, 90.0], [NAN, 1.0])]
    axes = new_axes()
    _limit(axes, [sign * each for each in curves], sign)
    low, high = axes.get_ylim()
    assert (low, high) == pytest.approx((shown[0] - 0.06, shown[1] + 0.06))
    words = _count_beyond(axes, [sign * each for each in curves])
    assert words == "1 of 4 lines ends beyond the axis"
    _limit(new_axes(), [np.array([NAN])], sign)  # nothing to show


def test_scores_of_a_config_that_is_not_drawn_do_not_move_its_axis() -> None:
    """A search of many values has no lines, and its dots are on their places."""
    swept = Hyperparameter.from_runs("optimizer.lr", [2.0**-k for k in range(40)])
    config = ConfigResult({"optimizer.lr": 0.25}, [], {(0,): 1.0, (1,): 2.0})
    assert [x for x, _ in _dots(swept, [config])] == [0.25, 0.25]
    assert _draw_best_at_values(new_axes(), swept, [fake_config([1.0])], "black") == []
