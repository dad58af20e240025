"""Rows divided into training, validation and test rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from multilayer.core.errors import UserError, quoted
from multilayer.core.text import counted
from multilayer.data.table import Split as Split
from multilayer.data.table import Table

_Numbers = npt.NDArray[np.int64]

_DIVIDERS = {
    (False, False): "KFold",
    (False, True): "GroupKFold",
    (True, False): "StratifiedKFold",
    (True, True): "StratifiedGroupKFold",
}
"""How scikit-learn divides into folds, by whether there are classes and groups."""


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

    >>> SplitRule(seed=3, validation_fraction=0.2, test_fraction=0.1).seed
    3
    """

    seed: int
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    folds: int | None = None
    fold: int = 0

    @property
    def fractions(self) -> dict[Split, float]:
        """The fraction of each split that is divided off, in that order."""
        return {"test": self.test_fraction, "validation": self.validation_fraction}


def split_rows(table: Table, rule: SplitRule) -> dict[Split, Tensor]:
    """Divide the rows of a table at random, as scikit-learn does, or by their times.

    At random classes keep their proportions, and rows of one group stay together.

    Returns:
        The row numbers of each split, int64, in random order.

    Raises:
        UserError: If there are too few rows, too few of a class, or too few groups or times.

    >>> from multilayer.data import PassClassDataset
    >>> rows = split_rows(PassClassDataset().load(), SplitRule(seed=0))
    >>> {split: len(numbers) for split, numbers in rows.items()}
    {'train': 420, 'validation': 90, 'test': 90}
    """
    if table.times is not None:
        parts = _split_by_time(table.times.numpy(), rule)
        return {split: torch.from_numpy(parts[split]) for split in get_args(Split)}
    strata = None if table.columns.task == "regression" else table.target.numpy()
    groups = None if table.groups is None else table.groups.numpy()
    parts, rest = _preset_parts(table, rule)
    n_rows = len(rest)
    if strata is not None:
        classes = table.columns.classes
        counts = np.bincount(strata[rest], minlength=len(classes)).tolist()
        n, what = (rule.folds, "folds") if rule.folds else (3 - len(parts), "splits")
        if n > 1:
            by_class = dict(zip(classes, counts, strict=True))
            check_class_counts(table.columns.target, by_class, n, what)
    if groups is not None:
        _check_group_count(len(np.unique(groups)), rule.folds)
    try:
        for split, fraction in rule.fractions.items():
            if split not in parts:
                n_part = ceil(round(fraction * n_rows, 6))  # 0.07 * 100 is a little more than 7
                rest, parts[split] = _divide(rest, strata, groups, rule, n_part)
            rule = replace(rule, folds=None)  # the test rows alone are a fold
    except ValueError as error:
        raise UserError(
            f"cannot divide {counted(n_rows, 'row')} into training, validation "
            f"({rule.validation_fraction:g}) and test rows ({rule.test_fraction:g}): {error}"
        ) from error
    parts["train"] = rest
    return {split: torch.from_numpy(parts[split]) for split in get_args(Split)}


def join_validation(rows: Mapping[Split, Tensor]) -> dict[Split, Tensor]:
    """The splits with the validation rows among the training rows; the test rows are the same."""
    return {
        "train": torch.cat([rows["train"], rows["validation"]]),
        "validation": rows["validation"][:0],
        "test": rows["test"],
    }


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
            f"class {rarest!r} of column {target!r} has {counted(n, 'row')}, fewer than the "
            f"{n_parts} {parts}; leave it out, or merge it with another class"
        )


