"""Over- and underfitting of the best config."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.curves import Curves
from multilayer.sweeps.findings.bounds import FACTOR, POINTS, TURN
from multilayer.sweeps.findings.finding import Finding, number


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
