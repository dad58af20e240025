"""What was swept: the settings, their levels, and whether they were spaced by factors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

REPLICATES = ("seed", "data.shuffle_seed", "data.split_seed", "data.fold")
"""Keys that nobody tunes: runs that differ in them alone are repetitions of one config."""

NAMES = {
    "optimizer.lr": "learning rate",
    "data.batch_size": "batch size (rows)",
    "data.train_rows": "training rows",
    "trainer.max_epochs": "epochs at most",
    "trainer.gradient_clip_val": "largest norm of the gradient",
    "model.d_hidden": "hidden units",
}
"""How an axis is called, where the key does not say it by itself."""

BY_FACTORS = ("lr", "weight_decay", "eps", "batch_size", "d_hidden", "d_embedding")
"""The last part of keys that people think of in factors; so are counts, `n_*`."""

CLOSE = 1.5
"""The factor below which two values are close enough for steps, whatever they are."""

MOST = 1e100
"""Larger numbers, and smaller ones than its inverse, are words: their squares are no numbers."""

Level = float | int | bool | str | None


@dataclass(frozen=True)
class Setting:
    """A key that was swept.

    levels: its values in order, numbers from low to high, lists as words.
    is_log: whether the numbers are spaced by factors rather than by steps.
    """

    key: str
    levels: tuple[Level, ...]
    is_number: bool
    is_log: bool

    @property
    def label(self) -> str:
        """For an axis or a legend."""
        return NAMES.get(self.key, self.key.rpartition(".")[2].replace("_", " "))

    def place(self, level: Level) -> float:
        """Where a level is on an axis: words in a row; 0 on a log axis a step left of the rest."""
        if not self.is_number:
            return float(self.levels.index(level))
        value = float(level)  # type: ignore[arg-type]
        if self.is_log and value == 0:
            positive = [float(other) for other in self.levels if other]
            return positive[0] ** 2 / positive[1]
        return value


def make_setting(key: str, values: Sequence[Any]) -> Setting:
    """A setting from the values that the runs have."""
    levels = tuple(dict.fromkeys(as_level(value) for value in sorted(values, key=order)))
    numbers = [level for level in levels if is_number(level)]
    all_numbers = len(numbers) == len(levels)
    return Setting(key, levels, all_numbers, all_numbers and is_spaced_by_factors(key, numbers))


def as_level(value: Any) -> Level:
    """A value that can be compared and is one word: lists become one, and what has no place."""
    is_plain = value is None or isinstance(value, bool | str) or is_number(value)
    return value if is_plain else word(value)


def word(value: Any) -> str:
    """A value as one would write it in an override.

    >>> word(0.0001), word([128, 64]), word(None), word(True)
    ('0.0001', '[128,64]', 'null', 'true')
    """
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(word(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Whether it has a place on an axis of numbers.

    >>> is_number(0), is_number(1e-3), is_number(float("nan")), is_number(10**400), is_number(True)
    (True, True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == 0 or 1 / MOST <= abs(value) <= MOST


def order(value: Any) -> tuple[int, Any]:
    """Sorts numbers before lists before words."""
    if is_number(value):
        return 0, value
    if isinstance(value, (list, tuple)):
        return 1, [(0, item) if is_number(item) else (1, str(item)) for item in value]
    return 2, word(value)


def is_spaced_by_factors(key: str, levels: Sequence[Any]) -> bool:
    """Whether an axis of a setting is a log one: by its levels, or where two say little, its key.

    >>> is_spaced_by_factors("optimizer.lr", [0.1, 0.3])
    True
    >>> is_spaced_by_factors("model.dropout", [0.1, 0.3])
    False
    """
    if len(levels) == 2 and min(levels) > 0 and is_usually_by_factors(key):
        return bool(max(levels) >= CLOSE * min(levels))
    return is_geometric(levels)


def is_usually_by_factors(key: str) -> bool:
    """Whether people think of a key in factors, as of learning rates and counts."""
    name = key.rpartition(".")[2]
    return name in BY_FACTORS or name.endswith("_lr") or name.startswith("n_")


def is_geometric(levels: Iterable[Any]) -> bool:
    """Whether levels are closer to equal factors than to equal steps; a 0 beside them may be.

    Two levels are, if they are a factor of ten apart.

    >>> is_geometric([1e-3, 1e-2, 1e-1]), is_geometric([0, 0.1, 0.2]), is_geometric([0, 1e-4, 1e-2])
    (True, False, True)
    """
    values = np.array(sorted(levels), dtype=float)
    positive = values[values > 0]
    if len(positive) < 2 or len(positive) < len(values) - 1 or values[0] < 0:
        return False
    if len(positive) == 2:
        return bool(positive[1] >= 10 * positive[0])
    return uneven(np.log(positive)) < uneven(values)


def uneven(values: Any) -> float:
    """How much the steps between sorted values differ: their standard deviation over their mean."""
    steps = np.diff(values)
    return float(steps.std() / steps.mean())
