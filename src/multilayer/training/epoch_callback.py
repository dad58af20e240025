"""Callbacks that act on whole epochs, written once for every engine that trains.

Nothing in here knows Lightning: `lightning_adapter` runs such callbacks in a `pytorch_lightning`
Trainer.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from multilayer.core.errors import UserError

if TYPE_CHECKING:
    from multilayer.data import Dataset
    from multilayer.data.batches import Minibatch
    from multilayer.data.split import Split

Values = NDArray[Any]
"""One value for each of K runs, `(K,)`."""

Callback = TypeVar("Callback", bound="EpochCallback")

Choice = TypeVar("Choice")


class EpochCallback:
    """Base class of callbacks that act at the end of epochs, for K runs at once.

    Every hook does nothing unless a subclass overrides it. Under Lightning K is 1.

    >>> class Losses(EpochCallback):
    ...     def reset(self, n_runs=1):
    ...         self.seen = []
    ...
    ...     def on_epoch_end(self, record):
    ...         self.seen.append(record["validation/loss"].tolist())
    >>> losses = Losses()
    >>> import pytorch_lightning as pl
    >>> from torch.optim import Adam
    >>> from multilayer import MLP, BuiltinData, MulticlassModule
    >>> from multilayer.training import lightning_callbacks
    >>> trainer = pl.Trainer(
    ...     max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
    ...     enable_progress_bar=False, enable_model_summary=False,
    ...     callbacks=lightning_callbacks(losses),
    ... )
    >>> trainer.fit(MulticlassModule(MLP(4, 3), optimizer=Adam), BuiltinData(name="iris"))
    >>> len(losses.seen)
    2
    """

    STATE: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What a checkpoint holds for a run that is resumed, as pairs of a name and an attribute. Of an
    array `(K,)`, it holds the element of its run."""

    PER_RUN: ClassVar[tuple[str, ...] | None] = None
    """The attributes with one element for each run: arrays, lists, or dicts of tensors `(K, ...)`.
    With them one instance acts for all runs of a stack that have equal callbacks; None makes one
    for each run, whose K is 1, and so does a subclass that does not say it again; the run's other
    callbacks then act for it alone, too."""

    waits_for_validation: ClassVar[bool] = False
    """Whether the callback does nothing before the first validation."""

    keeps_weights: ClassVar[bool] = False
    """Whether the callback keeps the weights of some validation."""

    writes_checkpoints: ClassVar[bool] = False
    """Whether it writes checkpoints, and so is called after all others."""

    within_epochs: Literal["never", "streamed", "always"] = "never"
    """When `within_epoch` is called: "streamed" is for epochs whose rows are streamed, which may
    take hours."""

    seconds_apart: float = 0.0
    """The seconds of the fit in which the callback did something else than train the run."""

    @property
    def acts_for_all(self) -> bool:
        """Whether one instance acts for all runs; a subclass may count on K = 1."""
        return vars(type(self)).get("PER_RUN") is not None

    @property
    def state_key(self) -> str:
        """The name of its state in a checkpoint, which no other callback of the run may have."""
        return type(self).__qualname__

    def reset(self, n_runs: int = 1) -> None:
        """Forget the fit before. A run that is resumed loads its state after this."""

    def on_fit_start(self, record: "Record") -> None:
        """Called before the first step."""

    def on_epoch_start(self, record: "Record") -> None:
        """Called before the first step of each epoch."""

    def within_epoch(self, record: "Record") -> None:
        """Called before each step, as `within_epochs` says."""

    def on_validation_end(self, record: "Record") -> None:
        """Called after each validation; `record.weights()` are the weights that it ran with."""

    def on_epoch_end(self, record: "Record") -> None:
        """Called at the end of each epoch, after its validation."""

    def on_fit_end(self, record: "Record") -> None:
        """Called after the last epoch."""

    def on_failure(self, record: "Record", error: BaseException) -> None:
        """Called instead of `on_fit_end` after an error or an interruption."""

    def state_dict(self, k: int = 0) -> dict[str, Any]:
        """The state of run `k`, as plain data for its checkpoint."""
        return {key: _of_run(getattr(self, name), k) for key, name in self.STATE}

    def load_state_dict(self, state: Mapping[str, Any], k: int = 0) -> None:
        """Take up the state of run `k`."""
        for key, name in self.STATE:
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                value = value.copy()
                value[k] = state[key]
            else:
                value = state[key]
            setattr(self, name, value)

    def manifest_entries(self, k: int = 0) -> dict[str, Any]:
        """What the manifest of run `k` says of this callback."""
        return {}


