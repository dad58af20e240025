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

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The row numbers of each split, int64, in random order."""

    train: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True)
class SplitRule:
    """How rows are divided.

    seed: of all that is drawn.
    validation_fraction, test_fraction: shares of all rows that are not given for a split already.
    folds, fold: with so many folds, the test rows are those of the fold of this number; together
        the folds hold every row once.
    """

    seed: int
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    folds: int | None = None
    fold: int = 0


def split_rows(table: Table, rule: SplitRule) -> Rows:
    """Divide the rows of a table at random, by scikit-learn.

    Classes keep their shares. Rows of one group stay together.

    Raises `UserError` where there are too few rows, too few of a class, or too few groups.
    """
    strata = None if table.columns.task == "regression" else table.target.numpy()
    groups = None if table.groups is None else table.groups.numpy()
    given = {split: rows.numpy() for split, rows in table.preset_splits.items()}
    is_given = np.zeros(len(table.target), dtype=bool)
    for numbers in given.values():
        is_given[numbers] = True
    rest = np.flatnonzero(~is_given)
    n_rows = len(rest)
    if strata is not None:
        columns = table.columns
        counts = np.bincount(strata[rest], minlength=len(columns.classes)).tolist()
        refuse_rare_class(
            columns.target,
            dict(zip(columns.classes, counts, strict=True)),
            rule.folds or 3 - len(given),
            "folds" if rule.folds else "splits",
        )
    if groups is not None:
        refuse_few_groups(len(np.unique(groups)), rule.folds)
    try:
        test = given.get("test")
        if test is None:
            rest, test = divide(rest, strata, groups, rule, rule.test_fraction, n_rows)
        validation = given.get("validation")
        if validation is None:
            rule = replace(rule, folds=None)
            rest, validation = divide(rest, strata, groups, rule, rule.validation_fraction, n_rows)
    except ValueError as error:
        raise UserError(
            f"cannot divide {n_rows} rows into training, validation "
            f"({rule.validation_fraction:g}) and test rows ({rule.test_fraction:g}): {error}"
        ) from error
    return Rows(*(torch.from_numpy(part) for part in (rest, validation, test)))


def refuse_rare_class(target: str, counts: Mapping[str, int], n_parts: int, parts: str) -> None:
    """Raise `UserError` where a class has fewer rows than there are splits, or folds.

    counts: the rows of each class; empty in regression.
    """
    rarest = min(counts, key=lambda label: counts[label], default="")
    n = counts.get(rarest, n_parts)
    if n < n_parts:
        raise UserError(
            f"class {rarest!r} of column {target!r} has {n} row{'s' * (n != 1)}, fewer than the "
            f"{n_parts} {parts}; leave it out, or take it together with another class"
        )


def refuse_small_part(n_rows: int, strata: Numbers | None) -> None:
    """Raise `ValueError` where a split would have too few rows.

    strata: the classes that each split is to have rows of.
    """
    n_classes = 1 if strata is None else len(np.unique(strata))
    if n_rows < n_classes:
        rows = f"{max(0, n_rows)} row{'s' * (n_rows != 1)}"
        raise ValueError(
            f"a split would have {rows}" + f", fewer than the {n_classes} classes" * (n_classes > 1)
        )


def lacking_classes(table: Table, rows: Rows) -> str:
    """Which classes each split has no row of, in one line; empty where it has all."""
    known = range(len(table.columns.classes))
    found = []
    for split in get_args(Split):
        there = set(table.target[getattr(rows, split)].tolist()) if known else set()
        lacking = [table.columns.classes[k] for k in known if k not in there]
        if lacking:
            found.append(f"no {split} row is of class {quoted(lacking, 5)}")
    return "; ".join(found)


def shared_rows(table: Table, rows: Rows) -> str:
    """How many held-out rows are equal to a training row, in one line; empty where none is."""
    hashes = table.row_hashes()
    train = hashes[rows.train.numpy()].implode()
    shared = {
        split: int(hashes[part.numpy()].is_in(train).sum())
        for split, part in (("validation", rows.validation), ("test", rows.test))
    }
    counts = [f"{n:,} of {len(getattr(rows, split)):,} {split}" for split, n in shared.items() if n]
    return f"{' and '.join(counts)} rows are the same as a training row" if counts else ""


def refuse_few_groups(n_groups: int, folds: int | None) -> None:
    """Raise `UserError` where there are fewer groups than splits, or folds."""
    needed, parts = max((3, "splits"), (folds or 0, "folds"))
    if n_groups < needed:
        advice = f"give data.folds={n_groups}, or " if n_groups >= 3 else ""
        raise UserError(
            f"data.group_column has {n_groups} different value{'s' * (n_groups != 1)}, fewer than "
            f"the {needed} {parts} that must not share one; {advice}leave out data.group_column"
        )


def divide(
    rows: Numbers,
    strata: Numbers | None,
    groups: Numbers | None,
    rule: SplitRule,
    fraction: float,
    n_rows: int,
) -> tuple[Numbers, Numbers]:
    """Divide rows into those that stay, and a part: a fold, or a fraction of `n_rows`.

    strata, groups: of all rows of the table.

    Raises `ValueError` where there are too few rows or groups.
    """
    own_strata = None if strata is None else strata[rows]
    n_part = ceil(round(fraction * n_rows, 6))  # 0.07 * 100 is a little more than 7
    if rule.folds is None and groups is None:
        refuse_small_part(min(n_part, len(rows) - n_part), own_strata)
        stay, part = train_test_split(
            rows, test_size=n_part, random_state=rule.seed, stratify=own_strata
        )
        return stay, part
    own_groups = None if groups is None else groups[rows]
    if own_groups is not None:
        kind = GroupKFold if own_strata is None else StratifiedGroupKFold
    else:
        kind = KFold if own_strata is None else StratifiedKFold
    n_units = len(rows) if own_groups is None else len(np.unique(own_groups))
    # Rows of one group stay together: as many folds as bring a fold near to the fraction.
    n_folds = rule.folds or max(2, min(n_units, round(len(rows) / n_part)))
    if n_units < n_folds:
        units = "rows" if own_groups is None else "values of data.group_column"
        raise ValueError(f"{n_units} {units} cannot be divided into {n_folds} folds")
    if own_strata is not None and np.bincount(own_strata)[np.unique(own_strata)].min() < n_folds:
        raise ValueError(f"{n_folds} folds need as many rows of each class")
    folds = list(
        kind(n_folds, shuffle=True, random_state=rule.seed).split(rows, own_strata, own_groups)
    )
    stay, part = folds[rule.fold if rule.folds else 0]
    refuse_small_part(min(len(stay), len(part)), None)
    generator = np.random.default_rng(rule.seed)
    return rows[generator.permutation(stay)], rows[generator.permutation(part)]
