"""From raw columns to the features of a network, as a module that travels with it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from multilayer.core.errors import UserError
from multilayer.data.numerics import ROUNDING, Float64s
from multilayer.data.table import Columns

_N_QUANTILES = 1000
"""How many quantiles describe a column of numbers, at most."""

_EDGE = 1e-7
"""Fractions of rows are clipped this far from 0 and 1, as in scikit-learn."""

_FITTED = ("median", "mean", "scale", "quantiles", "missing_indicator_columns", "slots")
_SAVED_AS = {name: name for name in (*_FITTED, "target_mean", "target_scale")}
_SAVED_AS["missing_indicator_columns"] = "with_gaps"  # its name in earlier versions
"""The names of the fitted tensors, and what they are called in a `state_dict`."""

NumericScaling = Literal["standard", "quantile"]


class Preprocessing(nn.Module):
    """From raw columns to the features of the network; fitted on the training rows alone.

    Numbers: missing values become the median, then every column its standard score, or its
    quantile as a normal deviate. A column with missing values among the training rows has an
    indicator feature, 1 where the value is missing. Categories become one-hot: a feature for each
    label that enough training rows have, one for all other labels together if there are any, and
    one for missing values if there are any. A label that no training row had is among the others;
    if there are none, all features of its column are 0.

    In regression the target is standardized too, so that the loss and the learning rates that suit
    it do not depend on the target's units. The fitted tensors are saved with the network's weights
    and move to its device, but keep their precision, which is that of the columns they were fitted
    to: float64 ones are centered and scaled before they become float32. They are neither
    parameters nor buffers: callbacks that average those of a module over the steps would round
    them, and change the integers among them.

    **Shape**

    - Input: `(B, n_columns)`, NaN where a value is missing
    - Output: `(B, n_features)` float32

    Args:
        n_columns: The number of raw columns.
        n_labels: The number of labels of each categorical column, by its position. Such a column
            holds the index of the label, or that number for an unknown label.
        numeric_scaling: "standard" or "quantile".
        min_frequency: Labels with fewer training rows are among the others.
        max_categories: So are all beyond this many of the most frequent labels of a column.

    >>> preprocessing = Preprocessing(2).fit_(torch.tensor([[1.0, 5.0], [3.0, torch.nan]]))
    >>> preprocessing(torch.tensor([[3.0, torch.nan]]))
    tensor([[1., 0., 1.]])
    """

    def __init__(
        self,
        n_columns: int,
        *,
        n_labels: Mapping[int, int] | None = None,
        numeric_scaling: NumericScaling = "standard",
        min_frequency: int = 1,
        max_categories: int | None = None,
    ) -> None:
        super().__init__()
        self.n_columns = n_columns
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
        """One that can load a `state_dict`.

        Raises:
            UserError: If there are categorical columns: the state does not tell which.
        """
        if len(state["slots"]):
            raise UserError(
                "preprocessing: the weights to be loaded come with that of a table with "
                "categories; make the module with preprocessing=data.preprocessing first"
            )
        numeric_scaling: NumericScaling = "quantile" if state["quantiles"].shape[1] else "standard"
        return cls(len(state["median"]), numeric_scaling=numeric_scaling)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """An unfitted one from the `options` of another, also of an earlier version."""
        old = {"numbers": "numeric_scaling"}
        return cls(**{old.get(name, name): value for name, value in options.items()})

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as plain data; the fitted tensors are in `state_dict`."""
        return {
            "n_columns": self.n_columns,
            "n_labels": self.n_labels,
            "numeric_scaling": self.numeric_scaling,
        }

    def is_like(self, other: "Preprocessing") -> bool:
        """Whether another one, on any device, maps columns and targets to the same values."""
        pairs = zip(self.state_dict().values(), other.state_dict().values(), strict=True)
        return self.options() == other.options() and all(
            torch.equal(mine.cpu().double(), its.cpu().double()) for mine, its in pairs
        )

    @property
    def raw_dtype(self) -> torch.dtype:
        """The precision of the columns that it was fitted to, which decides what a tie is."""
        return self.median.dtype

    @property
    def n_numbers(self) -> int:
        """How many of its features are numbers; they come first."""
        return len(self.number_columns)

    @property
    def category_sizes(self) -> list[int]:
        """How many features each categorical column has; they come last."""
        return [len(torch.unique(part[part >= 0])) for part in self._slots_by_column()]

    @property
    def n_encoded_labels(self) -> list[int]:
        """How many labels of each categorical column have a feature of their own."""
        parts = self._slots_by_column()
        return [int(((part[:-2] >= 0) & (part[:-2] != part[-2])).sum()) for part in parts]

    @property
    def n_features(self) -> int:
        """The width of its output."""
        return len(self.median) + len(self.missing_indicator_columns) + sum(self.category_sizes)

    def fit_(
        self, columns: Tensor, target: Tensor | None = None, *, rows: Tensor | None = None
    ) -> Self:
        """Fit to raw columns, and to the target in regression.

        Args:
            columns: `(N, n_columns)`.
            target: `(N,)` values, if they are to be standardized.
            rows: The numbers of the rows to fit to; None for all. The others are not looked at.
        """
        if rows is None:
            rows = torch.arange(len(columns))
        fitted = [self._fit_number(columns[:, i][rows]) for i in self.number_columns]
        if fitted:
            dtype = _precision_of(columns)
            found = (torch.from_numpy(np.stack(each)) for each in zip(*fitted, strict=True))
            n_missing, median, center, deviation, quantiles = found
            self.missing_indicator_columns = n_missing.nonzero().flatten()
            self.median, self.quantiles = median.to(dtype), quantiles.to(dtype)
            self.mean, self.scale = _shift_and_scale(center, deviation, dtype)
        if self.n_labels:
            self.slots = self._fit_slots(columns, rows)
        if target is not None:
            center, deviation = torch.from_numpy(_moments(target[rows].double().numpy()))
            dtype = _precision_of(target)
            self.target_mean, self.target_scale = _shift_and_scale(center, deviation, dtype)
        return self

    def _fit_number(self, column: Tensor) -> tuple[Any, ...]:
        """How many values a column `(N,)` lacks, its median, mean, deviation and quantiles."""
        wide = column.double().numpy()
        is_missing = np.isnan(wide)
        median = 0.0 if is_missing.all() else np.median(wide[~is_missing])
        filled = np.where(is_missing, median, wide)
        is_quantile = self.numeric_scaling == "quantile"
        quantiles = _quantiles_of(filled) if is_quantile else np.empty(0)
        return is_missing.sum(), median, *_moments(filled), quantiles

    def _fit_slots(self, columns: Tensor, rows: Tensor) -> Tensor:
        """The feature of each label, of the other labels and of missing values, by column.

        What has no feature has -1.
        """
        slots, n_features = [], 0
        for position, n in self.n_labels.items():
            codes = columns[rows, position].nan_to_num(n + 1).long()
            counts = codes.bincount(minlength=n + 2)  # labels, unknown labels, missing values
            by_frequency = counts[:n].argsort(descending=True, stable=True)[: self.max_categories]
            own = by_frequency[counts[by_frequency] >= max(1, self.min_frequency)]
            group = torch.full((n + 2,), n)  # those that share a feature: the others, for now
            group[own], group[-1] = own, n + 1
            is_used = torch.zeros_like(counts).index_add_(0, group, counts) > 0
            feature = torch.where(is_used, is_used.cumsum(0) - 1 + n_features, -1)
            slots.append(feature[group])
            n_features += int(is_used.sum())
        return torch.cat(slots)

    def _slots_by_column(self) -> tuple[Tensor, ...]:
        """For each categorical column the features of its labels, of others, of missing ones."""
        return torch.split(self.slots, [n + 2 for n in self.n_labels.values()])

    def forward(self, columns: Tensor) -> Tensor:
        """Map raw columns `(B, n_columns)` to features `(B, n_features)`.

        Raises:
            UserError: For another number of columns, one of which torch would broadcast.
        """
        if columns.ndim != 2 or columns.shape[1] != self.n_columns:
            raise UserError(
                f"features of the shape {tuple(columns.shape)} do not fit the preprocessing, which "
                f"takes (B, {self.n_columns}), the columns that it was fitted to"
            )
        columns = columns.to(self.median.device)
        raw = (columns[:, self.number_columns] if self.n_labels else columns).to(self.raw_dtype)
        gaps = raw.isnan()
        filled = torch.where(gaps, self.median, raw)
        if self.numeric_scaling == "quantile" and self.quantiles.shape[1]:
            scaled = _normal_quantile(filled, self.quantiles)
        else:
            scaled = (filled - self.mean) / self.scale
        parts = [scaled.float()]
        if len(self.missing_indicator_columns):
            parts.append(gaps[:, self.missing_indicator_columns].float())
        if self.n_labels:
            parts.append(self._one_hot(columns).float())
        return torch.cat(parts, dim=1) if parts[1:] else parts[0]

    def _one_hot(self, columns: Tensor) -> Tensor:
        """The features of all categorical columns, `(B, n_slots)` of 0 and 1."""
        n_slots = sum(self.category_sizes)
        found = columns.new_zeros(len(columns), n_slots + 1)  # the last for what has no feature
        parts = zip(self.n_labels.items(), self._slots_by_column(), strict=True)
        for (position, n), slots in parts:
            slot = slots[columns[:, position].nan_to_num(n + 1).long()]
            found.scatter_(1, torch.where(slot < 0, n_slots, slot)[:, None], 1)
        return found[:, :-1]

    def unscale_numbers(self, features: Tensor) -> Tensor:
        """Undo the scaling of the numbers, `(B, n_features)` to `(B, n_numbers)`.

        What was missing is the median. Where numbers are scaled by quantiles, what was outside the
        range of the training rows is at its end.

        >>> preprocessing = Preprocessing(1).fit_(torch.tensor([[1.0], [3.0]]))
        >>> preprocessing.unscale_numbers(preprocessing(torch.tensor([[7.0]])))
        tensor([[7.]])
        """
        scaled = features[:, : self.n_numbers].to(self.mean.device, self.mean.dtype)
        if self.numeric_scaling == "quantile" and self.quantiles.shape[1] > 1:
            return _value_at(scaled, self.quantiles).to(scaled.dtype)
        return scaled * self.scale + self.mean

    def scale_target(self, target: Tensor) -> Tensor:
        """Map a target in its own units to the network's, float32."""
        target = target.to(self.target_mean.device, self.target_mean.dtype)
        return ((target - self.target_mean) / self.target_scale).float()

    def unscale_target(self, output: Tensor) -> Tensor:
        """Map the network's output to the units and the precision of the target."""
        output = output.to(self.target_mean.device, self.target_mean.dtype)
        return output * self.target_scale + self.target_mean

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a move to a device; a change of precision is for the network alone.

        With float64 numbers it stays where it is if the device has none, as Apple's GPUs.
        """
        device = fn(self.slots).device
        fitted = {name: getattr(self, name) for name in _SAVED_AS}
        if device.type != "mps" or torch.float64 not in {each.dtype for each in fitted.values()}:
            for name, value in fitted.items():
                moved = fn(value)
                setattr(self, name, moved if moved.dtype == value.dtype else value.to(device))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, *_: Any) -> None:
        """Save the fitted tensors with the weights."""
        destination.update({prefix + key: getattr(self, name) for name, key in _SAVED_AS.items()})

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, *found: Any
    ) -> None:
        """Load what was fitted to as many columns, to the device where this module is."""
        missing_keys, _, error_msgs = found
        for name, short in _SAVED_AS.items():
            key, own = prefix + short, getattr(self, name)
            new, has_any_length = state_dict.get(key), name == "missing_indicator_columns"
            if new is None:
                missing_keys.append(key)
            elif new.ndim != own.ndim or (not has_any_length and new.shape[:1] != own.shape[:1]):
                # A single number would be broadcast to all columns.
                error_msgs.append(f"size mismatch for {key}: {tuple(new.shape)}")
            else:
                setattr(self, name, new.to(own.device, copy=True))


def _precision_of(columns: Tensor) -> torch.dtype:
    """The precision for raw values: float32, unless they come in a wider type."""
    is_narrow = columns.is_floating_point() and columns.dtype != torch.float64
    return torch.float32 if is_narrow else torch.float64


def _moments(values: Float64s) -> Float64s:
    """The mean and standard deviation of values `(N,)`, float64; exactly 0 for a constant.

    >>> _moments(np.array([1e300, 3e300]))
    array([2.e+300, 1.e+300])
    """
    low, high = values.min(), values.max()
    if low == high:  # whose computed mean may be off by a rounding
        return np.array([low, 0.0])
    exponent = np.frexp(max(-low, high))[1]  # squares then neither overflow nor vanish
    small = np.ldexp(values, -exponent)
    return np.ldexp([small.mean(), small.std()], exponent)


def _shift_and_scale(center: Tensor, spread: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What to subtract and to divide by, in a precision, or float64 if that would move the center.

    Args:
        center: The means.
        spread: The standard deviations. A constant column, which becomes 0, is divided by 1.
        dtype: The precision.
    """
    is_moved = (center - center.to(dtype)).abs() > ROUNDING * spread
    if (is_moved & (spread > 0)).any():
        dtype = torch.float64
    scale = spread.to(dtype)
    return center.to(dtype), torch.where(scale > 0, scale, 1.0)


