"""What a sweep varied: hyperparameters, their values, and whether those are spaced by factors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SEED_KEYS = ("seed", "data.shuffle_seed", "data.split_seed", "data.fold")
"""Keys that nobody tunes: runs that differ in these alone repeat one config."""

LARGEST = 1e100
"""Numbers above this one, and below its inverse, are treated as text: squaring them overflows."""

_LABELS = {
    "optimizer.lr": "learning rate",
    "data.batch_size": "batch size (rows)",
    "data.max_train_rows": "training rows",
    "trainer.max_epochs": "epochs at most",
    "trainer.gradient_clip_val": "largest norm of the gradient",
    "model.d_hidden": "hidden units",
}
"""Axis labels of keys whose last part does not explain itself."""

_LOG_NAMES = ("lr", "weight_decay", "eps", "batch_size", "d_hidden", "d_embedding")
"""Last parts of keys that people think of in factors; so are counts, `n_*`."""

_CLOSE = 1.5
"""Two values less than this factor apart are on a linear axis, whatever their key."""

EDGE = 0.05
"""Share of the swept range: a best value this close to its end is on the edge. Of a grid of up to
20 values these are the first and the last; a search that draws values has no exact last one."""

_N_BINS = 4
"""Ranges of equal counts into which the many numbers that a search draws are put."""

Value = float | int | bool | str | None


@dataclass(frozen=True)
class Hyperparameter:
    """A key that was swept.

    Attributes:
        key: The dotted key.
        values: Its distinct values in order: numbers ascending, then lists (as text), then text.
        is_number: Whether all values are numbers.
        is_log: Whether the numbers are spaced by factors rather than by equal steps.
    """

    key: str
    values: tuple[Value, ...]
    is_number: bool
    is_log: bool

    @classmethod
    def from_runs(cls, key: str, values: Sequence[Any]) -> "Hyperparameter":
        """The hyperparameter at `key`, from the value of each run."""
        distinct = tuple(dict.fromkeys(as_value(value) for value in sorted(values, key=_sort_key)))
        all_numbers = all(is_number(value) for value in distinct)
        return cls(key, distinct, all_numbers, all_numbers and _is_log(key, distinct))

    @property
    def label(self) -> str:
        """The name on an axis or in a legend."""
        return _LABELS.get(self.key, self.key.rpartition(".")[2].replace("_", " "))

    def axis_position(self, value: Value) -> float:
        """Where a value is on an axis: text by index; 0 on a log axis one step left of the rest."""
        if not self.is_number:
            return float(self.values.index(value))
        number = float(value)  # type: ignore[arg-type]
        if self.is_log and number == 0:
            positive = [float(other) for other in self.values if other]
            return positive[0] ** 2 / positive[1]
        return number

    def scaled(self, value: Value) -> float:
        """The position between the first value, 0, and the last, 1; 0.5 where there is only one."""
        ends = [self.axis_position(each) for each in (self.values[0], self.values[-1], value)]
        first, last, here = np.log(ends) if self.is_log else ends
        return float((here - first) / (last - first)) if last > first else 0.5

    def edge_side(self, value: Value) -> int:
        """-1 at the lower edge, 1 at the upper one, 0 between, or where there is no range."""
        if not self.is_number or len(self.values) < 2:
            return 0
        share = self.scaled(value)
        return -1 if share <= EDGE else 1 if share >= 1 - EDGE else 0

    def bins(self) -> dict[str, list[Value]]:
        """The values by name, each alone; many numbers in `_N_BINS` ranges."""
        if not self.is_number or len(self.values) <= 3 * _N_BINS:
            return {format_value(value): [value] for value in self.values}
        parts = [list(each) for each in np.array_split(np.array(self.values, object), _N_BINS)]
        return {f"{format_value(each[0])} to {format_value(each[-1])}": each for each in parts}


def as_value(value: Any) -> Value:
    """A value that can be compared and hashed: lists, and numbers beyond `LARGEST`, become text."""
    is_plain = value is None or isinstance(value, bool | str) or is_number(value)
    return value if is_plain else format_value(value)


def as_column(values: Sequence[Any]) -> list[Any]:
    """Values of one type, for a table: all `int`, all `float`, or all text; None stays None."""
    known = [as_value(value) for value in values if value is not None]
    convert: Any = format_value
    if all(is_number(value) for value in known):
        is_whole = all(isinstance(value, int) and abs(value) < 2**63 for value in known)
        convert = int if is_whole else float
    return [None if value is None else convert(value) for value in values]


def format_value(value: Any) -> str:
    """A value as one would write it in an override.

    >>> format_value(0.0001), format_value([128, 64]), format_value(None), format_value(True)
    ('0.0001', '[128,64]', 'null', 'true')
    """
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(format_value(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Whether a value is a number that an axis can show.

    >>> is_number(0), is_number(1e-3), is_number(float("nan")), is_number(10**400), is_number(True)
    (True, True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == 0 or 1 / LARGEST <= abs(value) <= LARGEST


def is_log_key(key: str) -> bool:
    """Whether people think of a key in factors, as of learning rates and counts."""
    name = key.rpartition(".")[2]
    return name in _LOG_NAMES or name.endswith("_lr") or name.startswith("n_")


def _sort_key(value: Any) -> tuple[int, Any]:
    """Sorts numbers before lists before text."""
    if is_number(value):
        return 0, value
    if isinstance(value, (list, tuple)):
        return 1, [(0, item) if is_number(item) else (1, str(item)) for item in value]
    return 2, format_value(value)


def _is_log(key: str, values: Sequence[Any]) -> bool:
    """Whether sorted values are closer to equal factors than to equal steps; one of them may be 0.

    Two positive values are if they are a factor of ten apart, or people think of their key so.

    >>> _is_log("optimizer.lr", [0.1, 0.3]), _is_log("model.dropout", [0.1, 0.3])
    (True, False)
    >>> _is_log("x", [1e-3, 1e-2, 1e-1]), _is_log("x", [0, 0.1]), _is_log("x", [0, 1e-4, 1e-2])
    (True, False, True)
    """

    def unevenness(points: Any) -> float:
        steps = np.diff(points)
        return float(steps.std() / steps.mean())

    ordered = np.array(values, dtype=float)
    positive = ordered[ordered > 0]
    if len(positive) < max(2, len(ordered) - 1) or ordered[0] < 0:
        return False
    if len(positive) == 2:
        least = _CLOSE if len(ordered) == 2 and is_log_key(key) else 10
        return bool(positive[1] >= least * positive[0])
    return unevenness(np.log(positive)) < unevenness(ordered)
