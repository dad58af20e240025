"""The figures of a report, read back from their axes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure

from multilayer.plotting.style import TRAIN, VALIDATION
from multilayer.reports.axes import Colours
from multilayer.reports.by_data import parts_of
from multilayer.reports.by_hyperparameter import draw_hyperparameter
from multilayer.reports.configs import ConfigResult, rank_configs
from multilayer.reports.curves import _limit
from multilayer.reports.hyperparameters import Hyperparameter
from multilayer.reports.report import _figures, draw_all
from multilayer.reports.runs import SweepRun
from multilayer.reports.sweep import open_sweep

from .fake_sweeps import opened, write_grid, write_run


def all_drawn(folder: Path) -> dict[str, Figure]:
    """The figures of a sweep by their names."""
    sweep, configs = opened(folder)
    return {name: figure for name, _, figure in _figures(sweep, configs)}


def drawn(folder: Path, name: str) -> Figure:
    """One of them, arranged, where matplotlib would warn of what does not fit."""
    figure = all_drawn(folder)[name]
    figure.draw_without_rendering()
    return figure


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """A line by its label."""
    (found,) = [each for each in axes.get_lines() if each.get_label() == label]
    return list(found.get_xdata()), list(found.get_ydata())


def black_lines(axes: Axes) -> list[list[float]]:
    """The heights of the curves of the best configs."""
    return [list(each.get_ydata()) for each in axes.get_lines() if each.get_linewidth() >= 3]


def dots(axes: Axes) -> list[tuple[float, float]]:
    """The places of all dots."""
    (found,) = [each for each in axes.collections if isinstance(each, PathCollection)]
    return [(float(x), float(y)) for x, y in found.get_offsets()]


def crosses(axes: Axes) -> list[tuple[float, str]]:
    """The place and the colour of each cross."""
    found = [
        (list(each.get_xdata()), str(each.get_color()))
        for each in axes.get_lines()
        if each.get_marker() == "x"
    ]
    return [(x[0], colour) for x, colour in found if x]  # without that of the legend


def write_pairs(folder: Path) -> None:
    """Two optimizers by three rates by two seeds, with curves; one config diverged."""
    number = 0
    for optimizer in ("sgd", "adam"):
        for lr in (0.001, 0.01, 0.1):
            for seed in (0, 1):
                gone = optimizer == "adam" and lr == 0.1
                loss = None if gone else 0.5 + lr * 2 + 0.1 * seed + 0.2 * (optimizer == "sgd")
                end = float("nan") if loss is None else loss
                write_run(
                    folder / str(number),
                    loss,
                    status="diverged" if gone else "done",
                    curve=[2.0, end, end],
                    optimizer=optimizer,
                    optimizer__lr=lr,
                    seed=seed,
                )
                number += 1


def test_the_metric_against_a_number_is_on_a_log_axis_with_each_seed(tmp_path: Path) -> None:
    """Where it was swept by factors; the best is ringed, what diverged is crossed."""
    write_grid(tmp_path, {0.001: [0.9, 0.7], 0.01: [0.3, 0.5], 0.1: [None, None]})
    (axes,) = drawn(tmp_path, "metric_by_optimizer.lr.png").axes
    assert axes.get_xscale() == "log"
    expected = [(0.001, 0.9), (0.001, 0.7), (0.01, 0.3), (0.01, 0.5)]
    np.testing.assert_allclose(sorted(dots(axes)), expected, rtol=0.25)  # spread a little
    np.testing.assert_allclose(line(axes, "best"), ([0.01], [0.4]))
    assert [place for place, _ in crosses(axes)] == pytest.approx([0.1])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "validation loss")


def test_numbers_swept_by_steps_are_on_a_linear_axis(tmp_path: Path) -> None:
    """Such as dropout."""
    for number, rate in enumerate((0.0, 0.1, 0.2)):
        write_run(tmp_path / str(number), 0.5 + rate, model__dropout=rate)
    (axes,) = drawn(tmp_path, "metric_by_model.dropout.png").axes
    assert axes.get_xscale() == "linear"


def test_a_hyperparameter_has_one_colour_in_all_figures(tmp_path: Path) -> None:
    """By its optimizer, in the metric against the rate and in the learning curves."""
    write_pairs(tmp_path)
    found = all_drawn(tmp_path)

    legend = found["learning_curves.png"].axes[0].get_legend()
    assert legend is not None
    handles = zip(legend.get_texts(), legend.legend_handles, strict=True)
    of_curves = {text.get_text(): handle.get_color() for text, handle in handles}
    by_rate = found["metric_by_optimizer.lr.png"].axes[0]
    marks = {each.get_label(): each.get_color() for each in by_rate.get_lines()}
    bars = [each.lines[0].get_color() for each in by_rate.containers]
    assert [of_curves[f"optimizer {name}"] for name in ("adam", "sgd")] == bars
    assert [marks[f"optimizer {name}"] for name in ("adam", "sgd")] == bars


def test_two_hyperparameters_are_a_heat_map_with_its_holes(tmp_path: Path) -> None:
    """The means over seeds; what has none is left empty, over hatching."""
    write_pairs(tmp_path)
    axes = drawn(tmp_path, "heat_map.png").axes[0]
    means = np.ma.filled(axes.images[0].get_array(), np.nan)
    expected = [[0.552, 0.57, np.nan], [0.752, 0.77, 0.95]]
    np.testing.assert_allclose(means, expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["adam", "sgd"]
    assert {"0.552", "x"} <= {text.get_text() for text in axes.texts}
    assert axes.get_title(loc="left") == "framed: the best; x: diverged"


def test_cells_say_why_they_have_no_number(tmp_path: Path) -> None:
    """Diverged, without a result, and untried are told apart, and the title names what is there."""
    losses = {("sgd", 0.1): 0.5, ("sgd", 1.0): None, ("adam", 0.1): None}
    states = {("sgd", 1.0): "diverged", ("adam", 0.1): "failed"}
    for number, ((optimizer, lr), loss) in enumerate(losses.items()):
        status = states.get((optimizer, lr), "done")
        values = {"optimizer": optimizer, "optimizer__lr": lr}
        write_run(tmp_path / str(number), loss, status=status, **values)
    axes = drawn(tmp_path, "heat_map.png").axes[0]
    title = "framed: the best; x: diverged; -: no result; hatched: untried"
    assert axes.get_title(loc="left") == title
    assert sorted(text.get_text() for text in axes.texts) == ["-", "0.5", "x"]
    assert axes.patch.get_hatch()


def test_three_hyperparameters_are_parallel_coordinates(tmp_path: Path) -> None:
    """A line for each config, from its first level to its metric; the best goes on top."""
    number = 0
    for optimizer in ("sgd", "adam"):
        for lr in (0.01, 0.1, 1.0):
            for width in ([8], [16, 8]):
                loss = lr + len(width) + (optimizer == "sgd")
                write_run(
                    tmp_path / str(number),
                    loss,
                    optimizer=optimizer,
                    optimizer__lr=lr,
                    model__d_hidden=width,
                )
                number += 1
    axes = drawn(tmp_path, "parallel_coordinates.png").axes[0]
    (lines,) = [each for each in axes.collections if isinstance(each, LineCollection)]
    assert len(lines.get_segments()) == 12
    assert line(axes, "best")[1] == pytest.approx([0.0] * 4, abs=0.03)  # spread a little
    starts = [segment[0, 1] for segment in lines.get_segments()]
    assert len(set(starts)) == 12
    assert len(axes.get_xticks()) == 4
    assert {"2.4", "3"} <= {text.get_text() for text in axes.texts}  # of the metric


def test_every_config_has_a_curve_and_the_divergent_a_cross(tmp_path: Path) -> None:
    """The median of its runs; the best is black; the cross is where the loss was no number."""
    write_pairs(tmp_path)
    (axes,) = drawn(tmp_path, "learning_curves.png").axes
    curves = [each for each in axes.get_lines() if len(np.asarray(each.get_xdata())) == 3]
    assert len(curves) == 7  # of 6 configs one diverged at once, and the best is drawn again, twice
    (best,) = black_lines(axes)
    assert best == pytest.approx([2.0, 0.552, 0.552])
    (gone,) = [each for each in axes.get_lines() if each.get_marker() == "x"]
    assert list(gone.get_xdata()) == [2, 2]
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    assert len(bands) == 7
    title = "medians of runs, with their middle half as bands\noutlined: the best; x: 2 diverged"
    assert axes.get_title(loc="left") == title


def test_many_configs_share_the_lines_of_what_matters_most(tmp_path: Path) -> None:
    """One for each value; an early end counts with its last value; a bar says what colours are."""
    number = 0
    for lr in (0.001, 0.01, 0.1):
        for width in range(8, 20):
            curve = [4.0, 10 * lr, 10 * lr, 10 * lr + width / 100][: 3 + (width > 12)]
            values = {"optimizer__lr": lr, "model__d_hidden": width}
            write_run(tmp_path / str(number), curve[-1], curve=curve, **values)
            number += 1
    axes, bar = drawn(tmp_path, "learning_curves.png").axes
    curves = [each for each in axes.get_lines() if each.get_marker() != "o"]
    ends = sorted(float(np.asarray(each.get_ydata())[-1]) for each in curves)
    assert ends == pytest.approx([10 * lr + 0.135 for lr in (0.001, 0.01, 0.1)])
    assert [tick.get_text() for tick in bar.get_yticklabels()] == ["0.001", "0.01", "0.1"]
    assert bar.get_ylabel() == "learning rate"


@pytest.mark.parametrize(("end", "name"), [(1.5, "turning point"), (1.0, "best")])
def test_the_turning_point_is_marked(tmp_path: Path, end: float, name: str) -> None:
    """Where the validation loss rises after its best."""
    write_run(tmp_path / "0", 1.0, curve=[3.0, 1.0, end])
    (axes,) = drawn(tmp_path, "training_and_validation.png").axes
    assert line(axes, f"{name}: epoch 2") == ([2], [1.0])
    assert line(axes, "validation")[1] == [3.0, 1.0, end]


def test_the_best_run_has_its_loss_beside_the_metric(tmp_path: Path) -> None:
    """Where another metric decides; it says that it is the best, however long its name."""
    name = "optimizer.lr=0.1,model.dropout=0.2,data.batch_size=64,seed=0"
    write_run(tmp_path / name, metrics={"validation": {"accuracy": 0.9}}, curve=[1.0], lr=1)
    sweep = open_sweep(tmp_path, "validation/accuracy")
    found = _figures(
        sweep,
        rank_configs(sweep),
    )
    figure = {name: figure for name, _, figure in found}["training_and_validation.png"]
    figure.draw_without_rendering()
    loss, accuracy = figure.axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy (share of rows)")
    assert loss.get_title(loc="left") == "best run: optimizer.lr=0.1,mo…ed=0"
    (own,) = [each for each in loss.get_lines() if each.get_label() == "train"]
    assert own.get_marker() == "o"  # of one epoch


def test_diverged_runs_do_not_stretch_the_axis(tmp_path: Path) -> None:
    """The limits are those of the runs that came to their end; one epoch is a dot."""
    write_run(tmp_path / "0", 1.0, curve=[2.0, 1.0], optimizer__lr=0.1)
    write_run(tmp_path / "1", 1.2, curve=[1.2], optimizer__lr=0.2)
    exploded = [5.0, float("nan")]
    write_run(tmp_path / "2", status="diverged", curve=exploded, optimizer__lr=1.0)
    axes = drawn(tmp_path, "learning_curves.png").axes[0]
    assert axes.get_ylim()[1] < 2.5
    (own,) = [each for each in axes.get_lines() if list(each.get_ydata()) == [1.2]]
    assert own.get_marker() == "o"


@pytest.mark.parametrize(("worst", "is_cut"), [(3.0, False), (90.0, True)])
def test_an_axis_is_cut_only_where_runs_are_far_beyond(
    tmp_path: Path, worst: float, is_cut: bool
) -> None:
    """Those that are, are triangles at its end."""
    losses = [1.0, 1.2, 1.4, 1.5, worst]
    write_grid(tmp_path, {0.1 * 2**i: [loss] for i, loss in enumerate(losses)})
    sweep, configs = opened(tmp_path)
    last = configs[-1]
    gone = ConfigResult(last.values, [replaced(last, "diverged")], last.scores)
    (swept,) = sweep.hyperparameters
    figure = draw_hyperparameter(sweep, swept, [*configs[:-1], gone], Colours())
    (axes,) = figure.axes
    assert (axes.get_ylim()[1] < 2) == is_cut
    legend = axes.get_legend()
    assert legend is not None
    assert ("beyond the axis" in [text.get_text() for text in legend.get_texts()]) == is_cut


def replaced(config: ConfigResult, status: str) -> SweepRun:
    """Its first run, which ended otherwise, so that no line reaches it."""
    run = config.runs[0]
    return replace(run, manifest=run.manifest | {"status": status})


def test_colours_are_few_or_a_scale_and_not_those_of_the_splits() -> None:
    """Many numbers are shades, of which the legend shows some."""
    few = Colours.choose([Hyperparameter.from_runs("optimizer", ["adam", "sgd"])])
    assert not {TRAIN, VALIDATION} & set(few.of_value.values())
    many = Colours.choose([Hyperparameter.from_runs("optimizer.lr", [10.0**-i for i in range(12)])])
    assert len(set(many.of_value.values())) == 12
    assert len(many.legend) == 6
    words = [f"activation {i}" for i in range(9)]
    assert (
        Colours.choose([Hyperparameter.from_runs("model.activation", words)]).hyperparameter is None
    )


def test_figures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    """Those that this one does not draw; others in the folder are the user's."""
    write_grid(tmp_path, {0.01: [0.3], 0.1: [0.5]})
    (tmp_path / "figures").mkdir()
    for name in ("metric_by_seed.png", "mine.png"):
        (tmp_path / "figures" / name).write_bytes(b"")
    for folder in ("data=iris", "2026-first-draft"):  # the second is the user's
        (tmp_path / "figures" / folder).mkdir()
        (tmp_path / "figures" / folder / "learning_curves.png").write_bytes(b"")
    (captions,) = draw_all(parts_of(open_sweep(tmp_path)))
    assert list(captions) == ["figures/metric_by_optimizer.lr.png"]
    found = {path.name for path in (tmp_path / "figures").iterdir()}
    assert found == {"metric_by_optimizer.lr.png", "mine.png", "2026-first-draft"}


