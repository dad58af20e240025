"""Real data sets that need no download: they ship with scikit-learn."""

from typing import Any

import torch
from sklearn import datasets

from multilayer.core.errors import unknown_name
from multilayer.data.datamodule import DataModule
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


class BuiltinData(DataModule):
    """One of scikit-learn's data sets.

    Args:
        name: "digits", "breast_cancer", "wine", "iris" or "diabetes".
        split: The arguments of `DataModule`.

    Raises:
        ValueError: For any other name.

    >>> data = BuiltinData(name="iris", split_seed=0)
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
        """Read the set from scikit-learn."""
        task, raw = _TASKS[self.set_name], getattr(datasets, f"load_{self.set_name}")()
        target = torch.from_numpy(raw.target)
        return Table(
            torch.from_numpy(raw.data).float(),
            target.float() if task == "regression" else target.long(),
            Columns(
                features=[str(name) for name in raw.feature_names],
                target="target",
                task=task,
                classes=[str(name) for name in raw.get("target_names", [])],
            ),
        )