def _quantiles_of(values: Float64s) -> Float64s:
    """At most `_N_QUANTILES` quantiles of values `(N,)`, evenly spaced from minimum to maximum.

    numpy's own quantiles differ by a rounding from values that occur many times, which would then
    no longer be ties.
    """
    positions = np.linspace(0, len(values) - 1, min(_N_QUANTILES, len(values))).round(9)
    return np.interp(positions, np.arange(len(values)), np.sort(values))


def _normal_quantile(values: Tensor, quantiles: Tensor) -> Tensor:
    """The normal deviate with the same fraction of values below it.

    Where a value is several quantiles, its fraction is the middle of their range, as in
    scikit-learn's `QuantileTransformer`.

    Args:
        values: `(B, n)`.
        quantiles: `(n, Q)`, sorted, evenly spaced from minimum to maximum.
    """
    by_column = values.mT.contiguous()
    from_below = _fraction_below(by_column, quantiles)
    from_above = 1 - _fraction_below(-by_column, -quantiles.flip(1))
    fractions = ((from_below + from_above) / 2).double().clamp(_EDGE, 1 - _EDGE)
    deviates: Tensor = torch.special.ndtri(fractions)
    return deviates.to(values.dtype).mT


def _fraction_below(values: Tensor, quantiles: Tensor) -> Tensor:
    """The fraction of rows below each value `(n, B)`, interpolated between quantiles."""
    n = quantiles.shape[1]
    if n == 1:
        return torch.full_like(values, 0.5)
    above = torch.searchsorted(quantiles, values).clamp(1, n - 1)
    low, high = quantiles.gather(1, above - 1), quantiles.gather(1, above)
    width = high - low
    part = torch.where(width > 0, (values - low) / width, (values > low).to(values.dtype))
    return (above - 1 + part.clamp(0, 1)) / (n - 1)


def _value_at(deviates: Tensor, quantiles: Tensor) -> Tensor:
    """The inverse of `_normal_quantile`, within the range of the quantiles; float64.

    Args:
        deviates: `(B, n)`.
        quantiles: `(n, Q)` with Q at least 2.
    """
    n = quantiles.shape[1]
    positions = torch.special.ndtr(deviates.double()) * (n - 1)
    low = positions.long().clamp_max(n - 2)
    by_row = quantiles.double().mT  # (n, Q) -> (Q, n)
    return torch.lerp(by_row.gather(0, low), by_row.gather(0, low + 1), positions - low)
