"""Real data sets that need no download: their files ship with scikit-learn."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from multilayer.core.errors import unknown_name
from multilayer.data.dataset import Dataset
from multilayer.data.table import Columns, Table
from multilayer.nn.losses import Task

_TASKS: dict[str, Task] = {
    "digits": "multiclass",
    "breast_cancer": "binary",
    "wine": "multiclass",
    "iris": "multiclass",
    "diabetes": "regression",
}
"""The data sets, by the names that scikit-learn's `load_*` functions have."""

_FILES = {
    "digits": "digits.csv.gz",
    "breast_cancer": "breast_cancer.csv",
    "wine": "wine_data.csv",
    "iris": "iris.csv",
}
"""The files whose last column is the class."""

_CELLS = [
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
]

_FEATURES: dict[str, list[str]] = {
    "digits": [f"pixel_{row}_{column}" for row in range(8) for column in range(8)],
    "breast_cancer": [
        f.format(each) for f in ("mean {}", "{} error", "worst {}") for each in _CELLS
    ],
    "wine": [
        "alcohol",
        "malic_acid",
        "ash",
        "alcalinity_of_ash",
        "magnesium",
        "total_phenols",
        "flavanoids",
        "nonflavanoid_phenols",
        "proanthocyanins",
        "color_intensity",
        "hue",
        "od280/od315_of_diluted_wines",
        "proline",
    ],
    "iris": [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")],
    "diabetes": ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"],
}
"""The names of the columns, which are not in the files."""


class BuiltinDataset(Dataset):
    """One of scikit-learn's data sets.

    Args:
        name: "digits", "breast_cancer", "wine", "iris" or "diabetes".
        split: The arguments of `Dataset`.

    Raises:
        ValueError: For any other name.

    >>> data = BuiltinDataset(name="iris", split_seed=0)
    >>> data.setup()
    >>> data.columns.classes
    ['setosa', 'versicolor', 'virginica']
    """

    def __init__(self, *, name: str, **split: Any) -> None:
        super().__init__(**split)
        if name not in _TASKS:
            raise ValueError(unknown_name("data set", name, _TASKS))
        self.set_name = name
        self.task = _TASKS[name]

    def load(self) -> Table:
        """Read the set's files, as scikit-learn's `load_*` does."""
        name, task = self.set_name, _TASKS[self.set_name]
        folder = _folder()
        classes: list[str] = []
        if name == "diabetes":
            features = np.loadtxt(folder / "diabetes_data_raw.csv.gz")
            features = (features - features.mean(axis=0)) / features.std(axis=0)
            features /= len(features) ** 0.5
            target = np.loadtxt(folder / "diabetes_target.csv.gz")
        else:
            path, is_digits = folder / _FILES[name], name == "digits"
            rows = pl.read_csv(path, has_header=False, skip_rows=not is_digits).to_numpy()
            features = np.ascontiguousarray(rows[:, :-1], dtype=float)
            target = rows[:, -1]
            # The first line of the others has the numbers of rows and features, then the classes.
            classes = [*"0123456789"] if is_digits else path.read_text().split()[0].split(",")[2:]
        return Table(
            torch.from_numpy(features).float(),
            torch.from_numpy(target).to(torch.float32 if task == "regression" else torch.int64),
            Columns(_FEATURES[name], target="target", task=task, classes=classes, times={}),
        )


def _folder() -> Path:
    """Where scikit-learn has its data sets; importing it takes half a second."""
    package: Any = find_spec("sklearn")
    return Path(package.origin).parent / "datasets" / "data"
