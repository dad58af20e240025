"""Which defaults suit real data: optimizer, rate, schedule, patience, batch size, embeddings, loss.

python scripts/benchmarks/defaults.py [--parts rates batches ...] [--sets digits adult ...]

All built-in sets and the tables of `real_tables.py`, 5 seeds each, trained by sweeps in lockstep. A
number is the mean over the seeds of the test rows' accuracy, of R2 in regression, both in percent,
of the epoch with the smallest validation loss; in brackets their standard deviation. The sweeps are
kept in `--folder`: the same command goes on with what is not done.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measuring import config_of, versions
from real_tables import TABLES, fetch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from multilayer.data import Dataset
from multilayer.training.components import make_data

BUILT_IN = ("wine", "iris", "diabetes", "breast_cancer", "digits")

OLD = ("optimizer=adam", "scheduler=constant", "loss.label_smoothing=0.05", "data.batch_size=64")
"""The defaults until 0.1, with a patience of 10; the loss of regression has no smoothing."""

PLAIN = ("optimizer=adamw", "loss.label_smoothing=0", "data.batch_size=64")
COSINE = (*PLAIN, "scheduler=cosine", "optimizer.weight_decay=0.1")
PATIENCE = "callbacks.early_stopping.patience"
FIXED = ("logger=none", "compile=false")

PARTS: dict[str, list[list[str]]] = {
    "old": [[*OLD, f"{PATIENCE}=10"]],
    "rates": [
        [
            *PLAIN,
            "scheduler=constant",
            "optimizer.lr=0.001,0.003,0.01",
            "optimizer.weight_decay=0,0.1",
            f"{PATIENCE}=10,1000",
        ],
        [
            *PLAIN,
            "scheduler=cosine",
            "optimizer.lr=0.001,0.003,0.01,0.03",
            "optimizer.weight_decay=0,0.01,0.1",
            f"{PATIENCE}=1000",
        ],
    ],
    "patience": [[*COSINE, "optimizer.lr=0.003,0.01", f"{PATIENCE}=10,20,30"]],
    "batches": [
        [*COSINE, f"data.batch_size={size}", "optimizer.lr=0.003,0.01,0.03", f"{PATIENCE}=1000"]
        for size in (32, 128, 256, 1024)
    ],
    "smoothing": [
        [*COSINE, "optimizer.lr=0.003,0.01", "loss.label_smoothing=0.05,0.1", f"{PATIENCE}=1000"]
    ],
    "plr": [
        [
            *COSINE,
            "model=mlp_plr",
            f"model.frequency_scale={scale}",
            f"model.d_embedding={width}",
            "optimizer.lr=0.003,0.01",
            f"{PATIENCE}=1000",
        ]
        for scale in (0.01, 0.1, 1)
        for width in (8, 24)
    ],
    "new": [[]],
}
"""Sweeps of each part; the seeds come on top."""

Scores = dict[str, dict[str, list[float]]]
"""By what was swept and by data set, a score for each seed."""


def words_of(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The overrides for each data set."""
    files = fetch(folder / "tables") if set(names) & set(TABLES) else {}
    found = {name: [f"data={name}"] for name in BUILT_IN}
    for name, path in files.items():
        found[name] = ["data=table", f"data.path='{path.resolve()}'", *TABLES[name].words]
    return {name: found[name] for name in names}


def train(folder: Path, words: Sequence[str], n_seeds: int) -> dict[str, list[float]]:
    """Train a sweep, or what is not done of it; returns the scores, by what was swept."""
    seeds = f"seed=range({n_seeds})"
    command = [sys.executable, "-m", "multilayer", "train", "-m", "hydra/launcher=lockstep"]
    command += [*words, seeds, *FIXED, f"hydra.sweep.dir={folder}"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    scores: dict[str, list[float]] = {}
    values = {key_of(word): word for word in words}
    for run in sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name)):
        manifest = json.loads((run / "manifest.json").read_text())
        metrics = json.loads((run / "metrics.json").read_text())["test"]
        score = metrics["r2"] if "r2" in metrics else metrics["accuracy"]
        swept = [word for word in manifest["overrides"] if "," in values.get(key_of(word), "")]
        scores.setdefault(in_short(swept), []).append(100 * score)
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
    config = config_of(*words)
    data: Dataset = make_data(config)
    data.setup()
    is_regression = data.columns.task == "regression"
    raw, target = data.load(), data.targets.numpy()
    kinds = [name in data.columns.categories for name in data.columns.features]
    mlp, trees = (
        (MLPRegressor, HistGradientBoostingRegressor)
        if is_regression
        else (MLPClassifier, HistGradientBoostingClassifier)
    )
    models = {
        mlp.__name__: (lambda seed: mlp(random_state=seed), data.features.numpy()),
        f"{mlp.__name__}, early_stopping": (
            lambda seed: mlp(random_state=seed, early_stopping=True),
            data.features.numpy(),
        ),
        trees.__name__: (
            lambda seed: trees(random_state=seed, categorical_features=kinds),
            np.asarray(raw.features, dtype=np.float64),
        ),
    }
    fit_rows = np.concatenate([data.rows[split].numpy() for split in ("train", "validation")])
    test = data.rows["test"].numpy()
    found: dict[str, list[float]] = {}
    for name, (make, features) in models.items():
        key = name.replace("Classifier", "").replace("Regressor", "")
        for seed in range(n_seeds):
            model = make(seed).fit(features[fit_rows], target[fit_rows])
            found.setdefault(key, []).append(100 * model.score(features[test], target[test]))
    return found


def show(title: str, scores: Scores, sets: Sequence[str]) -> None:
    """A table in Markdown: a line for each candidate, a column for each data set."""
    print(f"\n### {title}\n\n| | {' | '.join(sets)} | mean |")
    print(f"| {' | '.join(['---'] * (len(sets) + 2))} |")
    for name, own in scores.items():
        cells = [_cell(own.get(each)) for each in sets]
        means = [statistics.fmean(own[each]) for each in sets if own.get(each)]
        print(f"| {name or 'as it is'} | {' | '.join(cells)} | {statistics.fmean(means):.2f} |")
    sys.stdout.flush()


def _cell(scores: list[float] | None) -> str:
    """The mean with the standard deviation."""
    if not scores:
        return ""
    return f"{statistics.fmean(scores):.1f} ({statistics.stdev(scores):.1f})"


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
    for part in given.parts:
        scores: Scores = {}
        for name, own in words.items():
            if part == "peers":
                found = peers(own, given.seeds)
                for key, values in found.items():
                    scores.setdefault(key, {})[name] = values
            for i, sweep in enumerate(PARTS.get(part, [])):
                folder = given.folder / part / f"{name}-{i}"
                label = in_short(
                    [each for each in sweep if "," not in each and each not in COSINE[:3]]
                )
                for key, values in train(folder, [*own, *sweep], given.seeds).items():
                    scores.setdefault(f"{label} {key}".strip(), {})[name] = values
            print(f"{part}: {name} is done", file=sys.stderr, flush=True)
        show(part, scores, given.sets)


if __name__ == "__main__":
    main()
