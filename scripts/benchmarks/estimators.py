"""The estimators compared with scikit-learn's own networks: one fit, and a search.

Everything is measured in turn, in as many rounds as are asked for; ratios are medians over rounds.
"""

import argparse
import warnings
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import numpy as np
from measuring import Aim, Rates, measure_pairs, ratios, show, versions
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from multilayer import MultilayerClassifier

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults: 64-100-10, 200 rows": {},
    "64-128-64-10, 64 rows": {"hidden_layer_sizes": (128, 64), "batch_size": 64},
    "64-32-10, 32 rows": {"hidden_layer_sizes": (32,), "batch_size": 32},
}


def measured(part: Callable[[], object]) -> tuple[float, float]:
    """The processor's seconds that a call takes in this process, and the seconds that pass."""
    start, passed = process_time(), perf_counter()
    part()
    return process_time() - start, perf_counter() - passed


def fits(rounds: int, n_epochs: int, dtype: Any, n_threads: int | None) -> None:
    """One fit of each network, with no early stopping."""
    rows, classes = load_digits(return_X_y=True)
    rows = rows.astype(dtype)

    def fit(kind: Any, setting: dict[str, Any]) -> tuple[float, float]:
        model = kind(**setting, max_iter=n_epochs, tol=0, n_iter_no_change=n_epochs, random_state=0)
        with threadpool_limits(n_threads):
            return measured(lambda: model.fit(rows, classes))

    threads = "its usual threads" if n_threads is None else "one thread"
    for name, setting in SETTINGS.items():
        print(f"\n{name}, {n_epochs} epochs, {np.dtype(dtype)}, {threads}")
        used, passed = measure_pairs(
            rounds,
            {
                "MultilayerClassifier": lambda own=setting: fit(MultilayerClassifier, own),
                "MLPClassifier": lambda own=setting: fit(MLPClassifier, own),
            },
        )
        show_both(used, passed, most=1.3)


def show_both(used: Rates, passed: Rates, *, most: float) -> None:
    """The processor's seconds and those that passed, with their ratios."""
    for words, seconds in (("processor seconds", used), ("seconds", passed)):
        show({f"{name}, {words}": values for name, values in seconds.items()}, digits=2)
        first, second = seconds.values()
        print(Aim(f"ratio of {words}", ratios(first, second), most, is_most=True))


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(versions("torch", "scikit-learn", "numpy"))
    for kind in (MultilayerClassifier, MLPClassifier):  # what the first fit imports
        kind(max_iter=1).fit(*load_digits(return_X_y=True))
    for dtype in (np.float64, np.float32):
        fits(given.repeats, given.epochs, dtype, n_threads=1)
    fits(given.repeats, given.epochs, np.float64, n_threads=None)


if __name__ == "__main__":
    main()
