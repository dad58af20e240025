"""Which defaults suit real data: optimizer, rate, schedule, patience, batch size, embeddings, loss.

python scripts/benchmarks/defaults.py [--parts rates batches ...] [--sets digits adult ...]

All built-in sets and the tables of `real_tables.py`, 5 seeds each, trained by sweeps in lockstep. A
number is the mean over the seeds, each with its own split, of the test rows' accuracy, in
regression of R2, both in percent, of the epoch with the smallest validation loss; in brackets their
standard deviation. Candidates are compared with the old defaults, split by split: the mean
difference, with its standard error. The sweeps are kept in `--folder`: the same command goes on
with what is not done.
"""

import argparse
import json
import statistics
import subprocess
import sys
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import config_of, versions
from real_tables import TABLES, fetch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from multilayer.data import Dataset
from multilayer.training.components import make_data

BUILT_IN = ("wine", "iris", "diabetes", "breast_cancer", "digits")

PATIENCE = "callbacks.early_stopping.patience"
SMOOTHING = "loss.label_smoothing"
OLD = [
    "optimizer=adam",
    "scheduler=constant",
    "data.batch_size=64",
    f"{SMOOTHING}=0.05",
    f"{PATIENCE}=10",
]
"""The defaults until 0.1; the loss of regression has no smoothing."""

DECAYED = ["optimizer=adamw", "optimizer.weight_decay=0.1", f"{SMOOTHING}=0.05", f"{PATIENCE}=1000"]
COSINE = [*DECAYED, "scheduler=cosine"]
CHOSEN = [*COSINE, "optimizer.lr=0.003"]
FIXED = ["data.split_seed=${seed}", "logger=none", "compile=false"]

PARTS: dict[str, list[list[str]]] = {
    "old": [OLD],
    "rates": [
        [*DECAYED, "scheduler=constant", "optimizer.lr=0.001,0.003,0.01"],
        [*COSINE, "optimizer.lr=0.001,0.003,0.01,0.03"],
    ],
    "decay": [[*CHOSEN, "optimizer.weight_decay=0,0.01,0.3"]],
    "smoothing": [[*CHOSEN, f"{SMOOTHING}=0,0.1"]],
    "patience": [[*CHOSEN, f"{PATIENCE}=10,20"]],
    "batches": [
        [*CHOSEN, "optimizer.lr=0.003,0.01", f"data.batch_size={size}"]
        for size in (32, 128, 256, 1024)
    ],
    "plr": [
        [*CHOSEN, "model=mlp_plr", "model.frequency_scale=0.01,0.1,1", f"model.d_embedding={width}"]
        for width in (8, 24)
    ],
    "new": [[]],
}
"""Sweeps of each part; the seeds come on top. A later override of a key takes the place of one."""

_AS_THEY_ARE = ("old", "new", "peers")
"""Parts whose scores are shown; of others it is the difference from the old defaults'."""

WITHOUT_PLR = ("digits", "mnist_5k")
"""Pixels: hundreds of numbers, which would be embedded each."""

Scores = dict[str, dict[str, list[float]]]
"""By what was swept and by data set, a score for each seed."""


