"""The LightningModules that train a network: one for each task, with one base class."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from multilayer.core.errors import UserError
from multilayer.data.batches import Minibatch
from multilayer.data.preprocessing import Preprocessing
from multilayer.nn.losses import Task
from multilayer.runs.checkpoint import prepare_to_save
from multilayer.training.checks import (
    call_factory,
    check_arguments,
    check_trainable,
    features_of,
)
from multilayer.training.epoch import EpochModule, LightningOutputs
from multilayer.training.epoch_outputs import KEPT_BYTES
from multilayer.training.predictor import Batch, Predictor, preprocessings_of
from multilayer.training.weights import copy_weights

_MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]

_NEVER = sys.maxsize
"""A number of epochs that never pass, for a schedule that Lightning must not move."""


class SupervisedModule(Predictor, EpochModule):
    """Trains any `nn.Module` that maps features `(B, n_features)` to outputs `(B, n_outputs)`.

    `forward` takes raw columns, and so do training, validation, test and prediction, with targets
    in their own units. Only the minibatches of a `Dataset` are already preprocessed.

    Args:
        network: the `nn.Module`.
        loss: called with outputs and targets of one minibatch; None for the task's usual loss.
        optimizer: called with the parameters; not needed if nothing is trained.
        scheduler: called with the optimizer; None keeps the learning rate.
        scheduler_interval: "epoch" or "step", how often the schedule moves.
        monitor: the metric that `ReduceLROnPlateau` follows.
        preprocessing: fitted, from raw columns to features. None takes over that of the first
            `Dataset`, or its loaders, that the module is used with before it learns from other
            rows; features from elsewhere are unchanged.
        metadata: plain data that is saved in checkpoints, under the key "multilayer".
        kept_bytes: how many bytes the outputs and targets of a training epoch may take; the metrics
            of a longer epoch are those of its last rows. None keeps all.

    Attributes:
        lr: the learning rate of the optimizer if it is set, as by `Tuner.lr_find`.

    Raises:
        UserError: An argument is of the wrong type, or the loss is for another task.
    """

    # Lightning's own, which it sets for the whole module.
    device = EpochModule.device
    dtype = EpochModule.dtype  # type: ignore[assignment]

    def __init__(
        self,
        network: nn.Module = None,  # type: ignore[assignment]  # Lightning loads without it
        *,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        optimizer: _MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        scheduler_interval: str = "epoch",
        monitor: str = "validation/loss",
        preprocessing: Preprocessing | None = None,
        metadata: dict[str, Any] | None = None,
        kept_bytes: int | None = KEPT_BYTES,
    ) -> None:
        check_arguments(network, loss, optimizer, scheduler, scheduler_interval)
        super().__init__(
            network, self.task, loss=loss, preprocessing=preprocessing, metadata=metadata
        )
        self.epochs = {"train": [LightningOutputs(kept_bytes)]}
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.monitor = monitor
        self.lr: float | None = None
        self.validated: dict[str, Tensor] | None = None  # a copy, if a callback wants one

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the name of the current hook fast: 50 times a step, torch would take 1 us."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def _accepts_preprocessing(self) -> bool:
        """Loaded weights may change to preprocessed features in a fit."""
        fits = self._trainer is not None and self._trainer.state.fn == "fit"
        return self.raw_weights in (("", "loaded") if fits else ("",))

    def configure_callbacks(self) -> list[pl.Callback]:
        """Take over the preprocessing of loaders before callbacks copy the module.

        Lightning calls this first; a `Dataset` may not be fitted until its `setup`.
        """
        for fitted in preprocessings_of(_sources_of(self.trainer)):
            self.take_preprocessing(fitted)
        return []

    def check_data(self, data: Any = None) -> None:
        """Raise `UserError` if the data are preprocessed differently than this module expects.

        Args:
            data: loaders; None for those of the trainer.
        """
        super().check_data(_sources_of(self.trainer) if data is None else data)

    on_fit_start = on_validation_start = on_test_start = on_predict_start = check_data

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of a minibatch."""
        loss = self.step(batch, self.epochs["train"][0])
        if not loss.requires_grad:
            check_trainable(self.network)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:
            self.log("train/loss_step", loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Keep the outputs of a validation minibatch, and with the first one the weights."""
        if self.validated is not None and batch_index == dataloader_idx == 0:
            self.validated = copy_weights(self)
        self.step(batch, self.epochs["validation"][dataloader_idx])

    def test_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Keep the outputs of a test minibatch."""
        self.step(batch, self.epochs["test"][dataloader_idx])

    def predict_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> Tensor:
        """Predictions for a minibatch, whatever it contains besides the features."""
        if isinstance(batch, Minibatch):
            return self.predict_features(batch.features)
        return self(features_of(batch))  # type: ignore[no-any-return]

    def on_train_epoch_start(self) -> None:
        """Note that the weights learn from raw columns, if they do."""
        super().on_train_epoch_start()
        if not isinstance(self.preprocessing, Preprocessing):
            self.raw_weights = "trained"

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over the network's parameters, and its schedule."""
        if self.make_optimizer is None:
            raise UserError("optimizer: a module to be trained needs one, such as torch.optim.Adam")
        check_trainable(self.network)
        optimizer: Optimizer = call_factory(
            "optimizer", self.make_optimizer, self.network.parameters()
        )
        if self.lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
        if self.make_scheduler is None:
            return optimizer
        scheduler = call_factory("scheduler", self.make_scheduler, optimizer)
        follows_metric = isinstance(scheduler, ReduceLROnPlateau)
        schedule = {
            "scheduler": scheduler,
            "interval": self.scheduler_interval,
            "frequency": _NEVER if follows_metric else 1,  # see `move_plateau`
            "monitor": self.monitor,
        }
        return {"optimizer": optimizer, "lr_scheduler": schedule}  # type: ignore[return-value]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild the module from the checkpoint alone."""
        checkpoint.update(self.checkpoint_entries())
        prepare_to_save(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Create the preprocessing of a checkpoint, whose numbers are among its weights."""
        columns = checkpoint.get("multilayer", {}).get("columns", {})  # of a run's
        task = checkpoint.get("task", columns.get("task", self.task))
        if task != self.task:
            name = MODULE_OF_TASK[task].__name__
            raise UserError(f"the checkpoint is of the task {task}: load it with {name}")
        options = checkpoint.get("preprocessing")
        if options and not isinstance(self.preprocessing, Preprocessing):
            self.preprocessing = Preprocessing.from_options(options).to(self.device)


class BinaryModule(SupervisedModule):
    """Two classes, one logit; predictions are probabilities of class 1, `(B,)`."""

    task = "binary"


class MulticlassModule(SupervisedModule):
    """A logit for each class; predictions are probabilities, `(B, n_classes)`."""

    task = "multiclass"


class RegressionModule(SupervisedModule):
    """One value, in the units of the target, `(B,)`."""

    task = "regression"


MODULE_OF_TASK: dict[Task, type[SupervisedModule]] = {
    each.task: each for each in (BinaryModule, MulticlassModule, RegressionModule)
}


def _sources_of(trainer: pl.Trainer) -> list[Any]:
    """The loaders or data sets that a trainer was given for all its loops."""
    # `Trainer.fit(module, loaders)` and the like put them into the loops' `_data_source`, and
    # nowhere public before Lightning iterates over them. If a later Lightning moves them,
    # test_a_fit_takes_over_the_preprocessing_of_loaders fails.
    fit, others = trainer.fit_loop, (trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
    loops: Any = (fit, fit.epoch_loop.val_loop, *others)
    given = [loop._data_source.instance for loop in loops]
    return [each.iterables if isinstance(each, CombinedLoader) else each for each in given]
