"""A table of the user's own, from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from multilayer.data.datamodule import DataModule
from multilayer.data.table import Split, Table, joined, read_table, table_from_frame
from multilayer.frames import read_frame
from multilayer.losses import Task


class TableData(DataModule):
    """The table in a CSV, TSV, Parquet or Arrow file, or in several.

    See `DataModule` for the other arguments.

    path: the file, or several with wildcards.
    train_path, validation_path, test_path: files of splits; what is not given is divided off the
        training rows. `train_path` is another word for `path`.
    target: the column to predict; all others are features.
    task: None to follow the target: words, booleans and few distinct integers are classes.
    categorical: columns that are categories though they hold numbers.
    drop: columns to leave out.
    group: rows with one value in this column stay together when rows are divided.
    categories: "onehot", or "embedding" for vectors that the network learns.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        target: str,
        task: Task | None = None,
        categorical: Sequence[str] = (),
        drop: Sequence[str] = (),
        group: str | None = None,
        categories: Literal["onehot", "embedding"] = "onehot",
        **split: Any,
    ) -> None:
        super().__init__(**split)
        paths = {"train": train_path or path, "validation": validation_path, "test": test_path}
        if paths["train"] is None:
            raise ValueError("path must be given, a file or several with wildcards")
        if group is not None and (validation_path or test_path):
            raise ValueError("group is for rows that are divided, and there are files of splits")
        self.paths: dict[Split, str] = {name: path for name, path in paths.items() if path}  # type: ignore[misc]
        self.target = target
        self.task = task
        self.categorical = categorical
        self.drop = drop
        self.group = group
        self.categories = categories

    def load(self) -> Table:
        """Read the files."""
        path = self.paths["train"]
        table = table_from_frame(
            read_frame(path),
            target=self.target,
            task=self.task,
            categorical=self.categorical,
            drop=self.drop,
            group=self.group,
            name=Path(path).name,
        )
        tables: dict[Split, Table] = {"train": table}
        for split, other in self.paths.items():
            if split != "train":
                tables[split] = read_table(read_frame(other), table.columns, Path(other).name)
        return joined(tables) if len(tables) > 1 else table
