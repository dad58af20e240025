"""Whether the best config lies at the edge of what was swept, and what to try beyond."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from multilayer.reports.configs import ConfigResult
from multilayer.reports.findings.thresholds import EDGE, MAX_FACTOR, Finding
from multilayer.reports.hyperparameters import Hyperparameter, Value, format_value, is_log_key

_SHARES = ("dropout", "momentum", "label_smoothing", "rho", "alpha", "betas", "gamma")
"""Last parts of keys whose values lie between 0 and 1, where nothing can be tried beyond."""


def at_grid_edge(
    best: ConfigResult, hyperparameters: Sequence[Hyperparameter]
) -> Iterator[Finding]:
    """The numbers of the best config that lie at the end of what was swept, with what to try."""
    for each in hyperparameters:
        value = best.values[each.key]
        side = edge_side(each, value)
        if side and value != 0:  # where the range ends by itself
            end = {-1: "smallest", 1: "largest"}[side]
            near = "the" if value in (each.values[0], each.values[-1]) else "near the"
            tries = ",".join(map(format_value, _values_beyond(each, side)))
            more = f"; try {each.key}={tries} too" if tries else ", and nothing lies beyond"
            yield Finding(
                "edge of the grid",
                f"the best {each.key}={format_value(value)} is {near} {end} that was tried{more}",
            )


def edge_side(hyperparameter: Hyperparameter, value: Value) -> int:
    """-1 at the lower edge, 1 at the upper one, 0 between, or where there is no range."""
    if not hyperparameter.is_number or len(hyperparameter.values) < 2:
        return 0
    share = hyperparameter.scaled(value)
    return -1 if share <= EDGE else 1 if share >= 1 - EDGE else 0


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
    grid = [float(value) for value in hyperparameter.values]  # type: ignore[arg-type]
    if side < 0:
        grid.reverse()
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
    ordered = sorted(grid)
    is_wide = is_log and all(b > 2.5 * a for a, b in pairwise(ordered))
    return 1 if is_wide and all(value == float(f"{value:.1g}") for value in grid) else 3