def words_of(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The overrides for each data set."""
    files = fetch(folder / "tables") if set(names) & set(TABLES) else {}
    found = {name: [f"data={name}"] for name in BUILT_IN}
    for name, path in files.items():
        found[name] = ["data=table", f"data.path='{path.resolve()}'", *TABLES[name].words]
    return {name: found[name] for name in names}


def train(
    folder: Path, words: Sequence[str], swept: Collection[str], n_seeds: int
) -> dict[str, list[float]]:
    """Train a sweep, or what is not done of it; returns the scores, by the values of some keys."""
    command = [sys.executable, "-m", "multilayer", "train", "-m", "hydra/launcher=lockstep"]
    command += [*words, f"seed=range({n_seeds})", *FIXED, f"hydra.sweep.dir={folder}"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    scores: dict[str, list[float]] = {}
    for run in sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name)):
        manifest = json.loads((run / "manifest.json").read_text())
        metrics = json.loads((run / "metrics.json").read_text())["test"]
        score = metrics["r2"] if "r2" in metrics else metrics["accuracy"]
        own = [word for word in manifest["overrides"] if key_of(word) in swept]
        scores.setdefault(in_short(own), []).append(100 * score)
    return scores


def key_of(word: str) -> str:
    """What an override sets."""
    return word.partition("=")[0]


def in_short(words: Sequence[str]) -> str:
    """Overrides without the groups of their keys.

    >>> in_short(["optimizer.lr=0.1", "scheduler=cosine"])
    'lr=0.1 scheduler=cosine'
    """
    return " ".join(f"{key_of(word).rpartition('.')[2]}={word.partition('=')[2]}" for word in words)


def peers(words: Sequence[str], n_seeds: int) -> dict[str, list[float]]:
    """The scores of scikit-learn on the same splits, with its defaults.

    Its networks get what ours get, its trees raw values and codes of categories.
    """
    found: dict[str, list[float]] = {}
    for seed in range(n_seeds):
        data: Dataset = make_data(config_of(*words, f"data.split_seed={seed}"))
        data.setup()
        raw, scaled, target = data.load().features, data.features.numpy(), data.targets.numpy()
        raw = np.asarray(raw, dtype=np.float64)
        kinds = [name in data.columns.categories for name in data.columns.features]
        is_regression = data.columns.task == "regression"
        mlp: Any = MLPRegressor if is_regression else MLPClassifier
        trees: Any = (
            HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
        )
        models = {
            "MLP": (mlp(random_state=seed), scaled),
            "MLP, early_stopping": (mlp(random_state=seed, early_stopping=True), scaled),
            "HistGradientBoosting": (trees(random_state=seed, categorical_features=kinds), raw),
        }
        fitted = np.concatenate([data.rows[split].numpy() for split in ("train", "validation")])
        test = data.rows["test"].numpy()
        for name, (model, features) in models.items():
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
                model.fit(features[fitted], target[fitted])
            score = model.score(features[test], target[test])
            found.setdefault(name, []).append(100 * score)
    return found


def show(title: str, scores: Scores, sets: Sequence[str], old: dict[str, list[float]]) -> None:
    """A table in Markdown: a line for each data set, a column for each candidate.

    Args:
        title: of the table.
        scores: of the candidates.
        sets: the data sets.
        old: the scores of the old defaults, whose differences are shown; if empty, the scores are.
    """
    print(f"\n### {title}\n\n| | {' | '.join(name or 'as it is' for name in scores)} |")
    print(f"| {' | '.join(['---'] * (len(scores) + 1))} |")
    sign = "+" if old else ""
    means: dict[str, list[float]] = {name: [] for name in scores}
    for each in sets:
        cells = []
        for name, own in scores.items():
            values = np.array(own.get(each, [])) - np.array(old.get(each, 0))
            cells.append(_cell(values, is_difference=bool(old)))
            if len(values):
                means[name].append(values.mean())
        print(f"| {each} | {' | '.join(cells)} |")
    cells = [f"{statistics.fmean(own):{sign}.2f}" for own in means.values()]
    print(f"| mean | {' | '.join(cells)} |", flush=True)


def _cell(values: Any, *, is_difference: bool) -> str:
    """The mean, with the standard deviation, or of differences with their standard error."""
    if not len(values):
        return ""
    spread = values.std(ddof=1) / (len(values) ** 0.5 if is_difference else 1)
    return f"{values.mean():{'+' if is_difference else ''}.1f} ({spread:.1f})"


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=[*PARTS, "peers"])
    parser.add_argument("--sets", nargs="+", default=[*BUILT_IN, *TABLES])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("build/defaults"))
    given = parser.parse_args()
    print(versions("torch", "scikit-learn"), flush=True)
    words = words_of(given.folder, given.sets)
    old: dict[str, list[float]] = {}
    for part in dict.fromkeys(["old", *given.parts]):
        scores: Scores = {}
        for name, own in words.items():
            if part == "peers":
                for key, values in peers(own, given.seeds).items():
                    scores.setdefault(key, {})[name] = values
            sweeps = [] if part == "plr" and name in WITHOUT_PLR else PARTS.get(part, [])
            for i, sweep in enumerate(sweeps):
                folder = given.folder / part / f"{name}-{i}"
                by_key = {key_of(word): word for word in [*own, *sweep]}
                swept = {key_of(word) for word in sweep if word not in CHOSEN}
                found = train(folder, [*by_key.values()], swept, given.seeds)
                for key, values in found.items():
                    scores.setdefault(key, {})[name] = values
            print(f"{part}: {name} is done", file=sys.stderr, flush=True)
        show(part, scores, given.sets, {} if part in _AS_THEY_ARE else old)
        if part == "old":
            (old,) = scores.values()


if __name__ == "__main__":
    main()
