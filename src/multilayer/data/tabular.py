"""A table of the user's own, from a file."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from multilayer.core.errors import quoted
from multilayer.data.batches import prefetch
from multilayer.data.datamodule import DataModule
from multilayer.data.encoding import encode_table, read_frame_like
from multilayer.data.parquet_stream import ParquetStream
from multilayer.data.table import Split, Table, concat_splits
from multilayer.data.table_builder import Float64NeededError, TableBuilder
from multilayer.data.table_files import OtherTypesError
from multilayer.data.table_io import TableFile
from multilayer.data.text_format import Role, TextFormat, plain_name
from multilayer.nn.losses import Task

log = logging.getLogger(__name__)


class TableData(DataModule):
    """The table in a CSV, TSV, Parquet or Arrow file, or in several.

    Args:
        path: The file, or several with wildcards.
        train_path: The same as `path`, for use with the two below.
        validation_path: A file of validation rows; None takes them from the training file.
        test_path: A file of test rows, likewise.
        target: The column to predict; all others are features.
        task: None to follow the target: words, booleans and few distinct integers are classes.
        categorical_columns: Columns of numbers that are categories.
        drop_columns: Columns to leave out.
        group_column: Rows with one value in this column stay in one split.
        missing: What stands for a missing value, besides empty text and the usual words.
        decimal: The decimal mark of numbers that are text.
        thousands: What separates their thousands.
        categorical_encoding: "onehot", or "embedding" for vectors that the network learns.
        stream: Whether the training rows are read while the network trains; for Parquet that is
            larger than memory.
        split: The arguments of `DataModule`.

    Raises:
        ValueError: For arguments that do not go together.
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
        categorical_columns: Sequence[str] = (),
        drop_columns: Sequence[str] = (),
        group_column: str | None = None,
        missing: Sequence[str | float] = (),
        decimal: str = ".",
        thousands: str | None = None,
        categorical_encoding: Literal["onehot", "embedding"] = "onehot",
        stream: bool = False,
        **split: Any,
    ) -> None:
        super().__init__(**split)
        paths = {"train": train_path or path, "validation": validation_path, "test": test_path}
        if paths["train"] is None:
            raise ValueError("path must be given, a file or several with wildcards")
        if group_column is not None and (validation_path or test_path):
            raise ValueError("group_column cannot be combined with files for the splits")
        if stream:
            in_memory = {
                "group_column": group_column,
                "folds": self.split_rule.folds,
                "max_train_rows": self.max_train_rows,
            }
            for name, value in in_memory.items():
                if value is not None:
                    raise ValueError(f"{name}={value} is for tables in memory; leave out stream")
        self.paths: dict[Split, str] = {name: path for name, path in paths.items() if path}  # type: ignore[misc]
        self.target = plain_name(target)
        self.task = task
        self.text = TextFormat(tuple(missing), decimal, thousands)
        self.builder_options: dict[str, Any] = {
            "target": self.target,
            "task": task,
            "categorical_columns": [plain_name(name) for name in categorical_columns],
            "drop_columns": [plain_name(name) for name in drop_columns],
            "group_column": None if group_column is None else plain_name(group_column),
            "text": self.text,
        }
        categories = self.builder_options["categorical_columns"]
        self.roles: dict[str, Role] = dict.fromkeys(categories, "category")
        if task == "regression":
            self.roles[self.target] = "number"
        self.categorical_encoding = categorical_encoding
        self.is_streamed = stream

    def load(self) -> Table:
        """Read the files."""
        table = self._read_training_file()
        tables: dict[Split, Table] = {"train": table}
        for split, other in self.paths.items():
            if split != "train":
                frame, origin = read_frame_like(other, table.columns, self.text)
                tables[split] = encode_table(frame, table.columns, origin)
        return concat_splits(tables) if len(tables) > 1 else table

    def _read_training_file(self) -> Table:
        """Read the file that decides what the columns are; again, if it needs other types."""
        types_from_all = is_wide = False
        roles, known = self.roles, self.known_columns
        if known and known.times is None:  # of an older version, which read labels differently
            labels = [*known.categories, *[known.target] * bool(known.classes)]
            labels.append(self.builder_options["group_column"] or "")
            roles = roles | dict.fromkeys(map(plain_name, labels), "as inferred")
        while True:
            try:
                path = self.paths["train"]
                file = TableFile(path, self.text, roles, types_from_all=types_from_all)
                table = self._read(file, is_wide=is_wide)
            except OtherTypesError:
                types_from_all = True
            except Float64NeededError:
                is_wide = True
            else:
                break
        for label, words in file.spelled_missing.items():
            if label not in table.columns.dropped:
                log.warning(
                    f"{file.name}: {quoted(words)} in column {label!r} counts as a missing value"
                )
        return table

    def _read(self, file: TableFile, *, is_wide: bool) -> Table:
        """Read the training file; of a stream, a sample of its rows.

        Args:
            file: The file.
            is_wide: Whether numbers are kept as float64.
        """
        builder = TableBuilder(
            file.schema,
            **self.builder_options,
            known=self.known_columns,
            name=file.name,
            dtype=np.float64 if is_wide else np.float32,
        )
        if self.is_streamed:
            rule = self.split_rule
            fractions = {n: each for n, each in rule.fractions.items() if n not in self.paths}
            self.stream = ParquetStream(file, fractions, rule.seed)
            rows = self.stream.scan(builder)
            preset = {split: rows[split] for split in fractions}
            return replace(builder.table(), preset_splits=preset)
        for each in file.files:
            n_rows = 0
            for batch in prefetch(file.batches(each)):
                builder.add(batch, name=each.name, rows_before=n_rows)
                n_rows += batch.height
        return builder.table()