def test_a_cross_has_the_colour_of_what_diverged(tmp_path: Path) -> None:
    """Over a rate at which one optimizer did, and the other did not."""
    write_pairs(tmp_path)
    sweep, _ = opened(tmp_path)
    colours = Colours.choose(sweep.hyperparameters)
    (axes,) = drawn(tmp_path, "metric_by_optimizer.lr.png").axes
    assert crosses(axes) == [(0.1, colours.of_value["adam"])]


def test_a_config_with_a_diverged_run_has_no_colour_in_the_heat_map(tmp_path: Path) -> None:
    """Its other seed looks good, and is nothing to choose."""
    write_pairs(tmp_path)
    write_run(tmp_path / "12", 0.1, optimizer="adam", optimizer__lr=0.1, seed=2)
    axes = drawn(tmp_path, "heat_map.png").axes[0]
    (image,) = axes.get_images()
    assert np.isnan(np.asarray(image.get_array().filled(np.nan))).sum() == 1  # type: ignore[union-attr]
    assert "0.1 x" in [each.get_text() for each in axes.texts]


def test_curves_that_leave_the_picture_are_counted(tmp_path: Path) -> None:
    """They would be missing otherwise, and nobody would know."""
    for number, end in enumerate([0.5, 0.6, 0.7, 900.0]):
        write_run(tmp_path / str(number), end, curve=[1.0, 0.9, end], model__dropout=number / 10)
    axes = drawn(tmp_path, "learning_curves.png").axes[0]
    title = "outlined: the best; 1 of 4 lines ends beyond the axis"
    assert axes.get_title(loc="left") == title


