"""What the benchmarks share: rounds of measurements, how they are shown, and what is aimed at."""

import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

from multilayer.cli.check import check_command_line

Rates = dict[str, list[float]]


def config_of(*overrides: str) -> dict[str, Any]:
    """The config of a training."""
    config = check_command_line("train", overrides)
    assert config is not None
    return config


def versions(*names: str) -> str:
    """The machine's cores and the versions of Python and some packages, in a line."""
    packages = ", ".join(f"{name} {_version_of(name)}" for name in names)
    return f"{os.cpu_count()} CPU cores; Python {platform.python_version()}, {packages}"


def _version_of(name: str) -> str:
    """The version of a package; it may be there by another name."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def measure(rounds: int, parts: dict[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """Each part once a round, so that a slow minute of the machine meets all of them."""
    rates: dict[str, list[Any]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            rates[name].append(part())
    return rates


def measure_pairs(
    rounds: int, parts: dict[str, Callable[[], tuple[float, float]]]
) -> tuple[Rates, Rates]:
    """The same for parts that measure two things."""
    found = measure(rounds, parts)
    first, second = (
        {name: [own[i] for own in each] for name, each in found.items()} for i in (0, 1)
    )
    return first, second


def seconds_of(part: Callable[[], object]) -> float:
    """How long a call takes."""
    start = perf_counter()
    part()
    return perf_counter() - start


def show(rates: Rates, digits: int = 0) -> None:
    """Medians, with the smallest and the largest."""
    for name, values in rates.items():
        print(f"{name:42s} {spread(values, digits)}", flush=True)


def spread(values: list[float], digits: int = 0) -> str:
    """The median, with the smallest and the largest.

    >>> spread([3.0, 1.0, 2.0])
    '         2   (1 to 3)'
    """
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:10,.{digits}f}   ({low:,.{digits}f} to {high:,.{digits}f})"


def ratio(rates: Rates, name: str, peer: str, wanted: float) -> None:
    """The median over rounds of the ratio of two rates, and what it should be at least."""
    print(Aim(f"{name} / {peer}", ratios(rates[name], rates[peer]), wanted))


def ratios(values: list[float], others: list[float]) -> list[float]:
    """The ratio in each round."""
    return [a / b for a, b in zip(values, others, strict=True)]


def median_ratio(values: list[float], others: list[float]) -> float:
    """The median over rounds of a ratio."""
    return statistics.median(ratios(values, others))


@dataclass(frozen=True)
class Aim:
    """A figure that is aimed at; in words it is a line of a table.

    Args:
        name: what it is.
        found: in each round.
        wanted: the least that it should be.
        is_most: whether that is the most instead.
        unit: what follows the numbers.

    >>> str(Aim("64 runs over joblib", [3.0, 4.0, 5.0], 6)).split()[-5:]
    ['5.00)', 'at', 'least', '6', 'MISSED']
    """

    name: str
    found: list[float]
    wanted: float
    is_most: bool = False
    unit: str = ""

    def __str__(self) -> str:
        middle = statistics.median(self.found)
        is_met = middle <= self.wanted if self.is_most else middle >= self.wanted
        words = f"at {'most' if self.is_most else 'least'} {self.wanted:g}{self.unit}"
        least_most = f"({min(self.found):.2f} to {max(self.found):.2f})"
        found = f"{middle:8.2f}{self.unit} {least_most}"
        return f"{self.name:60s} {found:28s} {words}{'' if is_met else '   MISSED'}"
