"""Rows divided into training, validation and test rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)
from torch import Tensor

from multilayer.core.errors import UserError, quoted
from multilayer.data.table import Split as Split
from multilayer.data.table import Table

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SplitRule:
    """How rows are divided.

    Attributes:
        seed: Of all random choices.
        validation_fraction: Of all rows that are in no preset split.
        test_fraction: Likewise.
        folds: The number of folds for cross-validation; the test rows are one fold. Together the
            folds hold every row once.
        fold: Which fold.
    """

    seed: int
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    folds: int | None = None
    fold: int = 0


def split_rows(table: Table, rule: SplitRule) -> dict[Split, Tensor]:
    """Divide the rows of a table at random, by scikit-learn.

    Classes keep their proportions. Rows of one group stay together.

    Returns:
        The row numbers of each split, int64, in random order.

    Raises:
        UserError: If there are too few rows, too few of a class, or too few groups.
    """
    strata = None if table.columns.task == "regression" else table.target.numpy()
    groups = None if table.groups is None else table.groups.numpy()
    preset = {split: rows.numpy() for split, rows in table.preset_splits.items()}
    is_free = np.ones(len(table.target), dtype=bool)
    for numbers in preset.values():
        is_free[numbers] = False
    rest = np.flatnonzero(is_free)
    n_rows = len(rest)
    if strata is not None:
        columns = table.columns
        counts = np.bincount(strata[rest], minlength=len(columns.classes)).tolist()
        check_class_counts(
            columns.target,
            dict(zip(columns.classes, counts, strict=True)),
            rule.folds or 3 - len(preset),
            "folds" if rule.folds else "splits",
        )
    if groups is not None:
        _check_group_count(len(np.unique(groups)), rule.folds)
    try:
        test = preset.get("test")
        if test is None:
            rest, test = _divide(rest, strata, groups, rule, rule.test_fraction, n_rows)
        validation = preset.get("validation")
        if validation is None:
            rule = replace(rule, folds=None)
            rest, validation = _divide(rest, strata, groups, rule, rule.validation_fraction, n_rows)
    except ValueError as error:
        raise UserError(
            f"cannot divide {n_rows} rows into training, validation "
            f"({rule.validation_fraction:g}) and test rows ({rule.test_fraction:g}): {error}"
        ) from error
    parts = {"train": rest, "validation": validation, "test": test}
    return {split: torch.from_numpy(parts[split]) for split in get_args(Split)}


def check_class_counts(target: str, counts: Mapping[str, int], n_parts: int, parts: str) -> None:
    """Check that no class has fewer rows than there are splits, or folds.

    Args:
        target: The name of the target.
        counts: The number of rows of each class; empty in regression.
        n_parts: The number of splits or folds.
        parts: What they are called.

    Raises:
        UserError: With the rarest class.
    """
    rarest = min(counts, key=lambda label: counts[label], default="")
    n = counts.get(rarest, n_parts)
    if n < n_parts:
        raise UserError(
            f"class {rarest!r} of column {target!r} has {n} row{'s' * (n != 1)}, fewer than the "
            f"{n_parts} {parts}; leave it out, or merge it with another class"
        )


def missing_classes(table: Table, rows: Mapping[Split, Tensor]) -> str:
    """Which classes each split has no row of, in one line; "" if it has all."""
    classes = table.columns.classes
    found = []
    for split, numbers in rows.items():
        present = set(table.target[numbers].tolist()) if classes else set()
        missing = [label for k, label in enumerate(classes) if k not in present]
        if missing:
            found.append(f"no {split} row is of class {quoted(missing, 5)}")
    return "; ".join(found)


def shared_rows(table: Table, rows: Mapping[Split, Tensor]) -> str:
    """How many held-out rows are equal to a training row, in one line; "" if none is."""
    hashes = table.row_hashes()
    train = hashes[rows["train"].numpy()].implode()
    counts = []
    for split in ("validation", "test"):
        n = int(hashes[rows[split].numpy()].is_in(train).sum())
        counts += [f"{n:,} of {len(rows[split]):,} {split}"] if n else []
    return f"{' and '.join(counts)} rows are the same as a training row" if counts else ""


def _check_group_count(n_groups: int, folds: int | None) -> None:
    """Raise `UserError` if there are fewer groups than splits, or folds."""
    needed, parts = max((3, "splits"), (folds or 0, "folds"))
    if n_groups < needed:
        advice = f"give data.folds={n_groups}, or " if n_groups >= 3 else ""
        raise UserError(
            f"data.group_column has {n_groups} different value{'s' * (n_groups != 1)}, fewer than "
            f"the {needed} {parts} that must not share one; {advice}leave out data.group_column"
        )


def _check_part_size(n_rows: int, strata: _Numbers | None) -> None:
    """Raise `ValueError` if a split would have too few rows.

    Args:
        n_rows: Of the split.
        strata: The classes that each split must have rows of.
    """
    n_classes = 1 if strata is None else len(np.unique(strata))
    if n_rows < n_classes:
        rows = f"{max(0, n_rows)} row{'s' * (n_rows != 1)}"
        raise ValueError(
            f"a split would have {rows}" + f", fewer than the {n_classes} classes" * (n_classes > 1)
        )


def _divide(
    rows: _Numbers,
    strata: _Numbers | None,
    groups: _Numbers | None,
    rule: SplitRule,
    fraction: float,
    n_rows: int,
) -> tuple[_Numbers, _Numbers]:
    """Divide rows into those that stay, and a part: a fold, or a fraction of `n_rows`.

    Args:
        rows: The row numbers to divide.
        strata: The classes of all rows of the table.
        groups: The groups of all rows of the table.
        rule: How to divide.
        fraction: Of `n_rows`.
        n_rows: The number of rows before any were taken.

    Raises:
        ValueError: If there are too few rows or groups.
    """
    own_strata = None if strata is None else strata[rows]
    own_groups = None if groups is None else groups[rows]
    n_part = ceil(round(fraction * n_rows, 6))  # 0.07 * 100 is a little more than 7
    if rule.folds is None and own_groups is None:
        _check_part_size(min(n_part, len(rows) - n_part), own_strata)
        stay, part = train_test_split(
            rows, test_size=n_part, random_state=rule.seed, stratify=own_strata
        )
        return stay, part
    if own_groups is not None:
        kind, n_units = GroupKFold, len(np.unique(own_groups))
        units = "values of data.group_column"
    else:
        kind, n_units, units = KFold, len(rows), "rows"
    if own_strata is not None:
        kind = {GroupKFold: StratifiedGroupKFold, KFold: StratifiedKFold}[kind]
    # Rows of one group stay together: as many folds as bring a fold near to the fraction.
    n_folds = rule.folds or max(2, min(n_units, round(len(rows) / n_part)))
    if n_units < n_folds:
        raise ValueError(f"{n_units} {units} cannot be divided into {n_folds} folds")
    if own_strata is not None and np.bincount(own_strata)[np.unique(own_strata)].min() < n_folds:
        raise ValueError(f"{n_folds} folds need as many rows of each class")
    divider = kind(n_folds, shuffle=True, random_state=rule.seed)
    folds = list(divider.split(rows, own_strata, own_groups))
    stay, part = folds[rule.fold if rule.folds else 0]
    _check_part_size(min(len(stay), len(part)), None)
    generator = np.random.default_rng(rule.seed)
    return rows[generator.permutation(stay)], rows[generator.permutation(part)]
