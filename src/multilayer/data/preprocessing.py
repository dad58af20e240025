"""What is done to raw columns before the network sees them, as a module that travels with it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from multilayer.core.errors import UserError
from multilayer.data.column_types import ROUNDING, is_rounded
from multilayer.data.table import Columns, Table, blocks

N_QUANTILES = 1000
"""Quantiles that a column of numbers is described by, at most."""

EDGE = 1e-7
"""How near to 0 and 1 a share of the rows is taken, as scikit-learn does."""

FITTED = (
    "median",
    "mean",
    "scale",
    "quantiles",
    "missing_indicator_columns",
    "slots",
    "target_mean",
    "target_scale",
)
"""The names of the fitted numbers."""

SAVED_AS = {"missing_indicator_columns": "with_gaps"}
"""What checkpoints call them, where that is an earlier name."""

Values = npt.NDArray[np.float64]
NumberScaling = Literal["standard", "quantile"]


class Preprocessing(nn.Module):
    """From raw columns to the features of the network; fitted on the training rows alone.

    Numbers: missing values become the median, then every column its standard score, or its
    quantile as a normal deviate. A column with missing values among the training rows has a
    further feature, 1 where the value is missing. Categories become one-hot: a feature for each
    label that enough training rows have, one for all others together if there are any, and one for
    missing values if there are any. A label that no training row had is among the others; where
    there are none, all features of its column are 0.

    In regression the target is standardised too, so that the loss and the rates that suit it do
    not depend on the target's units. The fitted numbers are saved with the network's weights and
    move to its device, but keep their precision, which is that of the columns they were fitted to:
    float64 ones are centred and scaled before they become float32. They are neither parameters nor
    buffers: what averages those of a module over the steps would round these, and the whole numbers
    among them to others.

    n_columns: how many raw columns there are.
    n_labels: for each column of categories its position, and the number of its labels. Such a
        column holds the index of the label, or that number for a label that is not known.
    numeric_scaling: "standard" or "quantile".
    min_frequency: a label with fewer training rows than this is among the others.
    max_categories: of each column so many labels at most have a feature, the most frequent ones.

    **Shape**

    - Input: `(B, n_columns)`, NaN where a value is missing
    - Output: `(B, n_features)` float32

    >>> preprocessing = Preprocessing(2).fit_(torch.tensor([[1.0, 5.0], [3.0, torch.nan]]))
    >>> preprocessing(torch.tensor([[3.0, torch.nan]]))
    tensor([[1., 0., 1.]])
    """

    def __init__(
        self,
        n_columns: int,
        *,
        n_labels: Mapping[int, int] | None = None,
        numeric_scaling: NumberScaling = "standard",
        min_frequency: int = 1,
        max_categories: int | None = None,
    ) -> None:
        super().__init__()
        self.n_labels = dict(n_labels or {})
        self.number_columns = [i for i in range(n_columns) if i not in self.n_labels]
        self.numeric_scaling = numeric_scaling
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        n = len(self.number_columns)
        self.median = torch.zeros(n)
        self.mean = torch.zeros(n)
        self.scale = torch.ones(n)
        self.quantiles = torch.zeros(n, 0)
        self.missing_indicator_columns = torch.zeros(0, dtype=torch.int64)
        self.slots = torch.zeros(sum(self.n_labels.values()) + 2 * len(self.n_labels)).long()
        self.target_mean = torch.tensor(0.0)
        self.target_scale = torch.tensor(1.0)

    @classmethod
    def of(cls, columns: Columns, **options: Any) -> Self:
        """An unfitted one for a table's columns."""
        return cls(len(columns.features), n_labels=columns.n_labels, **options)

    @classmethod
    def for_state(cls, state: Mapping[str, Tensor]) -> Self:
        """One with room for the fitted numbers of a `state_dict`.

        Raises `UserError` where categories are among the columns: it does not say which.
        """
        if len(state["slots"]):
            raise UserError(
                "preprocessing: the weights to be loaded come with that of a table with "
                "categories; make the module with preprocessing=data.preprocessing first"
            )
        numeric_scaling: NumberScaling = "quantile" if state["quantiles"].shape[1] else "standard"
        return cls(len(state["median"]), numeric_scaling=numeric_scaling)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """An unfitted one from the `options` of another, of an earlier version too."""
        renamed = {"numbers": "numeric_scaling"}
        return cls(**{renamed.get(name, name): value for name, value in options.items()})

    def options(self) -> dict[str, Any]:
        """What makes another one, as plain data; its fitted numbers are in the `state_dict`."""
        n_columns = len(self.number_columns) + len(self.n_labels)
        return {
            "n_columns": n_columns,
            "n_labels": self.n_labels,
            "numeric_scaling": self.numeric_scaling,
        }

    def is_like(self, other: "Preprocessing") -> bool:
        """Whether another one, on any device, maps columns and targets to the same."""
        pairs = [(getattr(self, name), getattr(other, name)) for name in FITTED]
        return self.options() == other.options() and all(
            mine.shape == its.shape and torch.equal(mine.cpu().double(), its.cpu().double())
            for mine, its in pairs
        )

    @property
    def raw_dtype(self) -> torch.dtype:
        """The precision of the columns that it was fitted to, which decides what a tie is."""
        return self.median.dtype

    def takes(self, columns: Columns) -> bool:
        """Whether a table's columns are numbers and categories where it expects them."""
        n_columns = len(self.number_columns) + len(self.n_labels)
        return (n_columns, self.n_labels) == (len(columns.features), columns.n_labels)

    @property
    def n_numbers(self) -> int:
        """How many of its features are numbers; they come first."""
        return len(self.number_columns)

    @property
    def category_sizes(self) -> list[int]:
        """How many features each column of categories has; they come last."""
        return [len(torch.unique(part[part >= 0])) for part in self.slots_by_column()]

    @property
    def n_encoded_labels(self) -> list[int]:
        """How many labels of each column of categories have a feature of their own."""
        parts = self.slots_by_column()
        return [int(((part[:-2] >= 0) & (part[:-2] != part[-2])).sum()) for part in parts]

    def slots_by_column(self) -> tuple[Tensor, ...]:
        """For each column of categories the features of its labels, of others, of missing ones."""
        return torch.split(self.slots, [n + 2 for n in self.n_labels.values()])

    @property
    def n_features(self) -> int:
        """The width of its output."""
        return len(self.median) + len(self.missing_indicator_columns) + sum(self.category_sizes)

    def fit_(
        self, columns: Tensor, target: Tensor | None = None, *, rows: Tensor | None = None
    ) -> Self:
        """Fit to raw columns `(N, n_columns)`, and to a target `(N,)` of values if there is one.

        rows: the numbers of the rows to fit to; None for all. The others are not looked at.
        """
        if rows is None:
            rows = torch.arange(len(columns))
        fitted = [self.fit_number(columns[:, i][rows]) for i in self.number_columns]
        if fitted:
            dtype = precision_of(columns)
            *numbers, gaps = zip(*fitted, strict=True)
            median, centers, deviations, quantiles = (torch.stack(each) for each in numbers)
            self.median, self.quantiles = median.to(dtype), quantiles.to(dtype)
            self.mean, self.scale = narrowed(centers, deviations, dtype)
            self.missing_indicator_columns = torch.stack(gaps).nonzero().flatten()
        if self.n_labels:
            self.slots = self.fit_slots(columns, rows)
        if target is not None:
            center, deviation = center_and_deviation(target[rows].double().numpy())
            self.target_mean, self.target_scale = narrowed(center, deviation, precision_of(target))
        return self

    def fit_number(self, column: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The median, mean, deviation and quantiles of a column `(N,)`, and whether it has gaps."""
        wide = column.double().numpy()
        values = wide[~np.isnan(wide)]
        median = np.median(values) if len(values) else 0.0  # an empty column is 0
        filled = np.where(np.isnan(wide), median, wide)
        quantiles = quantiles_of(filled) if self.numeric_scaling == "quantile" else np.empty(0)
        return (
            torch.as_tensor(median),
            *center_and_deviation(filled),
            torch.from_numpy(quantiles),
            torch.tensor(len(values) < len(wide)),
        )

    def fit_slots(self, columns: Tensor, rows: Tensor) -> Tensor:
        """The feature of each label, then of other labels and of missing values, for each column.

        Those without a feature have -1.
        """
        slots = []
        n_features = 0
        for position, n in self.n_labels.items():
            codes = columns[rows, position].nan_to_num(n + 1).long()
            counts = codes.bincount(minlength=n + 2)
            is_frequent = counts >= max(1, self.min_frequency)
            is_frequent[n:] = False  # not labels
            if self.max_categories is not None:
                is_frequent[
                    counts[:n].argsort(descending=True, stable=True)[self.max_categories :]
                ] = False
            has_others = bool((counts[: n + 1] > 0)[~is_frequent[: n + 1]].any())
            own = torch.full((n + 2,), -1)
            own[is_frequent] = torch.arange(int(is_frequent.sum()))
            n_own = int(is_frequent.sum())
            if has_others:
                own[: n + 1][~is_frequent[: n + 1]] = n_own
                n_own += 1
            if counts[n + 1]:
                own[n + 1] = n_own
                n_own += 1
            slots.append(torch.where(own >= 0, own + n_features, own))
            n_features += n_own
        return torch.cat(slots)

    def forward(self, columns: Tensor) -> Tensor:
        """Map raw columns `(B, n_columns)` to features `(B, n_features)`.

        Raises `UserError` for another number of columns, one of which torch would repeat.
        """
        n_columns = len(self.number_columns) + len(self.n_labels)
        if columns.ndim != 2 or columns.shape[1] != n_columns:
            raise UserError(
                f"features of the shape {tuple(columns.shape)} do not fit the preprocessing, which "
                f"takes (B, {n_columns}), the columns that it was fitted to"
            )
        columns = columns.to(self.median.device)
        raw = columns if not self.n_labels else columns[:, self.number_columns]
        raw = raw.to(self.raw_dtype)
        gaps = raw.isnan()
        filled = torch.where(gaps, self.median, raw)
        if self.numeric_scaling == "quantile" and self.quantiles.shape[1]:
            scaled = normal_quantile(filled, self.quantiles)
        else:
            scaled = (filled - self.mean) / self.scale
        scaled = scaled.float()
        parts = [scaled]
        if len(self.missing_indicator_columns):
            parts.append(gaps[:, self.missing_indicator_columns].to(scaled.dtype))
        if self.n_labels:
            parts.append(self.one_hot(columns).to(scaled.dtype))
        return torch.cat(parts, dim=1) if parts[1:] else scaled

    def one_hot(self, columns: Tensor) -> Tensor:
        """The features of all columns of categories, `(B, n_slots)` of 0 and 1."""
        n_slots = sum(self.category_sizes)
        found = columns.new_zeros(len(columns), n_slots + 1)  # the last one for those without
        start = 0
        for position, n in self.n_labels.items():
            codes = columns[:, position].nan_to_num(n + 1).long()
            slot = self.slots[start : start + n + 2][codes]
            found.scatter_(1, torch.where(slot < 0, n_slots, slot)[:, None], 1)
            start += n + 2
        return found[:, :-1]

    def unscale_numbers(self, features: Tensor) -> Tensor:
        """Undo the scaling of the numbers, `(B, n_features)` to `(B, n_numbers)`.

        What was missing is the median; what was beyond the training rows is at their end where
        numbers are scaled by quantiles.

        >>> preprocessing = Preprocessing(1).fit_(torch.tensor([[1.0], [3.0]]))
        >>> preprocessing.unscale_numbers(preprocessing(torch.tensor([[7.0]])))
        tensor([[7.]])
        """
        scaled = features[:, : self.n_numbers].to(self.mean.device, self.mean.dtype)
        n = self.quantiles.shape[1]
        if self.numeric_scaling != "quantile" or n < 2:
            return scaled * self.scale + self.mean
        places = torch.special.ndtr(scaled.double()) * (n - 1)  # from 0 on, between quantiles
        low = places.long().clamp_max(n - 2)
        quantiles = self.quantiles.double().mT  # (n_numbers, n) -> (n, n_numbers)
        below, above = quantiles.gather(0, low), quantiles.gather(0, low + 1)
        values: Tensor = below + (above - below) * (places - low)
        return values.to(scaled.dtype)

    def scale_target(self, target: Tensor) -> Tensor:
        """Map a target in its own units to the network's, float32."""
        target = target.to(self.target_mean.device, self.target_mean.dtype)
        return ((target - self.target_mean) / self.target_scale).float()

    def unscale_target(self, output: Tensor) -> Tensor:
        """Map the network's output to the units of the target, in the precision of its own."""
        output = output.to(self.target_mean.device, self.target_mean.dtype)
        return output * self.target_scale + self.target_mean

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a move to a device; a change of precision is the network's alone.

        With numbers in float64 it stays where it is if the device knows none, as Apple's GPUs.
        """
        device = fn(self.slots).device
        fitted = {name: getattr(self, name) for name in FITTED}
        is_wide = torch.float64 in {each.dtype for each in fitted.values()}
        if device.type != "mps" or not is_wide:
            for name, value in fitted.items():
                moved = fn(value)
                setattr(self, name, moved if moved.dtype == value.dtype else value.to(device))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Save the fitted numbers with the weights."""
        for name in FITTED:
            destination[prefix + SAVED_AS.get(name, name)] = getattr(self, name)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take on what was fitted to as many columns, on the device where this one is."""
        for name in FITTED:
            key, own = prefix + SAVED_AS.get(name, name), getattr(self, name)
            new, has_any_length = state_dict.get(key), name == "missing_indicator_columns"
            if new is None:
                missing_keys.append(key)
            elif new.ndim != own.ndim or (not has_any_length and new.shape[:1] != own.shape[:1]):
                # One number for all columns would be repeated.
                error_msgs.append(f"size mismatch for {key}: {tuple(new.shape)}")
            else:
                setattr(self, name, new.to(own.device, copy=True))


def preprocess(preprocessing: Preprocessing, table: Table) -> tuple[Tensor, Tensor]:
    """All rows as the network and its loss take them: features `(N, n_features)`, target `(N,)`.

    Where the table is ours, float32, and as wide as its features, they take the place of its
    values, so that it is in memory once.
    """
    raw = table.features
    is_as_large = raw.dtype == torch.float32 and preprocessing.n_features == raw.shape[1]
    features = preprocessed_features(
        preprocessing,
        raw,
        table.columns.features,
        table.origin.place,
        in_place=table.owns_memory and is_as_large,
    )
    return features, preprocessed_target(preprocessing, table)


def preprocessed_features(
    preprocessing: Preprocessing,
    raw: Tensor,
    names: Sequence[str],
    place: Callable[[int], str],
    *,
    in_place: bool = False,
) -> Tensor:
    """Raw columns `(N, n_columns)` as the network takes them, `(N, n_features)`, in small parts.

    names: of the columns.
    place: what a message calls a row.

    Raises `UserError` for a number that is too far from the training rows.
    """
    features = raw if in_place else torch.empty(len(raw), preprocessing.n_features)
    for rows in blocks(raw):
        part = preprocessing(raw[rows])
        if not part.sum().isfinite():  # in one pass; a sum may be infinite of finite values
            refuse_out_of_range(preprocessing, raw[rows], part, names, place, rows.start)
        features[rows] = part
    return features


def refuse_out_of_range(
    preprocessing: Preprocessing,
    raw: Tensor,
    features: Tensor,
    names: Sequence[str],
    place: Callable[[int], str],
    rows_before: int,
) -> None:
    """Raise `UserError` for a number that scaling takes beyond float32, with its column and row."""
    found = (~features[:, : preprocessing.n_numbers].isfinite()).nonzero().tolist()
    for row, k in found[:1]:
        position = preprocessing.number_columns[k]
        value = raw[row, position]
        what = f"{value:g}" if value.isfinite() else "beyond float32"
        raise UserError(
            f"column {names[position]!r} is {what} in {place(rows_before + row)}: "
            f"too far from the training rows, whose mean is {preprocessing.mean[k]:g} and "
            f"standard deviation {preprocessing.scale[k]:g}"
        )


def preprocessed_target(preprocessing: Preprocessing, table: Table) -> Tensor:
    """The target of all rows as the loss takes it, `(N,)`; class indices stay.

    Raises `UserError` for a value that scaling takes beyond float32.
    """
    if not table.target.is_floating_point():
        return table.target
    scaled = preprocessing.scale_target(table.target)
    for row in (~scaled.isfinite()).nonzero().flatten()[:1].tolist():
        raise too_far(preprocessing, table, row)
    return scaled


def refuse_far_targets(preprocessing: Preprocessing, table: Table) -> None:
    """Raise `UserError` for targets of a split that are too far from the training rows.

    Scaled as those are, they would be infinite in float32, or no longer differ as they do. The
    median of the training rows themselves is within a standard deviation of their mean.
    """
    preprocessed_target(preprocessing, table)
    mean, scale = preprocessing.target_mean.double(), preprocessing.target_scale.double()
    for rows in table.preset_splits.values() or [torch.arange(len(table.target))]:
        scaled = (table.target[rows].double() - mean.cpu()) / scale.cpu()
        if len(rows) and scaled.median().abs() > 1 and is_rounded(scaled.numpy()):
            raise too_far(preprocessing, table, int(rows[scaled.abs().argmax()]))


def too_far(preprocessing: Preprocessing, table: Table, row: int) -> UserError:
    """What is said of a target that is too far from the training rows."""
    value, place = table.target[row], table.origin.place(row)
    return UserError(
        f"the target {table.columns.target!r} is {value:g} in {place}: too far from the training "
        f"rows, whose mean is {preprocessing.target_mean:g} and standard deviation "
        f"{preprocessing.target_scale:g}; is it in the same unit?"
    )


def quantiles_of(values: Values) -> Values:
    """At most `N_QUANTILES` of the values `(N,)`, at equal shares from the least to the largest.

    Between two values it is the line between them. numpy's own are a rounding away from values
    that are there many times, which would no longer be tied.
    """
    ordered = np.sort(values)
    places = np.linspace(0, len(values) - 1, min(N_QUANTILES, len(values))).round(9)
    low = places.astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (places - low)


def normal_quantile(values: Tensor, quantiles: Tensor) -> Tensor:
    """The normal deviate with as large a share of values below.

    values: `(B, n)`. quantiles: `(n, Q)`, sorted, at equal shares from 0 to 1.

    Where a value fills a whole range of shares, it is the mean of the range's ends, as in
    scikit-learn's `QuantileTransformer`.
    """
    by_column = values.mT.contiguous()
    from_below = share_below(by_column, quantiles)
    from_above = 1 - share_below(-by_column, -quantiles.flip(1))
    shares = (from_below + from_above) / 2
    deviates: Tensor = torch.special.ndtri(shares.double().clamp(EDGE, 1 - EDGE))
    return deviates.to(values.dtype).mT


def share_below(values: Tensor, quantiles: Tensor) -> Tensor:
    """The share of rows below each value `(n, B)`, by the line between the quantiles around."""
    n = quantiles.shape[1]
    if n == 1:
        return torch.full_like(values, 0.5)
    above = torch.searchsorted(quantiles, values).clamp(1, n - 1)
    low, high = quantiles.gather(1, above - 1), quantiles.gather(1, above)
    width = high - low
    part = torch.where(width > 0, (values - low) / width, (values > low).to(values.dtype))
    return (above - 1 + part.clamp(0, 1)) / (n - 1)


def center_and_deviation(values: Values) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation of values `(N,)`, float64; 0 for that of a constant.

    >>> center_and_deviation(np.array([1e300, 3e300]))[1]
    tensor(1.0000e+300, dtype=torch.float64)
    """
    low, high = values.min(), values.max()
    if low == high:  # whose mean may be a rounding away from it
        return torch.tensor(low, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    exponent = np.frexp(max(-low, high))[1]  # squares then neither overflow nor vanish
    small = np.ldexp(values, -exponent)
    both = torch.from_numpy(np.ldexp([small.mean(), small.std()], exponent))
    return both[0], both[1]


def narrowed(center: Tensor, deviation: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What to subtract and to divide by, in a precision, or float64 if that would move the center.

    A constant column, which then stays at 0, is divided by 1.
    """
    is_moved = (center - center.to(dtype)).abs() > ROUNDING * deviation
    if (is_moved & (deviation > 0)).any():
        dtype = torch.float64
    scale = deviation.to(dtype)
    return center.to(dtype), torch.where(scale > 0, scale, 1.0)


def precision_of(columns: Tensor) -> torch.dtype:
    """The precision that holds raw values: float32, unless they come in a wider type."""
    is_narrow = columns.is_floating_point() and columns.dtype != torch.float64
    return torch.float32 if is_narrow else torch.float64
