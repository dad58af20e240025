"""A table of the user's own, from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from multilayer.data.datamodule import DataModule
from multilayer.data.table import Table, table_from_frame
from multilayer.frames import read_frame
from multilayer.losses import Task


class TableData(DataModule):
    """The table in a CSV, TSV, Parquet or Arrow file, or in several.

    See `DataModule` for the other arguments.

    path: the file, or several with wildcards.
    target: the column to predict; all others are features.
    task: None to follow the target: words, booleans and few distinct integers are classes.
    categorical: columns that are categories though they hold numbers.
    drop: columns to leave out.
    categories: "onehot", or "embedding" for vectors that the network learns.
    """

    def __init__(
        self,
        *,
        path: str,
        target: str,
        task: Task | None = None,
        categorical: Sequence[str] = (),
        drop: Sequence[str] = (),
        categories: Literal["onehot", "embedding"] = "onehot",
        **split: Any,
    ) -> None:
        super().__init__(**split)
        self.path = Path(path)
        self.target = target
        self.task = task
        self.categorical = categorical
        self.drop = drop
        self.categories = categories

    def load(self) -> Table:
        """Read the file."""
        frame = read_frame(self.path)
        return table_from_frame(
            frame,
            target=self.target,
            task=self.task,
            categorical=self.categorical,
            drop=self.drop,
            name=self.path.name,
        )
