"""Rows divided into training, validation and test rows."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from multilayer.data.table import Table
from multilayer.errors import UserError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Rows:
    """The row numbers of each split, int64, in random order."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split_rows(
    table: Table, *, seed: int, validation_fraction: float, test_fraction: float
) -> Rows:
    """Divide the rows of a table at random, by scikit-learn; classes keep their shares.

    Raises `UserError` where there are too few rows, or too few of a class.
    """
    strata = None if table.columns.task == "regression" else table.target.numpy()
    rows = np.arange(len(table.target))

    def count(fraction: float) -> int:
        return ceil(round(fraction * len(rows), 6))  # 0.07 * 100 is a little more than 7

    try:
        rest, test = train_test_split(
            rows, test_size=count(test_fraction), random_state=seed, stratify=strata
        )
        train, validation = train_test_split(
            rest,
            test_size=count(validation_fraction),
            random_state=seed,
            stratify=None if strata is None else strata[rest],
        )
    except ValueError as error:
        smallest = "" if strata is None else f" (the rarest class has {np.bincount(strata).min()})"
        raise UserError(
            f"cannot split {len(rows)} rows{smallest} into training, validation "
            f"({validation_fraction:g}) and test rows ({test_fraction:g}): {error}"
        ) from error
    return Rows(*(torch.from_numpy(part) for part in (train, validation, test)))