class Record(Protocol):
    """What is known of K runs at the end of an epoch, and what a callback may do then.

    What takes time is not computed before it is asked for. A record may be of a later epoch when it
    is used again: what is to be kept is copied.

    Attributes:
        epoch: the number of the epoch, from 1 on, `(K,)`; at the start of a fit the epochs before.
        step: the optimizer steps so far, `(K,)`.
        seconds: since the training began, `(K,)`.
        metrics: the latest value of every metric, `(K,)` each, by names such as "validation/loss".
        measured: the metrics that were measured in this epoch and are defined for the rows, each
            with the runs of which this is true, `(K,)` bool.
        rates: the learning rate of each parameter group, `(K,)`, as the epoch began with it.
        min_epochs: the epochs that each run trains at least, `(K,)`.
        is_last: whether the training ends with this epoch, `(K,)`.
        is_resumed: whether the fit goes on from a checkpoint.
        n_processes: how many processes train together.
        log_every_n_steps: how often what is logged by step is logged.
        writes_files: whether files are to be written: in one only of several processes that train
            together.
        shows_progress: whether the user is shown how far the run is.
        data: the data.
        device: where the networks are trained.
        trainer_config: how they are trained, by the names of Lightning's `Trainer`.
    """

    epoch: Values
    step: Values
    seconds: Values
    metrics: Mapping[str, Values]
    measured: Mapping[str, Values]
    rates: Mapping[str, Values]
    min_epochs: Values
    is_last: Values
    is_resumed: bool
    n_processes: int
    log_every_n_steps: int
    writes_files: bool
    shows_progress: bool
    data: "Dataset"
    device: torch.device
    trainer_config: dict[str, Any]

    @property
    def n_runs(self) -> int:
        """The number of runs, K."""
        return len(self.epoch)

    @property
    def lr(self) -> Values:
        """The learning rate of the first parameter group, `(K,)`, as the epoch began with it."""
        return next(iter(self.rates.values()), np.full(self.n_runs, np.nan))

    def __getitem__(self, name: str) -> Values:
        """The latest value of a metric, `(K,)`.

        Raises:
            UserError: where no metric has this name; it lists those that there are.
        """
        metrics = self.metrics
        if name not in metrics:
            known = ", ".join(sorted(metrics))
            raise UserError(f"no metric {name!r} to monitor; logged are {known}")
        return metrics[name]

    def has(self, name: str) -> Values:
        """Which runs have a value of a metric, `(K,)` bool; that of the others is NaN."""
        return np.full(self.n_runs, name in self.metrics)

    def agree(self, choice: Choice) -> Choice:
        """The choice of the first of several processes that train together, in all of them."""
        return choice

    def find(self, kind: type[Callback]) -> Callback | None:
        """The callback of a class in this fit, if there is one."""

    # The network and the data ---------------------------------------------------------------

    def rows(self, split: "Split", at_most: int | None = None) -> "Minibatch":
        """Preprocessed features `(N, D)` and target `(N,)` of a split.

        Args:
            split: "train", "validation" or "test".
            at_most: how many rows at most, evenly spread; None for all.
        """
        return self.data.split_tensors(split, at_most)

    def weights(self) -> dict[str, Tensor]:
        """A copy of weights and buffers, `(K, ...)` each.

        They are those that the last validation of this epoch ran with, if there was one.
        """

    def keep_weights(self, kept: dict[str, Tensor], runs: Values) -> None:
        """Copy the weights and buffers of some runs, as of `weights`, into those that are kept.

        Args:
            kept: weights `(K, ...)` each, which change; if empty, those of all runs become them.
            runs: whose, `(K,)` bool.
        """
        new = self.weights()
        if not kept or runs.all():
            kept.update(new)
            return
        for name, value in new.items():
            rows = torch.from_numpy(runs).to(value.device)
            old = kept[name].to(value.device)
            kept[name] = value.where(rows.view(-1, *[1] * (value.ndim - 1)), old)

    def inspect(
        self, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> AbstractContextManager[Any]:
        """The `TaskModel` of run `k` in evaluation mode, which is later as it was before.

        Args:
            weights: weights `(K, ...)` for it to have; None for those in place.
            k: the run.
        """

    # The optimizer --------------------------------------------------------------------------

    def optimizer(self, k: int = 0) -> Optimizer:
        """The optimizer of run `k`; in a stack one that has its parameter group, and no steps."""

    def make_optimizer(
        self, parameters: Iterable[Tensor], *, k: int = 0, **arguments: Any
    ) -> Optimizer:
        """Another optimizer like that of run `k`, for other parameters.

        Args:
            parameters: what it changes.
            k: the run.
            arguments: instead of the run's.
        """

    def use_lr(self, lr: float, k: int = 0) -> None:
        """Begin run `k` with another learning rate of its optimizer, and so in its schedule.

        It is for `on_fit_start`; checkpoints have the rate in their config.
        """

    # Actions --------------------------------------------------------------------------------

    def log_scalars(self, values: Mapping[str, Any], step: Values | None = None) -> None:
        """Log scalars, `(K,)` each, in every logger.

        Args:
            values: by the names to log.
            step: optimizer steps before it, `(K,)`; None for the curves' usual, those before the
                last step.
        """

    def log_image(self, name: str, figure: Any, *, step: int | None = None, k: int = 0) -> None:
        """Log a matplotlib figure in the TensorBoard of run `k`, if it has one."""
        if (writer := self.tensorboard(k)) is not None:
            writer.add_figure(name, figure, int(self.step[k]) - 1 if step is None else step)

    def tensorboard(self, k: int = 0) -> Any:
        """The `SummaryWriter` of run `k`; None where it has none."""

    def stop(self, reason: str, *, k: int | None = None, at_once: bool = False) -> None:
        """Stop run `k`, or all of them, at the end of this epoch.

        Args:
            reason: what the manifest says.
            k: the run; None for all.
            at_once: also before `trainer.min_epochs`.
        """

    def end_with(self, weights: Mapping[str, Tensor], runs: Values | None = None) -> None:
        """Have networks end with these weights `(K, ...)`, whatever other callbacks leave.

        Args:
            weights: the weights.
            runs: whose, `(K,)` bool; None for all.
        """

    def submit(self, write: Callable[[], None], k: int = 0) -> None:
        """Write files of run `k`: at once, or in a stack by a thread while it trains on.

        Args:
            write: writes them, and does nothing else.
            k: the run, which fails if this raises.
        """
        write()

    def save_checkpoint(
        self, path: Path, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> None:
        """Write a checkpoint of run `k`.

        Args:
            path: the file, which appears whole or not at all.
            weights: write these weights `(K, ...)` and no more; None writes all that a run needs to
                be resumed.
            k: the run.
        """


def _of_run(value: Any, k: int) -> Any:
    """The element of run `k` where a value is an array `(K,)`; else the value."""
    return value[k].item() if isinstance(value, np.ndarray) else value
