"""The best epoch: which it is, its weights, which a fit ends with, and its mark in TensorBoard."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np
from torch import Tensor

from multilayer.training.epoch_callback import EpochCallback, Record, Values

Mode = Literal["min", "max"]


@dataclass(kw_only=True, eq=False)
class FollowsMetric(EpochCallback):
    """Follows a metric, and remembers its best value and the epoch of that."""

    waits_for_validation = True

    monitor: str = "validation/loss"
    mode: Mode = "min"

    def __post_init__(self) -> None:
        self.reset()

    def reset(self, n_runs: int = 1) -> None:
        """Begin without a best epoch."""
        self.best_value = np.full(n_runs, worst(self.mode))
        self.best_epoch = np.zeros(n_runs, int)

    def follow(self, record: Record, min_delta: float = 0.0) -> Values:
        """Look at the metric of a validation; returns whether it is the best so far, `(K,)`."""
        value = record[self.monitor]
        better = is_better(value, self.best_value, self.mode, min_delta)
        self.best_value = np.where(better, value, self.best_value)
        self.best_epoch = np.where(better, record.epoch, self.best_epoch)
        return better


class BestWeights(FollowsMetric):
    """The network ends with the weights of its best epoch instead of its last.

    The weights of an epoch are those that its validation ran with: other callbacks may swap in
    averaged ones for it. Two copies of the weights are in memory, on their device.

    Args:
        monitor: a logged metric.
        mode: "min" where less is better, "max" where more is.

    Attributes:
        best_epoch: the best epoch, from 1 on, `(K,)`; 0 where there was none.
        best_step: the optimizer steps until then, `(K,)`.
        best_value: the metric there, `(K,)`.
        weights: weights and buffers there, `(K, ...)`, by name; empty before the first. Those of
            a run without a best epoch mean nothing.

    Raises:
        UserError: next to a callback whose averaged weights are never validated.

    >>> best = BestWeights(monitor="validation/accuracy", mode="max")
    >>> import pytorch_lightning as pl
    >>> from torch.optim import Adam
    >>> from multilayer import MLP, BuiltinData, MulticlassModule
    >>> from multilayer.training import lightning_callbacks
    >>> trainer = pl.Trainer(
    ...     max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
    ...     enable_progress_bar=False, enable_model_summary=False,
    ...     callbacks=lightning_callbacks(best),
    ... )
    >>> trainer.fit(MulticlassModule(MLP(4, 3), optimizer=Adam), BuiltinData(name="iris"))
    >>> best.best_value.shape
    (1,)
    """

    STATE = tuple((name, f"best_{name}") for name in ("epoch", "step", "value"))
    PER_RUN = ("best_epoch", "best_step", "best_value", "weights")

    keeps_weights = True

    def reset(self, n_runs: int = 1) -> None:
        """Begin without a best epoch."""
        super().reset(n_runs)
        self.best_step = np.zeros(n_runs, int)
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, record: Record) -> None:
        """Keep the weights of the runs whose metric is the best so far."""
        better = self.follow(record)
        if better.any():
            self.best_step = np.where(better, record.step, self.best_step)
            record.keep_weights(self.weights, better)

    def on_fit_end(self, record: Record) -> None:
        """Have the fits end with the best weights that had any."""
        if self.best_epoch.any():
            record.end_with(self.weights, self.best_epoch > 0)

    def state_dict(self, k: int = 0) -> dict[str, Any]:
        """The best epoch of run `k`, with its weights, if there was one."""
        kept = self.weights if self.best_epoch[k] else {}
        return super().state_dict(k) | {"weights": {name: each[k] for name, each in kept.items()}}

    def load_state_dict(self, state: Mapping[str, Any], k: int = 0) -> None:
        """Go on with the best epoch of the run that is resumed."""
        super().load_state_dict(state, k)
        n_runs = len(self.best_epoch)
        for name, own in state["weights"].items():
            kept = self.weights.get(name, own.expand(n_runs, *own.shape)).clone()
            kept[k] = own
            self.weights = self.weights | {name: kept}

    def manifest_entries(self, k: int = 0) -> dict[str, Any]:
        """The best epoch of run `k`."""
        return {"best_epoch": int(self.best_epoch[k])}


class BestEpochMarker(EpochCallback):
    """Marks the best epoch in TensorBoard, as a point among the curves of both splits.

    The point is `turning_point/loss` (or the metric that `BestWeights` follows). The tab "Custom
    Scalars" shows it in one chart with both curves. Without a `BestWeights` callback and the
    TensorBoard logger it does nothing.

    >>> from multilayer.training import lightning_callbacks
    >>> callbacks = lightning_callbacks(BestWeights(), BestEpochMarker())
    """

    PER_RUN = ()

    def on_fit_end(self, record: Record) -> None:
        """Mark the best epoch."""
        best = record.find(BestWeights)
        if best is None:
            return
        for k in np.flatnonzero(best.best_epoch):
            writer = record.tensorboard(int(k))
            if writer is not None:
                metric = best.monitor.rpartition("/")[2]  # `loss` of `validation/loss`
                step = best.best_step[k] - 1  # Lightning counts the steps of its curves from 0
                writer.add_scalar(f"turning_point/{metric}", best.best_value[k], step)


def worst(mode: Mode) -> float:
    """What every number is better than."""
    return inf if mode == "min" else -inf


def is_better(value: Any, best: Any, mode: Mode, min_delta: float = 0.0) -> Values:
    """Whether finite values are better than the best so far by more than `min_delta`, `(K,)`.

    >>> is_better(np.array([0.5, np.nan]), np.array([0.6, 0.6]), "min")
    array([ True, False])
    """
    with np.errstate(invalid="ignore"):  # inf - inf
        gain = np.subtract(best, value) if mode == "min" else np.subtract(value, best)
    return np.isfinite(value) & (gain > min_delta)  # type: ignore[no-any-return]