def test_crosses_of_a_rate_at_which_all_diverged_are_within_the_axes(tmp_path: Path) -> None:
    """It has no dots that would make room for it."""
    write_pairs(tmp_path)
    for number, optimizer in enumerate(("sgd", "adam")):
        values = {"optimizer": optimizer, "optimizer__lr": 10.0, "seed": 0}
        write_run(tmp_path / str(100 + number), status="diverged", **values)
    (axes,) = drawn(tmp_path, "metric_by_optimizer.lr.png").axes
    found = crosses(axes)
    assert [place for place, _ in found].count(10.0) == 2
    assert axes.get_xlim()[1] > 10.0


def test_lines_that_are_compared_are_in_the_picture(tmp_path: Path) -> None:
    """Two rates by three patiences, of which the slow rate ends where the fast one never was."""
    number = 0
    for lr, curve in ((0.00001, [2.4, 2.2, 2.0, 1.9]), (0.01, [0.5, 0.4, 0.35, 0.34])):
        for patience in (3, 8, 20):
            for seed in range(3):
                values = {"optimizer__lr": lr, "trainer__patience": patience, "seed": seed}
                ends = [each + seed / 1000 for each in curve]
                write_run(tmp_path / str(number), ends[-1], curve=ends, **values)
                number += 1
    axes = drawn(tmp_path, "learning_curves.png").axes[0]
    low, high = axes.get_ylim()
    assert low < 0.34 < 2.4 < high
    assert axes.get_yscale() == "log"  # where most of the axis is between the two
    assert "beyond" not in axes.get_title(loc="left")
    sweep, _ = opened(tmp_path)
    of_fast = [each for each in axes.get_lines() if list(each.get_ydata())[-1] < 0.4]
    on_top = max(of_fast, key=lambda each: each.get_zorder())  # its colour is not hidden
    assert on_top.get_color() == Colours.choose(sweep.hyperparameters).of_value[0.01]


