"""A table of the user's own, from a file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from multilayer.core.errors import UserError, quoted
from multilayer.core.text import counted, override_word
from multilayer.data.batches import prefetch
from multilayer.data.dataset import Dataset
from multilayer.data.origin import Origin
from multilayer.data.parquet_stream import ParquetStream
from multilayer.data.rows import Rows, frame_of
from multilayer.data.table import Columns, Split, Table, concat_splits
from multilayer.data.table_builder import Float64NeededError, TableBuilder, encode_table
from multilayer.data.table_files import TextFile, check_input
from multilayer.data.table_io import TableFile, read_frame
from multilayer.data.text_format import Role, TextFormat, label_indices, labels_as_text, plain_name
from multilayer.nn.losses import Task

log = logging.getLogger(__name__)


class TableDataset(Dataset):
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
        split: "time" for a test split of the newest rows and a validation split of the next
            newest; None divides at random.
        time: The column of numbers, dates or times that says which rows are the newest.
        split_column: A column that names the split of each row.
        group_column: Rows with one value in this column stay in one split.
        weight: A column that says how much each row counts in the loss and the metrics.
        missing: What stands for a missing value, besides empty text and the usual words.
        decimal: The decimal mark of numbers that are text.
        thousands: What separates their thousands.
        categorical_encoding: "onehot", or "embedding" for vectors that the network learns.
        stream: Whether the training rows are read while the network trains; for Parquet that is
            larger than memory.
        options: The arguments of `Dataset`.

    Raises:
        ValueError: For arguments that do not go together.

    >>> import tempfile
    >>> rows = {"size": range(40), "rooms": [1, 2] * 20, "price": [100.5 + n for n in range(40)]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pl.DataFrame(rows).write_csv(f"{folder}/flats.csv")
    ...     data = TableDataset(path=f"{folder}/flats.csv", target="price")
    ...     data.setup()
    >>> data.describe()
    'train 28, validation 6, test 6 rows; 2 numbers; regression'
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
        split: Literal["time"] | None = None,
        time: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        weight: str | None = None,
        missing: Sequence[str | float] = (),
        decimal: str = ".",
        thousands: str | None = None,
        categorical_encoding: Literal["onehot", "embedding"] = "onehot",
        stream: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        paths = {"train": train_path or path, "validation": validation_path, "test": test_path}
        if paths["train"] is None:
            raise ValueError("path must be given, a file or several with wildcards")
        if (split is None) != (time is None):
            needed = f"time={time} needs split=time" if time else "split=time needs time=COLUMN"
            raise ValueError(needed)
        others = {
            "split_column": split_column,
            "group_column": group_column,
            "folds": self.split_rule.folds,
            "validation_path": validation_path,
            "test_path": test_path,
            "stream": stream or None,
        }
        _check_one_split({"time": time} | others)
        _check_one_split(others)
        if group_column is not None and (validation_path or test_path):
            raise ValueError("group_column cannot be combined with files for the splits")
        if stream:
            in_memory = {
                "group_column": group_column,
                "folds": self.split_rule.folds,
                "max_train_rows": self.max_train_rows,
                "weight": weight,
            }
            for name, value in in_memory.items():
                if value is not None:
                    raise ValueError(f"{name}={value} is for tables in memory; leave out stream")
        self._training_key = "data.train_path" if train_path else "data.path"
        self.paths: dict[Split, str] = {name: path for name, path in paths.items() if path}  # type: ignore[misc]
        self.target = plain_name(target)
        self.task = task
        self.text = TextFormat(tuple(missing), decimal, thousands)
        self.builder_options: dict[str, Any] = {
            "target": self.target,
            "task": task,
            "categorical_columns": [plain_name(name) for name in categorical_columns],
            "drop_columns": [plain_name(name) for name in drop_columns],
            "group_column": _plain(group_column),
            "time": _plain(time),
            "split_column": _plain(split_column),
            "weight": _plain(weight),
            "text": self.text,
        }
        categories = self.builder_options["categorical_columns"]
        self.roles: dict[str, Role] = dict.fromkeys(categories, "category")
        if task == "regression":
            self.roles[self.target] = "number"
        for name in filter(None, (time, weight)):
            self.roles[plain_name(name)] = "number"
        self.categorical_encoding = categorical_encoding
        self.is_streamed = stream

    def load(self) -> Table:
        """Read the files."""
        for split, path in self.paths.items():
            key = self._training_key if split == "train" else f"data.{split}_path"
            check_input(path, key if self.known_columns is None else None)
        table = self._read_training_file()
        tables: dict[Split, Table] = {"train": table}
        for split, other in self.paths.items():
            if split != "train":
                frame, origin = read_frame_like(other, table.columns, self.text)
                tables[split] = encode_table(frame, table.columns, origin)
        return concat_splits(tables) if len(tables) > 1 else table

    def _read_training_file(self) -> Table:
        """Read the file that decides what the columns are."""
        roles, known = self.roles, self.known_columns
        if known and known.times is None:  # of an older version, which read labels differently
            labels = [*known.columns_of_words, self.builder_options["group_column"] or ""]
            roles = roles | dict.fromkeys(labels, "as inferred")
        return TableFile.read(self._build, self.paths["train"], self.text, roles)

    def _build(self, file: TableFile) -> Table:
        """The table in the training file."""
        try:
            table = self._read(file, np.float32)
        except Float64NeededError:
            table = self._read(file, np.float64)
        for label, words in file.spelled_missing.items():
            if label not in table.columns.dropped:
                log.warning(
                    f"{file.name}: {quoted(words)} in column {label!r} counts as a missing value"
                )
        return table

    def _read(self, file: TableFile, dtype: type[np.floating[Any]]) -> Table:
        """Read the training file; of a stream, a sample of its rows.

        Args:
            file: The file.
            dtype: Of its numbers.
        """
        options = {**self.builder_options, "known": self.known_columns, "name": file.name}
        builder = TableBuilder(file.schema, dtype=dtype, **options)
        if self.is_streamed:
            rule = self.split_rule
            fractions = {n: each for n, each in rule.fractions.items() if n not in self.paths}
            self.stream = ParquetStream(file, fractions, rule.seed)
            rows = self.stream.scan(builder)
            preset = {split: rows[split] for split in fractions}
            return replace(builder.table(), preset_splits=preset)
        for each in file.files:
            for batch in prefetch(file.batches(each)):
                builder.add(batch, file=each)
        return builder.table()


def _plain(name: str | None) -> str | None:
    """The plain name of a column, if there is one."""
    return None if name is None else plain_name(name)


def _check_one_split(ways: Mapping[str, str | int | None]) -> None:
    """Raise `ValueError` if the first of these is given, which decides the split, and others too.

    >>> _check_one_split({"time": "day", "folds": 5, "test_path": None})
    Traceback (most recent call last):
    ValueError: time=day decides the split, and cannot be combined with folds=5
    """
    (name, column), *others = ways.items()
    also = [override_word(key, value) for key, value in others if value is not None]
    if column is not None and also:
        raise ValueError(
            f"{name}={column} decides the split, and cannot be combined with {', '.join(also)}"
        )


def read_frame_like(rows: Rows, columns: Columns, text: TextFormat) -> tuple[pl.DataFrame, Origin]:
    """Read other rows than those of the training, with their columns read as in training.

    Warns of a categorical column of which no label is known.

    Args:
        rows: A file, or several with wildcards, or rows in memory.
        columns: As they were in training.
        text: How values were written in training.

    Raises:
        UserError: As `read_frame` and `frame_of` do, and where there are no rows.
    """
    path: str | Path
    if isinstance(rows, str | Path):
        given, path = None, rows
    else:
        given, path = frame_of(rows, columns.features)
    frame, origin = read_frame(path, text, columns.roles(text), given)
    empty = [name.strip() for name, labels in columns.categories.items() if "" in labels]
    if empty and given is None and TextFile.of(check_input(path)[0]):
        log.warning(
            f"{origin.name}: {quoted(empty)}: empty values count as a label, as in training"
        )
        frame = frame.with_columns(pl.col(each).fill_null("") for each in empty)
    if frame.height == 0:
        raise UserError(f"{origin.name} has {'a header and ' * (given is None)}no rows")
    names = [*columns.features, columns.target]  # older runs kept the spaces around them
    frame = frame.rename({name.strip(): name for name in names}, strict=False)
    for label, labels in columns.categories.items():
        if label in frame.columns:
            _warn_of_unknown_labels(frame[label], labels, origin.name)
    return frame, origin


def _warn_of_unknown_labels(column: pl.Series, labels: Sequence[str], name: str) -> None:
    """Warn where training knew none of a categorical column's values.

    Also where one is a label of the training except for leading zeros, which may be a mistake.
    """
    found = labels_as_text(column.unique().sort()).drop_nulls()
    unknown = found.filter(label_indices(found, labels).is_null()).to_list()
    bare = {label.lstrip("0"): label for label in labels if label.isdigit()}
    near = [word for word in unknown if word.lstrip("0") in bare]
    said = f"{name}: column {column.name!r} holds "
    if unknown and len(unknown) == len(found):
        known = f"{counted(len(labels), 'label')} of the training: {quoted(labels, 3)}"
        log.warning(f"{said}{quoted(unknown, 3)}, none of which is among the {known}")
    elif near:
        label = bare[near[0].lstrip("0")]
        log.warning(f"{said}{near[0]!r}, which is not the label {label!r} of the training")
