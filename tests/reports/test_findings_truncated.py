"""Runs that were cut off."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from multilayer.reports.configs import ConfigResult
from multilayer.reports.effects import Finding
from multilayer.reports.findings import _is_late, _late_gain, _still_improving
from multilayer.reports.sweep import open_sweep

from .fake_sweeps import write_run


@dataclass(frozen=True)
class Ends:
    """Writes runs of a sweep that ended in some epoch, and says what is found in them."""

    folder: Path

    def run(
        self, best_epoch: int, gain: float | None = 0.1, *, ran_out: bool = True, epochs: int = 20
    ) -> str:
        """A run whose last tenth brought this gain; without one it has no curve."""
        n_late, name = epochs // 10, str(len(list(self.folder.iterdir())))
        curve = None if gain is None else [1.0] * (epochs - n_late) + [1.0 - gain] * n_late
        reason = f"reached trainer.max_epochs={epochs}" if ran_out else "no improvement"
        manifest = {"best_epoch": best_epoch, "stop_reason": reason}
        values = {"trainer__max_epochs": epochs, "seed": name}
        write_run(self.folder / name, 0.5, curve=curve, manifest=manifest, **values)
        return name

    def found(self, *best: str) -> Finding | None:
        """Where these runs are those of the best config."""
        sweep = open_sweep(self.folder)
        runs = [run for run in sweep.runs if run.name in best]
        return _still_improving(sweep, ConfigResult({}, runs, {}))

    def is_late(self, name: str) -> bool:
        """Whether a run was cut off."""
        sweep = open_sweep(self.folder)
        return _is_late(sweep.runs[int(name)], sweep)


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    """Of runs of 20 epochs, unless it is said otherwise."""
    return Ends(tmp_path)


def test_runs_that_still_improved_are_counted(ends: Ends) -> None:
    """Only where the number of epochs ended them, and the last ones brought something."""
    best = ends.run(20)
    for epoch, gain in ((20, None), (10, 0.1), (19, 0.0), (18, 0.1)):
        ends.run(epoch, gain)
    found = ends.found(best)
    assert found is not None
    assert found.text.startswith("1 of 5 finished runs")
    assert "the best config among them (its run)" in found.text
    assert "trainer.max_epochs=40" in found.text


def test_a_run_that_ended_by_itself_is_not_counted(ends: Ends) -> None:
    """However late its best epoch is."""
    ends.run(20, ran_out=False)
    assert ends.found() is None


def test_one_run_is_the_run(ends: Ends) -> None:
    """And has no others."""
    found = ends.found(ends.run(20))
    assert found is not None
    assert found.text.startswith("the run had its best epoch")


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "sign", "gain"),
    [
        ([2.0] + [1.0] * 18 + [0.75], 1, 0.25),  # the last two of twenty
        ([2.0] + [1.0] * 17 + [0.75, 1.0], 1, 0.25),
        ([2.0] + [1.0] * 16 + [0.75, 1.0, 1.0], 1, 0.0),
        ([0.2] + [0.5] * 18 + [0.6], -1, 0.2),
        ([-1.0, -2.0, -2.0, -2.0, -2.0, -3.0], 1, 0.5),
        ([1.0, 0.5], 1, 0.5),
        ([1.0, NAN, 0.5], 1, 0.5),
        ([1.0, 0.5, NAN], 1, 0.0),
        ([NAN, 0.5], 1, None),
        ([NAN, NAN], 1, None),
        ([0.5], 1, None),
        ([0.0, 0.5], 1, None),
    ],
)
def test_the_gain_is_what_the_last_tenth_of_the_epochs_brought(
    values: list[float], sign: int, gain: float | None
) -> None:
    """As a share of the best before; one epoch at least, and none where nothing came before."""
    found = _late_gain({"m": np.array(values)}, "m", sign)
    assert found == (None if gain is None else pytest.approx(gain))


def test_without_a_curve_no_gain_is_known() -> None:
    """Nor where the metric was not logged."""
    assert _late_gain(None, "m", 1) is None
    assert _late_gain({"m": np.full(3, NAN)}, "m", 1) is None


@pytest.mark.parametrize(
    ("best_epoch", "gain", "ran_out", "late"),
    [
        (19, 0.01, True, True),
        (18, 0.5, True, False),
        (20, 0.0099, True, False),
        (20, None, True, False),
        (20, 0.5, False, False),
    ],
)
def test_late_is_in_the_last_tenth_with_a_gain_of_a_hundredth(
    ends: Ends, best_epoch: int, gain: float | None, ran_out: bool, late: bool
) -> None:
    """Of twenty epochs the last two, if nothing but their number ended the run."""
    assert ends.is_late(ends.run(best_epoch, gain, ran_out=ran_out)) == late


def test_only_the_slow_ones_would_gain(ends: Ends) -> None:
    """Where the best config is not among them; the longest is doubled."""
    ends.run(20)
    ends.run(30, epochs=30)
    found = ends.found(ends.run(3))
    assert found is not None
    assert found.text.startswith("2 of 3 finished runs had their best epoch in the last 10%")
    assert "but not the best config" in found.text
    assert found.text.endswith("try trainer.max_epochs=60")


def test_of_a_best_config_with_several_runs_they_are_counted(ends: Ends) -> None:
    """Those that were cut off."""
    found = ends.found(ends.run(20), ends.run(19), ends.run(3))
    assert found is not None
    assert "the best config among them (2 of its 3 runs)" in found.text
