"""Over- and underfitting of the best config."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from multilayer.reports.configs import Candidate
from multilayer.reports.curves import Curves
from multilayer.reports.findings.bounds import (
    BIG_TURN,
    FACTOR,
    LEAST_AUROC,
    LEAST_R2,
    ONE_CLASS,
    POINTS,
)
from multilayer.reports.findings.finding import Finding, number

MORE_TO_TRY = "try other learning rates, more epochs, a larger network, and look at the data"


def fit_of_best(best: Candidate, candidates: Sequence[Candidate]) -> Finding:
    """Over- or underfitting of the best config, by training against validation."""
    nothing = learns_nothing(best)
    if nothing:
        return nothing
    name, is_share = ("accuracy", True) if best.metric("train/accuracy") else ("loss", False)
    train, validation = best.metric(f"train/{name}"), best.metric(f"validation/{name}")
    if train is None or validation is None:
        return Finding("fit", f"the best config has no {name} for training and validation")
    others = [fold.mean for c in candidates if (fold := c.metric(f"train/{name}"))]
    gap = f"{name} {number(train.mean)} in training, {number(validation.mean)} in validation"
    if is_share:
        reached = max(others)
        over, under = train.mean - validation.mean > POINTS, reached - train.mean > POINTS
    else:
        reached = min(others)
        over, under = validation.mean > FACTOR * train.mean, train.mean > FACTOR * reached
    if over:
        more = "more data or regularisation (model.dropout, optimizer.weight_decay) may close it"
        return Finding("overfitting", f"the best config has {gap}: {more}")
    if under:
        more = f"another config reached {number(reached)} in training: this one could fit more"
        return Finding("underfitting", f"the best config has {gap}; {more}")
    return Finding("fit", f"neither over- nor underfitting: the best config has {gap}")


def learns_nothing(best: Candidate) -> Finding | None:
    """Underfitting by an absolute bound, where no config of the sweep is any better."""
    accuracy, f1 = best.metric("train/accuracy"), best.metric("train/f1")
    if accuracy and f1 and names_one_class(accuracy.mean, f1.mean):
        return Finding(
            "learns nothing",
            f"even the best config always names one class: accuracy {number(accuracy.mean)} in "
            f"training is the share of that class; {MORE_TO_TRY}",
        )
    for name, least, chance in (("auroc", LEAST_AUROC, "0.5"), ("r2", LEAST_R2, "0")):
        train = best.metric(f"train/{name}")
        if train is not None and train.mean < least:
            return Finding(
                "learns nothing",
                f"even the best config has {name} {number(train.mean)} in training, where "
                f"{chance} is that of a constant prediction; {MORE_TO_TRY}",
            )
    return None


def names_one_class(accuracy: float, f1: float) -> bool:
    """Whether they are those of always naming the most frequent class, whatever its share is.

    With accuracy a, its own F1 is 2a / (1 + a), which is divided by the number of classes, as the
    others have 0. Of two classes, F1 is that of class 1 alone.

    >>> names_one_class(1 / 3, 1 / 6), names_one_class(0.9, 0.0), names_one_class(0.9, 0.88)
    (True, True, False)
    """
    own = 2 * accuracy / (1 + accuracy)
    shares = [own / k for k in range(1, 101) if k == 1 or k * accuracy > 0.999]
    is_near = any(abs(f1 - share) < ONE_CLASS for share in shares)
    return f1 < ONE_CLASS or (is_near and accuracy < 0.95)  # where own is no longer near 1


def late_turn(curves: Sequence[Curves]) -> Finding | None:
    """Whether the runs of the best config, `curves`, went on long after their best epoch."""
    turn = turned(curves)
    if turn is None or turn <= BIG_TURN:
        return None
    return Finding(
        "the validation loss turned",
        f"in the best config it had risen by {turn:.0%} from its lowest by the last epoch; the "
        "best epoch is what counts here, but fewer epochs, or early stopping, cost less",
    )


def turned(curves: Sequence[Curves]) -> float | None:
    """The median rise of the validation loss from its lowest value to the last epoch."""
    rises = []
    for curve in curves:
        loss = curve.of("validation/loss")
        loss = loss[np.isfinite(loss)]
        if len(loss) and loss.min() > 0:
            rises.append(float(loss[-1] / loss.min() - 1))
    return float(np.median(rises)) if rises and isfinite(sum(rises)) else None
