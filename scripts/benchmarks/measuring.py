"""What the benchmarks share: rounds of measurements, and how they are shown."""

import os
import platform
import statistics
from collections.abc import Callable
from importlib.metadata import version
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
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{os.cpu_count()} CPU cores; Python {platform.python_version()}, {packages}"


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


def show(rates: Rates, digits: int = 0) -> None:
    """Medians, with the smallest and the largest."""
    for name, values in rates.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:42s} {middle:10,.{digits}f}   ({low:,.{digits}f} to {high:,.{digits}f})")


def ratio(rates: Rates, name: str, peer: str, wanted: float) -> None:
    """The median over rounds of the ratio of two rates, and what it should be at least."""
    found = median_ratio(rates[name], rates[peer])
    print(f"{name + ' / ' + peer:62s} {found:6.2f}   (at least {wanted:g})")


def median_ratio(values: list[float], others: list[float]) -> float:
    """The median over rounds of a ratio."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))