def test_all_that_tie_are_marked(tmp_path: Path) -> None:
    """By a frame, a ring or a black line each; the second config of three is worse."""
    for number, (depth, loss) in enumerate(((1, 0.5), (2, 0.7), (3, 0.5))):
        for rate in (0.1, 0.2):
            values = {"model__depth": depth, "model__dropout": rate, "seed": 0}
            here = loss + (rate == 0.2)
            name = f"{2 * number + (rate == 0.2)}"
            write_run(tmp_path / "two" / name, here, curve=[2.0, here], **values)
            write_run(tmp_path / "three" / name, here, **values, model__width=number)
    found = all_drawn(tmp_path / "two")
    heat = found["heat_map.png"].axes[0]
    frames = [patch.get_xy() for patch in heat.patches if not patch.get_fill()]  # type: ignore[attr-defined]
    assert frames == [(-0.5, -0.5), (1.5, -0.5)]
    assert heat.get_title(loc="left") == "framed: the best (2 tie)"
    rings = line(found["metric_by_model.depth.png"].axes[0], "best (2 tie)")
    assert rings == ([1.0, 3.0], [0.5, 0.5])
    curves = found["learning_curves.png"].axes[0]
    assert black_lines(curves) == [[2.0, 0.5], [2.0, 0.5]]
    assert curves.get_title(loc="left") == "outlined: the best (2 tie)"
    lines = all_drawn(tmp_path / "three")["parallel_coordinates.png"].axes[0]
    assert len(black_lines(lines)) == 2
    legend = lines.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["best (2 tie)"]