def split_warnings(table: Table, rows: Mapping[Split, Tensor], *, is_sample: bool) -> Iterator[str]:
    """Which classes a split has no row of, and how many held-out rows equal a training row.

    Args:
        table: The table.
        rows: The row numbers of each split.
        is_sample: Whether the other training rows are not in memory, so that none are compared.
    """
    missing = []
    for split, numbers in rows.items():
        classes = table.columns.classes if len(numbers) else []
        present = set(table.target[numbers].tolist()) if classes else set()
        labels = [label for k, label in enumerate(classes) if k not in present]
        missing += [f"no {split} row is of class {quoted(labels, 5)}"] if labels else []
    if missing:
        yield "; ".join(missing)
    if is_sample:
        return
    hashes, shared, n_shared = table.row_hashes(), [], 0
    train = hashes[rows["train"].numpy()].implode()
    for split in ("validation", "test"):
        n = int(hashes[rows[split].numpy()].is_in(train).sum())
        n_shared += n
        shared += [f"{n:,} of {counted(len(rows[split]), f'{split} row')}"] if n else []
    if shared:
        are = "is" if n_shared == 1 else "are"
        yield f"{' and '.join(shared)} {are} the same as a training row"


def _preset_parts(table: Table, rule: SplitRule) -> tuple[dict[Split, _Numbers], _Numbers]:
    """The rows of the splits that are decided, and all others.

    A split that the column of splits does not name is not decided.
    """
    parts = {split: rows.numpy() for split, rows in table.preset_splits.items()}
    rest = np.arange(len(table.target))
    if table.splits is None:
        return parts, np.delete(rest, np.concatenate([rest[:0], *parts.values()]))
    rest = np.random.default_rng(rule.seed).permutation(rest)
    named = dict(zip(get_args(Split), range(3), strict=True))
    found = {split: rest[table.splits.numpy()[rest] == code] for split, code in named.items()}
    train = found.pop("train")
    return {split: rows for split, rows in found.items() if len(rows)}, train


def _split_by_time(times: _Numbers, rule: SplitRule) -> dict[Split, _Numbers]:
    """The newest rows as test rows, the next newest as validation rows, each in random order.

    Rows of one time stay together: each part has as many times as bring it nearest to its fraction.

    Args:
        times: The place of each row in time.
        rule: How to divide.

    Raises:
        UserError: If there are too few different times.
    """
    distinct, counts = np.unique(times, return_counts=True)
    if len(distinct) < 3:
        raise UserError(
            f"data.time has {counted(len(distinct), 'different value')}, fewer than the 3 splits "
            "that must not share one; use data.split=random"
        )
    parts, end = dict[Split, _Numbers](), len(distinct)
    shuffled = np.random.default_rng(rule.seed).permutation(len(times))
    for n_parts_left, (split, fraction) in zip((2, 1), rule.fractions.items(), strict=True):
        n_part = ceil(round(fraction * len(times), 6))
        n_newest = counts[:end][::-1].cumsum()[: end - n_parts_left]  # of the last 1, 2, ... times
        start = end - 1 - int(np.abs(n_newest - n_part).argmin())
        is_in = (times >= distinct[start]) & (times <= distinct[end - 1])
        parts[split] = shuffled[is_in[shuffled]]
        end = start
    parts["train"] = shuffled[(times < distinct[end])[shuffled]]
    return parts


def _check_group_count(n_groups: int, folds: int | None) -> None:
    """Raise `UserError` if there are fewer groups than splits, or folds."""
    needed, parts = max((3, "splits"), (folds or 0, "folds"))
    if n_groups < needed:
        advice = f"give data.folds={n_groups}, or " if n_groups >= 3 else ""
        raise UserError(
            f"data.group_column has {counted(n_groups, 'different value')}, fewer than "
            f"the {needed} {parts} that must not share one; {advice}leave out data.group_column"
        )


def _check_part_size(n_rows: int, n_classes: int = 1) -> None:
    """Raise `ValueError` if a split would have too few rows, fewer than classes."""
    if n_rows < n_classes:
        rows = counted(max(0, n_rows), "row")
        raise ValueError(
            f"a split would have {rows}" + f", fewer than the {n_classes} classes" * (n_classes > 1)
        )


