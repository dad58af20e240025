"""Whether runs were cut off while they still improved."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilayer.reports.curves import Curves
from multilayer.reports.findings.bounds import LATE, STILL_GAIN
from multilayer.reports.findings.finding import Finding


@dataclass(frozen=True)
class Ending:
    """How a run that is done ended, for the findings about its length and its fit.

    gain: how much the metric improved over the last epochs, as a share of it; None without curves.
    """

    name: str
    max_epochs: int
    best_epoch: int
    ran_out: bool
    gain: float | None


def gain_at_end(curve: Curves | None, metric: str, sign: int) -> float | None:
    """The improvement of the best value so far over the last part of the epochs, as a share.

    >>> values = {"validation/loss": np.array([2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5])}
    >>> gain_at_end(Curves(np.arange(1, 11), values), "validation/loss", 1)
    0.5
    """
    if curve is None:
        return None
    values = sign * curve.of(metric)
    before = len(values) - max(1, round(LATE * len(values)))
    if before < 1 or not np.isfinite(values[:before]).any() or not np.isfinite(values).any():
        return None
    early, best = float(np.nanmin(values[:before])), float(np.nanmin(values))
    return (early - best) / abs(early) if early else None


def still_improving(endings: Sequence[Ending], best: Sequence[str]) -> Finding | None:
    """Runs that were cut off by their number of epochs; `best` are those of the best config."""
    late = [ending for ending in endings if is_late(ending)]
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
    of_all = f"{len(late)} of {len(endings)} finished runs" if endings[1:] else "the run"
    had = "had their" if endings[1:] else "had its"
    return Finding(
        "still improving at the end",
        f"{of_all} {had} best epoch in the last {LATE:.0%} "
        f"before trainer.max_epochs, {who}; try trainer.max_epochs={2 * longest}",
    )


def is_late(ending: Ending) -> bool:
    """Whether a run was cut off while it improved; without curves nobody knows by how much."""
    in_tail = ending.best_epoch > (1 - LATE) * ending.max_epochs
    return ending.ran_out and in_tail and ending.gain is not None and ending.gain >= STILL_GAIN