def test_of_many_that_tie_each_ends_in_a_dot(tmp_path: Path) -> None:
    """As black lines they would hide the others."""
    for number in range(5):
        loss = 0.5 if number < 4 else 0.7
        write_run(tmp_path / str(number), loss, curve=[2.0, loss], model__width=number)
    axes = drawn(tmp_path, "learning_curves.png").axes[0]
    assert black_lines(axes) == []
    ends = [each for each in axes.get_lines() if each.get_marker() == "o"]
    assert [(list(each.get_xdata()), list(each.get_ydata())) for each in ends] == [([2], [0.5])] * 4
    assert axes.get_title(loc="left") == "black dots: the best (4 tie)"


def test_what_most_runs_are_is_no_range_that_others_are_beyond(tmp_path: Path) -> None:
    """The few that are not at the best are dots as all others."""
    write_grid(tmp_path, {0.1 * 2**i: [1.0, 1.0, 1.25 if i == 2 else 1.0] for i in range(4)})
    (axes,) = drawn(tmp_path, "metric_by_optimizer.lr.png").axes
    assert len(dots(axes)) == 12
    low, high = axes.get_ylim()
    assert low < 1.0 < 1.25 < high
    both = [np.array([1.0, 1.0]), np.array([1.0, 1.5])]
    _limit(axes, [both[0]] * 8 + [both[1]], 1)
    assert axes.get_ylim()[1] > 1.5


def test_a_value_at_which_all_failed_has_its_place(tmp_path: Path) -> None:
    """And without seeds enough no interval is spoken of."""
    for number, rate in enumerate((0.0, 0.0, 1.5)):
        loss, status = (0.5 + number, "done") if rate == 0 else (None, "failed")
        values = {"model__dropout": rate, "seed": number % 2}
        write_run(tmp_path / str(number), loss, status=status, **values)
    (axes,) = drawn(tmp_path, "metric_by_model.dropout.png").axes
    assert axes.get_xlim()[1] > 1.5
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1.5"]
    legend = axes.get_legend()
    assert legend is not None
    assert "best config at a value" in [text.get_text() for text in legend.get_texts()]
    write_run(tmp_path / "3", 0.75, model__dropout=0.0, seed=2)
    legend = drawn(tmp_path, "metric_by_model.dropout.png").axes[0].get_legend()
    assert legend is not None
    assert any("95 % interval" in text.get_text() for text in legend.get_texts())