def _divide(
    rows: _Numbers, strata: _Numbers | None, groups: _Numbers | None, rule: SplitRule, n_part: int
) -> tuple[_Numbers, _Numbers]:
    """Divide rows into those that stay, and a part: a fold, or about `n_part` rows.

    Args:
        rows: The row numbers to divide.
        strata: The classes of all rows of the table.
        groups: The groups of all rows of the table.
        rule: How to divide.
        n_part: The size of the part where there are no folds.

    Raises:
        ValueError: If there are too few rows or groups.
    """
    strata, groups = (None if each is None else each[rows] for each in (strata, groups))
    counts = [len(rows)] if strata is None else np.unique(strata, return_counts=True)[1]
    if rule.folds is None and groups is None:
        _check_part_size(min(n_part, len(rows) - n_part), len(counts))
        if strata is not None and min(counts) < 2:
            raise ValueError("a class has only one row left for two splits")
        stay, part = _split_off(len(rows), strata, n_part, rule.seed)
        return rows[stay], rows[part]
    n_units, units = len(rows), counted(len(rows), "row")
    if groups is not None:
        n_units = len(np.unique(groups))
        units = f"{counted(n_units, 'value')} of data.group_column"
    # Rows of one group stay together: as many folds as bring a fold near to the fraction.
    n_folds = rule.folds or max(2, min(n_units, round(len(rows) / n_part)))
    if n_units < n_folds:
        raise ValueError(f"{units} cannot be divided into {n_folds} folds")
    if min(counts) < n_folds:
        raise ValueError(f"{n_folds} folds need as many rows of each class")
    from sklearn import model_selection  # which takes half a second

    kind = getattr(model_selection, _DIVIDERS[strata is not None, groups is not None])
    divider = kind(n_folds, shuffle=True, random_state=rule.seed)
    folds = list(divider.split(rows, strata, groups))
    stay, part = folds[rule.fold if rule.folds else 0]
    _check_part_size(min(len(stay), len(part)))
    generator = np.random.default_rng(rule.seed)
    return rows[generator.permutation(stay)], rows[generator.permutation(part)]


def _split_off(
    n_rows: int, strata: _Numbers | None, n_part: int, seed: int
) -> tuple[_Numbers, _Numbers]:
    """What scikit-learn's `train_test_split` draws, without the half second of its import.

    Args:
        n_rows: The number of rows.
        strata: The class of each row, of which both parts have their share; None for no classes.
        n_part: The number of rows to split off.
        seed: Of the random numbers.

    Returns:
        The positions of the rows that stay, and of the part.
    """
    generator = np.random.RandomState(seed)
    if strata is None:
        order = generator.permutation(n_rows)
        return order[n_part:], order[:n_part]
    classes, counts = np.unique(strata, return_counts=True)
    n_staying = _shares(counts, n_rows - n_part, generator)
    n_parted = _shares(counts - n_staying, n_part, generator)
    stay, part = [], []
    for label, n_stay, n in zip(classes, n_staying, n_parted, strict=True):
        own = generator.permutation(np.flatnonzero(strata == label))
        stay.append(own[:n_stay])
        part.append(own[n_stay : n_stay + n])
    return generator.permutation(np.concatenate(stay)), generator.permutation(np.concatenate(part))


def _shares(counts: _Numbers, n: int, generator: np.random.RandomState) -> _Numbers:
    """How many of `n` rows each class has, by its share; equal remainders are drawn from.

    The classes with the largest remainders have one row more, as in scikit-learn.
    """
    exact = counts / counts.sum() * n
    shares: _Numbers = np.floor(exact).astype(np.int64)
    remainders = exact - shares
    for remainder in np.unique(remainders)[::-1]:
        n_missing = n - shares.sum()
        if n_missing == 0:
            break
        alike = np.flatnonzero(remainders == remainder)
        chosen = generator.choice(alike, size=min(len(alike), n_missing), replace=False)
        shares[chosen] += 1
    return shares
