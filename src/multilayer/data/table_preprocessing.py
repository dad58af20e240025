"""A preprocessing applied to a whole table; its errors name the column and the row."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.data.numerics import is_rounded
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Table, blocks


def preprocess_table(preprocessing: Preprocessing, table: Table) -> tuple[Tensor, Tensor]:
    """All rows as the network and its loss take them: features `(N, n_features)`, target `(N,)`.

    If the table owns its memory, is float32 and as wide as the features, they replace its values,
    so that it is in memory once.
    """
    raw = table.features
    is_as_large = raw.dtype == torch.float32 and preprocessing.n_features == raw.shape[1]
    features = preprocess_features(
        preprocessing,
        raw,
        table.columns.features,
        table.origin.describe,
        in_place=table.owns_memory and is_as_large,
    )
    return features, preprocess_target(preprocessing, table)


def preprocess_features(
    preprocessing: Preprocessing,
    raw: Tensor,
    names: Sequence[str],
    describe_row: Callable[[int], str],
    *,
    in_place: bool = False,
) -> Tensor:
    """Raw columns `(N, n_columns)` as the network takes them, `(N, n_features)`, block by block.

    Args:
        preprocessing: Fitted.
        raw: The raw columns.
        names: Of the columns.
        describe_row: What a message calls a row.
        in_place: Whether the features replace the raw columns.

    Raises:
        UserError: For a number that scaling takes beyond float32, with its column and row.
    """
    features = raw if in_place else torch.empty(len(raw), preprocessing.n_features)
    for rows in blocks(raw):
        part = preprocessing(raw[rows])
        if not part.sum().isfinite():  # one pass; a sum of finite values may be infinite too
            found = (~part[:, : preprocessing.n_numbers].isfinite()).nonzero().tolist()
            for row, k in found[:1]:
                position = preprocessing.number_columns[k]
                value = raw[rows][row, position]
                what = f"{value:g}" if value.isfinite() else "beyond float32"
                raise UserError(
                    f"column {names[position]!r} is {what} in {describe_row(rows.start + row)}: "
                    f"too far from the training rows, whose mean is {preprocessing.mean[k]:g} and "
                    f"standard deviation {preprocessing.scale[k]:g}"
                )
        features[rows] = part
    return features


def preprocess_target(preprocessing: Preprocessing, table: Table) -> Tensor:
    """The target of all rows as the loss takes it, `(N,)`; class indices stay.

    Raises:
        UserError: For a value that scaling takes beyond float32.
    """
    if not table.target.is_floating_point():
        return table.target
    scaled = preprocessing.scale_target(table.target)
    for row in (~scaled.isfinite()).nonzero().flatten()[:1].tolist():
        raise _too_far(preprocessing, table, row)
    return scaled


def check_target_range(preprocessing: Preprocessing, table: Table) -> None:
    """Check that the targets of no split are too far from those of the training rows.

    Standardized as those are, they would be infinite in float32, or lose their differences. The
    median of the training rows themselves is within a standard deviation of their mean.

    Raises:
        UserError: With the farthest row.
    """
    preprocess_target(preprocessing, table)
    mean, scale = preprocessing.target_mean.double(), preprocessing.target_scale.double()
    for rows in table.preset_splits.values() or [torch.arange(len(table.target))]:
        scaled = (table.target[rows].double() - mean.cpu()) / scale.cpu()
        if len(rows) and scaled.median().abs() > 1 and is_rounded(scaled.numpy()):
            raise _too_far(preprocessing, table, int(rows[scaled.abs().argmax()]))


def _too_far(preprocessing: Preprocessing, table: Table, row: int) -> UserError:
    """The error about a target that is too far from the training rows."""
    value, where = table.target[row], table.origin.describe(row)
    return UserError(
        f"the target {table.columns.target!r} is {value:g} in {where}: too far from the training "
        f"rows, whose mean is {preprocessing.target_mean:g} and standard deviation "
        f"{preprocessing.target_scale:g}; is it in the same unit?"
    )
