"""Over- and underfitting of the best config."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.findings.thresholds import (
    ACCURACY_GAP,
    LARGE_RISE,
    LOSS_FACTOR,
    MIN_AUROC,
    MIN_R2,
    ONE_CLASS,
    Finding,
)
from multilayer.reports.runs import Curves
from multilayer.reports.seed_stats import format_number

_ADVICE = "try other learning rates, more epochs, a larger network, and look at the data"


def fit_of_best(best: ConfigResult, configs: Configs) -> Finding:
    """Over- or underfitting of the best config, by training against validation."""
    nothing = _learns_nothing(best)
    if nothing:
        return nothing
    name = "accuracy" if best.metric("train/accuracy") else "loss"
    train, validation = best.metric(f"train/{name}"), best.metric(f"validation/{name}")
    if train is None or validation is None:
        return Finding("fit", f"the best config has no {name} for training and validation")
    others = [stats.mean for config in configs if (stats := config.metric(f"train/{name}"))]
    gap = (
        f"{name} {format_number(train.mean)} in training, "
        f"{format_number(validation.mean)} in validation"
    )
    if name == "accuracy":
        reached = max(others)
        over = train.mean - validation.mean > ACCURACY_GAP
        under = reached - train.mean > ACCURACY_GAP
    else:
        reached = min(others)
        over = validation.mean > LOSS_FACTOR * train.mean
        under = train.mean > LOSS_FACTOR * reached
    if over:
        more = "more data or regularisation (model.dropout, optimizer.weight_decay) may close it"
        return Finding("overfitting", f"the best config has {gap}: {more}")
    if under:
        more = (
            f"another config reached {format_number(reached)} in training: this one could fit more"
        )
        return Finding("underfitting", f"the best config has {gap}; {more}")
    return Finding("fit", f"neither over- nor underfitting: the best config has {gap}")


def _learns_nothing(best: ConfigResult) -> Finding | None:
    """Underfitting by an absolute bound, where no config of the sweep is any better."""
    accuracy, f1 = best.metric("train/accuracy"), best.metric("train/f1")
    if accuracy and f1 and _predicts_one_class(accuracy.mean, f1.mean):
        return Finding(
            "learns nothing",
            f"even the best config always names one class: accuracy {format_number(accuracy.mean)} "
            f"in training is the share of that class; {_ADVICE}",
        )
    for name, least, chance in (("auroc", MIN_AUROC, "0.5"), ("r2", MIN_R2, "0")):
        train = best.metric(f"train/{name}")
        if train is not None and train.mean < least:
            return Finding(
                "learns nothing",
                f"even the best config has {name} {format_number(train.mean)} in training, where "
                f"{chance} is that of a constant prediction; {_ADVICE}",
            )
    return None


def _predicts_one_class(accuracy: float, f1: float) -> bool:
    """Whether these are the scores of always predicting the most frequent class.

    With accuracy a, that class has an F1 of 2a / (1 + a), which is divided by the number of
    classes, as the others have 0. Of two classes, F1 is that of class 1 alone.

    >>> _predicts_one_class(1 / 3, 1 / 6), _predicts_one_class(0.9, 0.88)
    (True, False)
    """
    own = 2 * accuracy / (1 + accuracy)
    shares = [own / k for k in range(1, 101) if k == 1 or k * accuracy > 0.999]
    is_near = any(abs(f1 - share) < ONE_CLASS for share in shares)
    return f1 < ONE_CLASS or (is_near and accuracy < 0.95)  # where own is no longer near 1


def late_rise(curves: Sequence[Curves]) -> Finding | None:
    """Whether the runs of the best config went on long after their best epoch."""
    rise = _median_rise(curves)
    if rise is None or rise <= LARGE_RISE:
        return None
    return Finding(
        "the validation loss turned",
        f"in the best config it had risen by {rise:.0%} from its lowest by the last epoch; the "
        "best epoch is what counts here, but fewer epochs, or early stopping, cost less",
    )


def _median_rise(curves: Sequence[Curves]) -> float | None:
    """The median rise of the validation loss from its lowest value to its last, as a share."""
    rises = []
    for each in curves:
        loss = each.of("validation/loss")
        loss = loss[np.isfinite(loss)]
        if len(loss) and loss.min() > 0:
            rises.append(float(loss[-1] / loss.min() - 1))
    return float(np.median(rises)) if rises and isfinite(sum(rises)) else None
