"""A frame as tensors, where the columns are known: labels and classes become their indices."""

import logging
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from multilayer.core.errors import UserError, quoted
from multilayer.data.column_types import is_number, labels_as_text
from multilayer.data.numerics import Float64s, Floats, to_float64
from multilayer.data.stray_strings import raise_stray_string
from multilayer.data.table import Columns, Table
from multilayer.data.table_files import Origin, check_input, separator_of
from multilayer.data.table_io import read_frame
from multilayer.data.text_format import KINDS, WORDS, TextFormat, is_spelled_missing, kind_of

log = logging.getLogger(__name__)

_VALUE = r"^(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|(?i:true|false))$"
"""A number or a boolean as a label. With zeros before it, it is a label of another kind."""


def read_frame_like(
    path: str | Path, columns: Columns, text: TextFormat
) -> tuple[pl.DataFrame, Origin]:
    """Read a file other than the training file, with its columns read as in training.

    Warns of a categorical column of which no label is known.

    Args:
        path: The file, or several with wildcards.
        columns: As they were in training.
        text: How values were written in training.

    Raises:
        UserError: As `read_frame` does, and for a file without rows.
    """
    frame, origin = read_frame(path, text, columns.roles(text))
    empty = [name.strip() for name, labels in columns.categories.items() if "" in labels]
    if empty and separator_of(check_input(path)[0]):
        log.warning(
            f"{origin.name}: {quoted(empty)}: empty values count as a label, as in training"
        )
        frame = frame.with_columns(pl.col(each).fill_null("") for each in empty)
    if frame.height == 0:
        raise UserError(f"{origin.name} has a header and no rows")
    names = [*columns.features, columns.target]  # older runs kept the spaces around them
    frame = frame.rename({name.strip(): name for name in names}, strict=False)
    for label, labels in columns.categories.items():
        if label in frame.columns:
            _warn_of_unknown_labels(frame[label], labels, origin.name)
    return frame, origin


def encode_table(frame: pl.DataFrame, columns: Columns, origin: Origin) -> Table:
    """A frame as a table whose columns are known; additional columns are ignored.

    Raises:
        UserError: For a missing column and a value that does not fit.
    """
    if columns.target not in frame.columns:
        raise UserError(f"{origin.name} has no column {columns.target!r}, the target")
    return Table(
        encode_features(frame, columns, origin),
        encode_target(frame[columns.target], columns, origin),
        columns,
        origin=origin,
    )


def encode_features(frame: pl.DataFrame, columns: Columns, origin: Origin) -> Tensor:
    """The features as `(N, D)` float64, as in `Table`.

    Raises:
        UserError: For a missing column, words where numbers belong, and an infinite value.
    """
    missing = [label for label in columns.features if label not in frame.columns]
    if missing:
        raise UserError(f"{origin.name} lacks {quoted(missing)}; it has {quoted(frame.columns)}")
    matrix = np.empty((frame.height, len(columns.features)))
    for position, label in enumerate(columns.features):
        labels = columns.categories.get(label)
        if labels is None:
            matrix[:, position] = _encode_numbers(frame[label], columns.times, origin)
        else:
            matrix[:, position] = encode_labels(frame[label], labels)
    return torch.from_numpy(matrix)


def encode_target(target: pl.Series, columns: Columns, origin: Origin) -> Tensor:
    """The target as `(N,)`: class indices (int64) or values (float64).

    Raises:
        UserError: For a missing value and for a class or word that training did not know.
    """
    check_none_missing(target, origin)
    if columns.task == "regression":
        return torch.from_numpy(_encode_numbers(target, {}, origin, "the target").copy())
    distinct = target.unique()
    words = pl.Series([str(value) for value in distinct.to_list()], dtype=pl.String)
    codes = _label_indices(words, columns.classes).fill_null(-1)
    found = target.replace_strict(distinct, codes, return_dtype=pl.Int64)
    unknown = (found < 0).arg_true()
    if len(unknown):
        name, row = origin.find(unknown[0])
        raise UserError(
            f"{name}: the target {target.name!r} is {str(target[unknown[0]])!r} in row {row}, "
            f"none of the classes {quoted(columns.classes)}"
        )
    return found.to_torch()


def encode_labels(column: pl.Series, labels: Sequence[str]) -> Floats:
    """A categorical column as the indices of its labels in float32, NaN where one is missing.

    An unknown label has the index `len(labels)`. What spells out a missing value is one, unless
    it was a label in training.
    """
    words = labels_as_text(column)
    codes = _label_indices(words, labels)
    unknown = words.filter(codes.is_null()).unique().drop_nulls().to_frame("word")
    spelled = unknown.filter(is_spelled_missing(pl.col("word")))["word"]
    is_missing = words.is_null() | words.is_in(spelled.implode())
    numbers = codes.fill_null(len(labels)).cast(pl.Float32).to_numpy()
    return np.where(is_missing.to_numpy(), np.float32("nan"), numbers)


