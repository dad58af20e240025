"""What a sweep teaches besides its winner, in the sense of the tuning playbook.

Godbole, Dahl, Gilmer, Shallue and Nado 2023, Deep Learning Tuning Playbook. The thresholds stand
here with their reasons, and in the report.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import isfinite

import numpy as np

from multilayer.reports.configs import ConfigResult, Configs, format_number, tied_best
from multilayer.reports.effects import Finding, effect_findings
from multilayer.reports.hyperparameters import Hyperparameter, format_value, is_log_key
from multilayer.reports.runs import Curves, SweepRun
from multilayer.reports.significance import Comparison
from multilayer.reports.sweep import Sweep

MAX_FACTOR = 10
"""From one suggested value to the next: who tried 0.01 and 1000 has left out more between them."""

LATE = 0.1
"""Share of the epochs: a best epoch in this last part leaves doubt whether the run was finished."""

MIN_LATE_GAIN = 0.01
"""Share of the metric: an improvement over the last part that is smaller than this is none; it is
within what 270 validation rows, as those of digits, can tell."""

ACCURACY_GAP = 0.05
"""Between training and validation accuracy, for overfitting; and between the training accuracy and
the best one of the sweep, for underfitting. Five points are seen with a hundred validation rows."""

LOSS_FACTOR = 1.25
"""The same where there is no accuracy: a loss or an error that is a quarter higher."""

MIN_AUROC = 0.6
"""In training: a network that ranks the rows by chance has 0.5."""

ONE_CLASS = 0.001
"""Distance of an F1 from that of always predicting one class, up to which it is taken for that."""

MIN_R2 = 0.05
"""Share of the target's variance: a regression that explains less in training learns nothing."""

LARGE_RISE = 0.25
"""The rise of the validation loss from its best epoch to the end that is a finding: the last epoch
is then far worse than the best one, as bad as a wrong learning rate for those who stop there.
Figures call a smaller rise a turning point already, `multilayer.plotting.style.TURN`."""

_SHARES = ("dropout", "momentum", "label_smoothing", "rho", "alpha", "betas", "gamma")
"""Last parts of keys whose values lie between 0 and 1, where nothing can be tried beyond."""


def find(sweep: Sweep, configs: Configs, comparisons: Sequence[Comparison]) -> list[Finding]:
    """The findings of a sweep; none where no config is valid.

    Args:
        sweep: The sweep.
        configs: Its configs, best first.
        comparisons: Of the best config with the others.
    """
    best = configs[0]
    if not best.is_valid:
        return []
    is_clear = bool(comparisons) and comparisons[0].is_clear
    maybe = [
        *_at_grid_edge(configs, sweep.hyperparameters),
        *effect_findings(sweep, configs, is_clear),
        _still_improving(sweep, best),
        _fit_of_best(best, configs),
        _late_rise([sweep.curves[run.name] for run in best.done if run.name in sweep.curves]),
    ]
    return [finding for finding in maybe if finding]


def _at_grid_edge(configs: Configs, hyperparameters: Sequence[Hyperparameter]) -> Iterator[Finding]:
    """The numbers of the best config that lie at the end of what was swept, with what to try.

    There is no end where a config with a value away from it is as good to the last digit.
    """
    best = configs[0]
    ties = tied_best(configs)
    for each in hyperparameters:
        value = best.values[each.key]
        side = each.edge_side(value)
        is_tied = any(each.edge_side(config.values[each.key]) != side for config in ties)
        if side and value != 0 and not is_tied:  # at 0 the range ends by itself
            end = "smallest" if side < 0 else "largest"
            near = "the" if value in (each.values[0], each.values[-1]) else "near the"
            tries = ",".join(map(format_value, _values_beyond(each, side)))
            more = f"; try {each.key}={tries} too" if tries else ", and nothing lies beyond"
            yield Finding(
                "edge of the grid",
                f"the best {each.key}={format_value(value)} is {near} {end} that was tried{more}",
            )


