"""A run that diverges, or no longer improves on its best epoch, is stopped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from multilayer.callbacks.best_weights import FollowsMetric
from multilayer.core.text import counted
from multilayer.training.epoch_callback import Record


@dataclass(kw_only=True, eq=False)
class EarlyStopping(FollowsMetric):
    """Stops a run when a metric has not improved for `patience` validations.

    Args:
        monitor: a logged metric.
        mode: "min" where less is better, "max" where more is.
        patience: validations without improvement. They count from `trainer.min_epochs` on, while
            the best is tracked from the start.
        min_delta: what an improvement must exceed.

    Attributes:
        best_value: the best value so far, `(K,)`.
        best_epoch: its epoch, from 1 on, `(K,)`; 0 where there is none.
        n_without_improvement: validations since then, `(K,)`.
        reasons: for each run why it stopped; None where it did not.
        diverged: whether a loss was no longer finite, `(K,)`.

    >>> from multilayer.training import lightning_callbacks
    >>> stopping = EarlyStopping(monitor="validation/accuracy", mode="max", patience=5)
    >>> callbacks = lightning_callbacks(stopping)
    >>> stopping.reasons
    [None]
    """

    STATE = tuple((name, name) for name in ("best_value", "best_epoch", "n_without_improvement"))
    PER_RUN = ("best_value", "best_epoch", "n_without_improvement", "reasons", "diverged")

    patience: int = 20
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")
        super().__post_init__()

    def reset(self, n_runs: int = 1) -> None:
        """Begin to count."""
        super().reset(n_runs)
        self.n_without_improvement = np.zeros(n_runs, int)
        self.reasons: list[str | None] = [None] * n_runs
        self.diverged = np.zeros(n_runs, bool)

    def on_fit_start(self, record: Record) -> None:
        """Stop runs that go on from where they had stopped, for the same reasons."""
        for k, reason in enumerate(self.reasons):
            if reason is not None:
                record.stop(reason, k=k, at_once=bool(self.diverged[k]))

    def on_validation_end(self, record: Record) -> None:
        """Look at the metric, and stop the runs that are due."""
        self._stop_diverged(record)
        better = self.follow(record, self.min_delta)
        counts = ~better & (record.epoch > record.min_epochs)
        self.n_without_improvement = np.where(better, 0, self.n_without_improvement + counts)
        for k in np.flatnonzero(self.n_without_improvement >= self.patience):
            so_far = (
                f"has not improved on {self.best_value[k]:.4g} of epoch {self.best_epoch[k]}"
                if self.best_epoch[k]
                else "was not a finite number"
            )
            epochs = counted(int(record.epoch[k] - self.best_epoch[k]), "epoch")
            if self.reasons[k] is None:
                self.reasons[k] = f"early stopping: {self.monitor} {so_far} for {epochs}"
            record.stop(str(self.reasons[k]), k=int(k))

    def _stop_diverged(self, record: Record) -> None:
        """Stop runs of which any loss is no longer a finite number."""
        for name, values in record.metrics.items():
            if name.endswith("/loss"):
                for k in np.flatnonzero(~np.isfinite(values) & record.has(name)):
                    self.diverged[k] = True
                    reason = f"diverged: {name} is {values[k]} in epoch {record.epoch[k]}"
                    self.reasons[k] = reason
                    record.stop(reason, k=int(k), at_once=True)

    def state_dict(self, k: int = 0) -> dict[str, Any]:
        """What run `k` has counted, and why it stopped, if it did."""
        reason = self.reasons[k]
        stopped = {} if reason is None else {"reason": reason, "diverged": bool(self.diverged[k])}
        return super().state_dict(k) | stopped

    def load_state_dict(self, state: Mapping[str, Any], k: int = 0) -> None:
        """Go on counting; a run that may now go on for longer has not stopped."""
        super().load_state_dict(state, k)
        diverged = bool(state.get("diverged"))
        if "reason" in state and (diverged or self.n_without_improvement[k] >= self.patience):
            self.reasons[k], self.diverged[k] = str(state["reason"]), diverged

    def manifest_entries(self, k: int = 0) -> dict[str, Any]:
        """The run's status, where it diverged."""
        return {"status": "diverged"} if self.diverged[k] else {}
