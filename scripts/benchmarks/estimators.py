"""The estimators compared with scikit-learn's own networks: one fit, and a search.

Everything is measured in turn, in as many rounds as are asked for; ratios are medians over rounds.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor
from measuring import Aim, Rates, measure_pairs, ratios, show, versions
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from multilayer import LockstepSearchCV, MultilayerClassifier

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults: 64-100-10, 200 rows": {},
    "64-128-64-10, 64 rows": {"hidden_layer_sizes": (128, 64), "batch_size": 64},
    "64-32-10, 32 rows": {"hidden_layer_sizes": (32,), "batch_size": 32},
}


def measured(part: Callable[[], object]) -> tuple[float, float]:
    """The processor's seconds that a call takes, and the seconds that pass."""
    start, passed = processor_seconds(), perf_counter()
    part()
    return processor_seconds() - start, perf_counter() - passed


def processor_seconds() -> float:
    """Those of this process and of its children that have ended."""
    both = map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


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


def searches(rounds: int, n_epochs: int, dtype: Any, names: Sequence[str]) -> None:
    """A search over 32 candidates with 5 folds, end to end, without the refit."""
    rows, classes = load_digits(return_X_y=True)
    rows = rows.astype(dtype)
    grid = {
        "learning_rate_init": np.geomspace(1e-4, 3e-2, 8).tolist(),
        "alpha": [1e-5, 1e-4, 1e-2, 1.0],
    }

    def lockstep(setting: dict[str, Any]) -> tuple[float, float]:
        model = MultilayerClassifier(**setting, max_iter=n_epochs, random_state=0)
        search = LockstepSearchCV(model, grid, cv=5, refit=False)
        return measured(lambda: search.fit(rows, classes))

    def one_by_one(setting: dict[str, Any]) -> tuple[float, float]:
        model = MLPClassifier(**setting, max_iter=n_epochs, random_state=0)
        search = GridSearchCV(model, grid, cv=5, n_jobs=2, refit=False)

        def fit() -> None:
            search.fit(rows, classes)
            get_reusable_executor().shutdown(wait=True)  # so that its processor time is known

        return measured(fit)

    for name in names:
        print(f"\nsearch, {name}, at most {n_epochs} epochs, {np.dtype(dtype)}")
        setting = SETTINGS[name]
        used, passed = measure_pairs(
            rounds,
            {
                "GridSearchCV(MLPClassifier, n_jobs=2)": lambda own=setting: one_by_one(own),
                "LockstepSearchCV": lambda own=setting: lockstep(own),
            },
        )
        show_both(used, passed, least=8)


def show_both(used: Rates, passed: Rates, *, most: float | None = None, least: float = 0) -> None:
    """The processor's seconds and those that passed, with their ratios."""
    for words, seconds in (("processor seconds", used), ("seconds", passed)):
        show({f"{name}, {words}": values for name, values in seconds.items()}, digits=2)
        first, second = seconds.values()
        is_most = most is not None
        wanted = least if most is None else most
        print(Aim(f"ratio of {words}", ratios(first, second), wanted, is_most=is_most), flush=True)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--parts", nargs="+", default=["fit", "search"])
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(versions("torch", "scikit-learn", "numpy"))
    for kind in (MultilayerClassifier, MLPClassifier):  # what the first fit imports
        kind(max_iter=1).fit(*load_digits(return_X_y=True))
    if "fit" in given.parts:
        for dtype in (np.float64, np.float32):
            fits(given.repeats, given.epochs, dtype, n_threads=1)
        fits(given.repeats, given.epochs, np.float64, n_threads=None)
    if "search" in given.parts:
        smallest = [*SETTINGS][-1:]
        searches(given.repeats, given.epochs, np.float32, smallest)
        searches(given.repeats, given.epochs, np.float64, [*smallest, *SETTINGS][:3])


if __name__ == "__main__":
    main()
