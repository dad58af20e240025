"""Whether runs were cut off while they still improved."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilayer.reports.findings.thresholds import LATE, MIN_LATE_GAIN, Finding
from multilayer.reports.runs import Curves, SweepRun
from multilayer.reports.sweep import Sweep


@dataclass(frozen=True)
class Ending:
    """How a run that is done ended.

    Attributes:
        name: The run.
        max_epochs: How many epochs it might train.
        best_epoch: Its best one.
        ran_out: Whether `max_epochs` ended it.
        gain: The improvement over the last epochs, as a share of the metric; None without curves.
    """

    name: str
    max_epochs: int
    best_epoch: int
    ran_out: bool
    gain: float | None

    @classmethod
    def of(cls, run: SweepRun, sweep: Sweep) -> "Ending":
        """How a run that is done ended."""
        return cls(
            name=run.name,
            max_epochs=run.config_value("trainer.max_epochs") or 0,
            best_epoch=run.manifest.get("best_epoch") or 0,
            ran_out="trainer.max_epochs" in run.stop_reason,
            gain=_late_gain(sweep.curves.get(run.name), sweep.metric, sweep.sign),
        )

    @property
    def is_late(self) -> bool:
        """Whether it was cut off while it improved; without curves nobody knows by how much."""
        in_tail = self.best_epoch > (1 - LATE) * self.max_epochs
        return self.ran_out and in_tail and self.gain is not None and self.gain >= MIN_LATE_GAIN


def _late_gain(curves: Curves | None, metric: str, sign: int) -> float | None:
    """The improvement of the best value so far over the last part of the epochs, as a share.

    >>> values = {"validation/loss": np.array([2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5])}
    >>> _late_gain(Curves(np.arange(1, 11), values), "validation/loss", 1)
    0.5
    """
    if curves is None:
        return None
    values = sign * curves.of(metric)
    before = len(values) - max(1, round(LATE * len(values)))
    if before < 1 or not np.isfinite(values[:before]).any() or not np.isfinite(values).any():
        return None
    early, best = float(np.nanmin(values[:before])), float(np.nanmin(values))
    return (early - best) / abs(early) if early else None


def still_improving(endings: Sequence[Ending], best: Sequence[str]) -> Finding | None:
    """Runs that were cut off by their number of epochs; `best` are those of the best config."""
    late = [ending for ending in endings if ending.is_late]
    if not late:
        return None
    winners = [ending.name for ending in late if ending.name in best]
    longest = max(ending.max_epochs for ending in late)
    its = f"{len(winners)} of its {len(best)} runs" if len(best) > 1 else "its run"
    who = (
        f"the best config among them ({its})"
        if winners
        else "but not the best config: it is the slow ones that would gain"
    )
    several = len(endings) > 1
    of_all = (
        f"{len(late)} of {len(endings)} finished runs had their" if several else "the run had its"
    )
    return Finding(
        "still improving at the end",
        f"{of_all} best epoch in the last {LATE:.0%} before trainer.max_epochs, {who}; "
        f"try trainer.max_epochs={2 * longest}",
    )