def check_none_missing(target: pl.Series, origin: Origin, what: str | None = None) -> None:
    """Check that no target is missing.

    Args:
        target: Of all rows.
        origin: Of the rows.
        what: What a message calls it, if it is not the target.

    Raises:
        UserError: With the first such row.
    """
    if target.dtype.is_float() and np.isnan(target.to_numpy()).any():
        target = target.fill_nan(None)
    if target.null_count():
        name, row = origin.find(target.is_null().arg_true()[0])
        what = what or f"the target {target.name!r}"
        raise UserError(f"{name}: {what} is missing in row {row}")


def check_finite(values: Floats, label: str, origin: Origin, what: str = "column") -> None:
    """Check that no value of a column `(B,)` is infinite.

    Raises:
        UserError: With the first such row.
    """
    rows = np.flatnonzero(np.isinf(values))
    if rows.size:
        name, row = origin.find(int(rows[0]))
        raise UserError(
            f"{name}: {what} {label!r} is infinite in row {row}, or beyond "
            "1.8e308, the largest float64; correct it, "
            + ("or leave out the row" if what == "the target" else "or leave it empty if missing")
        )


def _encode_numbers(
    column: pl.Series, times: Mapping[str, str] | None, origin: Origin, what: str = "column"
) -> Float64s:
    """A column of numbers or times as `(N,)`.

    Args:
        column: The column.
        times: The kind of each column that is not "numbers"; an older run does not know it, or
            not whether its dates had a time zone.
        origin: Of the rows.
        what: What a message calls it.

    Raises:
        UserError: If it is of another kind than in training, or has an infinite value.
    """
    expected, found = (times or {}).get(column.name, "numbers"), str(column.dtype)
    is_empty = column.null_count() == len(column)  # such a column is read as text
    if column.dtype in WORDS and not is_empty:
        raise_stray_string(column, expected, origin, what)
    if is_number(column.dtype):
        found = kind_of(column.dtype)
        is_empty |= times is None or found.startswith(expected)
    if not is_empty:
        todo = f"; write {expected} as {KINDS[expected].example}" if expected in KINDS else ""
        raise UserError(
            f"{origin.name}: {what} {column.name!r} must hold {expected}, as in training, found "
            f"{found}{todo}"
        )
    values = to_float64(column)
    check_finite(values, column.name, origin, what)
    return values


def _label_indices(words: pl.Series, labels: Sequence[str]) -> pl.Series:
    """The indices of labels; null for a word that is none of them.

    Elsewhere a number may have more zeros after its decimal point, or a boolean capitals.

    >>> _label_indices(pl.Series(["b", "1.0", "c", "2.50"]), ["1", "b", "2.5"]).to_list()
    [1, 0, None, 2]
    """
    codes = _lookup(words, {label: index for index, label in enumerate(labels)})
    values = {_as_value(label): index for index, label in enumerate(labels)}
    values.pop(None, None)
    unknown = words.filter(codes.is_null()).unique()
    others = unknown.filter(unknown.str.contains(_VALUE)).to_list() if values else []
    known = {word: values[_as_value(word)] for word in others if _as_value(word) in values}
    return codes.fill_null(_lookup(words, known)) if known else codes


def _lookup(words: pl.Series, values: Mapping[str, int]) -> pl.Series:
    """The value of each word; null for those that have none."""
    old, new = pl.Series(list(values), dtype=pl.String), pl.Series(values.values(), dtype=pl.Int64)
    return words.replace_strict(old, new, default=None, return_dtype=pl.Int64)


def _as_value(label: str) -> Decimal | str | None:
    """A label that is a number, with all its digits, or a boolean; None for any other label.

    >>> _as_value("1.50") == _as_value("1.5"), _as_value("True") == _as_value("true")
    (True, True)
    >>> _as_value("01") is None
    True
    """
    if not re.match(_VALUE, label):
        return None
    return label.lower() if label.isalpha() else Decimal(label)


def _warn_of_unknown_labels(column: pl.Series, labels: Sequence[str], name: str) -> None:
    """Warn where training knew none of a categorical column's values.

    Also where one is a label of the training except for leading zeros, which may be a mistake.
    """
    found = labels_as_text(column.unique().sort()).drop_nulls()
    unknown = found.filter(_label_indices(found, labels).is_null()).to_list()
    bare = {label.lstrip("0"): label for label in labels if label.isdigit()}
    near = [word for word in unknown if word.lstrip("0") in bare]
    said = f"{name}: column {column.name!r} holds "
    if unknown and len(unknown) == len(found):
        said += f"{quoted(unknown, 3)}, none of which is among the {len(labels)} labels of the "
        log.warning(f"{said}training: {quoted(labels, 3)}")
    elif near:
        label = bare[near[0].lstrip("0")]
        log.warning(f"{said}{near[0]!r}, which is not the label {label!r} of the training")