def _values_beyond(hyperparameter: Hyperparameter, side: int) -> list[float | int]:
    """Two values beyond the edge, spaced like the grid, or fewer where the range ends.

    >>> _values_beyond(Hyperparameter.from_runs("optimizer.lr", [1e-3, 1e-2, 1e-1]), 1)
    [1.0, 10.0]
    >>> _values_beyond(Hyperparameter.from_runs("optimizer.weight_decay", [0.0, 1e-3]), 1)
    [0.003, 0.01]
    >>> _values_beyond(Hyperparameter.from_runs("model.dropout", [0.0, 0.2, 0.4]), -1)
    []
    """
    key, is_log = hyperparameter.key, hyperparameter.is_log
    grid = [float(value) for value in hyperparameter.values[::side]]  # type: ignore[arg-type]
    end, step = grid[-1], max(1, len(grid) // 10)
    before = grid[-1 - min(step, len(grid) - 1)]
    if end == 0:
        return []
    if is_log and before:
        factor = min(max(end / before, 1 / MAX_FACTOR), MAX_FACTOR)
        values = [end * factor**power for power in (1, 2)]
    elif before == 0 and isinstance(hyperparameter.values[-1], float) and is_log_key(key):
        values = [end * 3.0, end * 10.0]
    else:
        values = [end + times * (end - before) for times in (1, 2)]
    if min(grid) >= 0:
        values = [value for value in values if value > 1e-9 * abs(end)] or [end / 2, end / 4]
    if key.rpartition(".")[2] in _SHARES:
        values = [value for value in values if value < 1 - 1e-9]  # 0.95 + 0.05 is below 1
    if all(isinstance(value, int) for value in hyperparameter.values):
        least = 1 if min(grid) > 0 else min(values, default=0)
        whole = [round(value) for value in values if round(value) >= least]
        return list(dict.fromkeys(value for value in whole if value not in grid))
    return [float(f"{value:.{_n_digits(grid, is_log)}g}") for value in values]


def _n_digits(grid: Sequence[float], is_log: bool) -> int:
    """How many digits a value beyond has: one where factors are about 3, for 0.03 after 0.01.

    >>> _n_digits([0.001, 0.003, 0.01], True), _n_digits([0.1, 0.2, 0.4], True)
    (1, 3)
    """
    is_wide = is_log and all(b > 2.5 * a for a, b in pairwise(sorted(grid)))
    return 1 if is_wide and all(value == float(f"{value:.1g}") for value in grid) else 3


def _fit_of_best(best: ConfigResult, configs: Configs) -> Finding:
    """Over- or underfitting of the best config, by training against validation."""
    nothing = _why_it_learns_nothing(best)
    if nothing:
        more = "try other learning rates, more epochs, a larger network, and look at the data"
        return Finding("learns nothing", f"even the best config {nothing}; {more}")
    name = "accuracy" if "train/accuracy" in best.stats else "loss"
    train, validation = best.stats.get(f"train/{name}"), best.stats.get(f"validation/{name}")
    if train is None or validation is None:
        return Finding("fit", f"the best config has no {name} for training and validation")
    others = [stats.mean for config in configs if (stats := config.stats.get(f"train/{name}"))]
    if name == "accuracy":
        reached = max(others)
        over = train.mean - validation.mean > ACCURACY_GAP
        under = reached - train.mean > ACCURACY_GAP
    else:
        reached = min(others)
        over = validation.mean > LOSS_FACTOR * train.mean
        under = train.mean > LOSS_FACTOR * reached
    gap = (
        f"the best config has {name} {format_number(train.mean)} in training, "
        f"{format_number(validation.mean)} in validation"
    )
    if over:
        more = "more data or regularisation (model.dropout, optimizer.weight_decay) may close it"
        return Finding("overfitting", f"{gap}: {more}")
    if under:
        other = f"another config reached {format_number(reached)} in training"
        return Finding("underfitting", f"{gap}; {other}: this one could fit more")
    return Finding("fit", f"neither over- nor underfitting: {gap}")


def _why_it_learns_nothing(best: ConfigResult) -> str | None:
    """Underfitting by an absolute bound, where no config of the sweep is any better."""
    known = {name: stats.mean for name, stats in best.stats.items()}
    accuracy, f1 = known.get("train/accuracy"), known.get("train/f1")
    if accuracy is not None and f1 is not None and _predicts_one_class(accuracy, f1):
        share = f"accuracy {format_number(accuracy)} in training is the share of that class"
        return f"always names one class: {share}"
    for name, least, chance in (("auroc", MIN_AUROC, "0.5"), ("r2", MIN_R2, "0")):
        train = known.get(f"train/{name}", least)
        if train < least:
            constant = f"where {chance} is that of a constant prediction"
            return f"has {name} {format_number(train)} in training, {constant}"
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


def _late_rise(curves: Sequence[Curves]) -> Finding | None:
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
        loss = each["validation/loss"]
        loss = loss[np.isfinite(loss)]
        if len(loss) and loss.min() > 0:
            rises.append(float(loss[-1] / loss.min() - 1))
    return float(np.median(rises)) if rises and isfinite(sum(rises)) else None


def _still_improving(sweep: Sweep, best: ConfigResult) -> Finding | None:
    """Runs that were cut off by their number of epochs while they still improved."""
    done = [run for run in sweep.runs if run.status == "done"]
    late = [run for run in done if _is_late(run, sweep)]
    if not late:
        return None
    n_own, n_late = len(best.done), sum(run in best.done for run in late)
    who = "but not the best config: it is the slow ones that would gain"
    if n_late:
        its = f"{n_late} of its {n_own} runs" if n_own > 1 else "its run"
        who = f"the best config among them ({its})"
    of_all = f"{len(late)} of {len(done)} finished runs had their"
    longest = max(map(_max_epochs, late))
    return Finding(
        "still improving at the end",
        f"{of_all if len(done) > 1 else 'the run had its'} best epoch in the last {LATE:.0%} "
        f"before trainer.max_epochs, {who}; try trainer.max_epochs={2 * longest}",
    )


def _is_late(run: SweepRun, sweep: Sweep) -> bool:
    """Whether it was cut off while it improved; without curves nobody knows by how much."""
    in_tail = (run.manifest.get("best_epoch") or 0) > (1 - LATE) * _max_epochs(run)
    if not in_tail or "trainer.max_epochs" not in run.stop_reason:
        return False
    gain = _late_gain(sweep.curves.get(run.name), sweep.metric, sweep.sign)
    return gain is not None and gain >= MIN_LATE_GAIN


def _max_epochs(run: SweepRun) -> int:
    """How many epochs a run might train."""
    n: int = run.config_value("trainer.max_epochs") or 0
    return n


def _late_gain(curves: Curves | None, metric: str, sign: int) -> float | None:
    """The improvement of the best value so far over the last part of the epochs, as a share.

    >>> loss = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5])
    >>> _late_gain({"validation/loss": loss}, "validation/loss", 1)
    0.5
    """
    if curves is None:
        return None
    values = sign * curves[metric]
    before = len(values) - max(1, round(LATE * len(values)))
    if before < 1 or not np.isfinite(values[:before]).any() or not np.isfinite(values).any():
        return None
    early, best = float(np.nanmin(values[:before])), float(np.nanmin(values))
    return (early - best) / abs(early) if early else None
