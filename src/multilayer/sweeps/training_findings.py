"""What a sweep teaches about its trainings: too short, overfitting, underfitting.

Each finding is a function of plain data that returns a sentence or nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from multilayer.sweeps.bounds import FACTOR, LATE, POINTS, STILL_GAIN, TURN
from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.curves import Curves
from multilayer.sweeps.finding import Finding, number

# Curves -----------------------------------------------------------------------------------------


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
    who = (
        f"the best config among them ({len(winners)} of its {len(best)} runs)"
        if winners
        else "but not the best config: it is the slow ones that would gain"
    )
    return Finding(
        "still improving at the end",
        f"{len(late)} of {len(endings)} finished runs had their best epoch in the last {LATE:.0%} "
        f"before trainer.max_epochs, {who}; try trainer.max_epochs={2 * longest}",
    )


def is_late(ending: Ending) -> bool:
    """Whether a run was cut off while it improved."""
    in_tail = ending.best_epoch > (1 - LATE) * ending.max_epochs
    return ending.ran_out and in_tail and (ending.gain is None or ending.gain >= STILL_GAIN)


# Fit --------------------------------------------------------------------------------------------


def fit_of_best(
    best: Candidate, candidates: Sequence[Candidate], curves: Sequence[Curves]
) -> Finding:
    """Over- or underfitting of the best config, by training against validation.

    curves: those of its runs that are done.
    """
    name, is_share = ("accuracy", True) if best.metric("train/accuracy") else ("loss", False)
    train, validation = best.metric(f"train/{name}"), best.metric(f"validation/{name}")
    if train is None or validation is None:
        return Finding("fit", f"the best config has no {name} for training and validation")
    others = [fold for c in candidates if (fold := c.metric(f"train/{name}"))]
    gap = f"{name} {number(train.mean)} in training, {number(validation.mean)} in validation"
    if is_share:
        reached = max(fold.mean for fold in others)
        over, under = train.mean - validation.mean > POINTS, reached - train.mean > POINTS
    else:
        reached = min(fold.mean for fold in others)
        over, under = validation.mean > FACTOR * train.mean, train.mean > FACTOR * reached
    turn = turned(curves)
    after = (
        f"; the validation loss turned: by the last epoch it had risen by {turn:.0%} from its best"
        if turn is not None and turn > TURN
        else ""
    )
    if over:
        more = "more data or regularisation (model.dropout, optimizer.weight_decay) may close it"
        return Finding("overfitting", f"the best config has {gap}: {more}{after}")
    if under:
        more = f"another config reached {number(reached)} in training: this one could fit more"
        return Finding("underfitting", f"the best config has {gap}; {more}{after}")
    return Finding("fit", f"neither over- nor underfitting: the best config has {gap}{after}")


def turned(curves: Sequence[Curves]) -> float | None:
    """The median rise of the validation loss from its lowest value to the last epoch."""
    rises = []
    for curve in curves:
        loss = curve.of("validation/loss")
        loss = loss[np.isfinite(loss)]
        if len(loss) and loss.min() > 0:
            rises.append(float(loss[-1] / loss.min() - 1))
    return float(np.median(rises)) if rises and isfinite(sum(rises)) else None
