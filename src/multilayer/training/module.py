"""The LightningModules that train a network: one for each task, with one base class."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics.utilities.distributed import gather_all_tensors

from multilayer.core.errors import UserError
from multilayer.data.batches import Minibatch
from multilayer.data.preprocessing import Preprocessing
from multilayer.nn.losses import Task
from multilayer.training.checks import (
    call_factory,
    check_arguments,
    check_trainable,
)
from multilayer.training.epoch_outputs import KEPT_BYTES, UNFINISHED_EPOCH, EpochOutputs
from multilayer.training.fit_state import is_fitting, log_in_fit, monitored_value
from multilayer.training.further_metrics import Metric
from multilayer.training.interrupts import raise_interrupts
from multilayer.training.task_model import Batch, TaskModel, preprocessings_of

_MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]

_NEVER = sys.maxsize
"""A number of epochs that never pass, for a schedule that Lightning must not move."""


class SupervisedModule(TaskModel, pl.LightningModule):
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
        metrics: of torchmetrics, by the names that they are reported as, next to the task's own.
        kept_bytes: how many bytes the outputs and targets of a training epoch may take; the metrics
            of a longer epoch are those of its last rows. None keeps all.

    Attributes:
        lr: the learning rate of the optimizer if it is set, as by `Tuner.lr_find`.

    Raises:
        UserError: An argument is of the wrong type, or the loss is for another task.

    >>> import pytorch_lightning as pl
    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> from multilayer import MLP, RegressionModule
    >>> columns = torch.rand(64, 2)
    >>> rows = DataLoader(TensorDataset(columns, columns.sum(dim=1)), batch_size=16)
    >>> module = RegressionModule(MLP(2, 1), optimizer=torch.optim.Adam)
    >>> trainer = pl.Trainer(
    ...     max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
    ...     enable_progress_bar=False, enable_model_summary=False,
    ... )
    >>> trainer.fit(module, rows, rows)
    >>> "validation/rmse" in trainer.callback_metrics
    True
    >>> module(columns).shape
    torch.Size([64])
    """

    # Lightning's own, which it sets for the whole module.
    device = pl.LightningModule.device
    dtype = pl.LightningModule.dtype  # type: ignore[assignment]

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
        metrics: Mapping[str, Metric] | None = None,
        kept_bytes: int | None = KEPT_BYTES,
    ) -> None:
        check_arguments(network, loss, optimizer, scheduler, scheduler_interval)
        super().__init__(
            network,
            self.task,
            loss=loss,
            preprocessing=preprocessing,
            metadata=metadata,
            metrics=metrics,
        )
        self.epochs = {"train": [_LightningOutputs(kept_bytes)]}
        self.unfinished_epoch: dict[str, Any] | None = None  # of the checkpoint that is resumed
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
        raise_interrupts()  # before it draws random numbers
        loss = self.step(batch, self.epochs["train"][0])
        if not loss.requires_grad:
            check_trainable(self.network)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:
            self.log("train/loss_step", loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Keep the outputs of a validation minibatch, and with the first one the weights."""
        raise_interrupts()
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
        return self(_features_of(batch))  # type: ignore[no-any-return]

    def on_train_start(self) -> None:
        """Go on with the outputs of an epoch that was interrupted; Lightning does not begin it."""
        if self.unfinished_epoch:
            epoch = self.epochs["train"][0]
            epoch.load_state_dict(self.unfinished_epoch, self.device)
        self.unfinished_epoch = None

    def on_train_epoch_start(self) -> None:
        """Discard the outputs of the previous epoch, which an error may have ended.

        From here on the weights learn from raw columns, if there is no preprocessing.
        """
        self.epochs["train"] = [_LightningOutputs(self.epochs["train"][0].kept_bytes)]
        if not isinstance(self.preprocessing, Preprocessing):
            self.raw_weights = "trained"

    def on_validation_epoch_start(self) -> None:
        """Keep the outputs of each loader separately."""
        self.epochs["validation"] = [_LightningOutputs() for _ in self.trainer.num_val_batches]

    def on_test_epoch_start(self) -> None:
        """Keep the outputs of each loader separately."""
        self.epochs["test"] = [_LightningOutputs() for _ in self.trainer.num_test_batches]

    def on_train_epoch_end(self) -> None:
        """Log the training loss and metrics if no validation has done so."""
        self.log_new("train")
        if not self.trainer.enable_validation:
            self.move_plateau()

    def on_validation_epoch_end(self) -> None:
        """Log the loss and metrics of both, so that callbacks find them side by side."""
        splits = ("train", "validation") if is_fitting(self.trainer) else ("validation",)
        self.log_new(*splits)

    def on_validation_end(self) -> None:
        """Move the schedule that follows a metric."""
        if is_fitting(self.trainer):
            self.move_plateau()

    def on_test_epoch_end(self) -> None:
        """Log the loss and metrics."""
        self.log_new("test")

    def move_plateau(self) -> None:
        """Let `ReduceLROnPlateau` see a new value of the metric that it follows.

        Lightning would do so at the end of each epoch, with or without a validation in it, and
        after the checkpoint of the epoch is written.
        """
        for config in self.trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                schedule: Any = config.scheduler
                schedule.step(monitored_value(self.trainer, self.monitor))

    def log_new(self, *splits: str) -> None:
        """Log the loss and every metric of the epochs so far, the same in all processes.

        Those of training are measured while the weights change. There are none for a split that has
        no new outputs since the last call.
        """
        values: dict[str, Tensor] = {}
        for split in splits:
            epochs = self.epochs[split]
            for index, epoch in enumerate(epochs):
                if epoch.has_news:
                    epoch.has_news = False
                    found = self.summarize(epoch.of_all_processes())
                    found = self.tested(found) if split == "test" else found
                    ending = f"/dataloader_idx_{index}" * (len(epochs) > 1)
                    values |= {f"{split}/{name}{ending}": each for name, each in found.items()}
        if self.trainer.state.fn == "fit":
            log_in_fit(self.trainer, values)
        else:  # Lightning returns and prints what was logged so
            self.log_dict(values, sync_dist=True, add_dataloader_idx=False)

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
        _continue_after_trained(checkpoint)
        epoch = self.epochs["train"][0]
        if epoch.has_news and "optimizer_states" in checkpoint and self.trainer.world_size == 1:
            done = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
            if state := epoch.state_dict(done["processed"]):
                checkpoint[UNFINISHED_EPOCH] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Create the preprocessing of a checkpoint, whose numbers are among its weights."""
        columns = checkpoint.get("multilayer", {}).get("columns", {})  # of a run's
        task = checkpoint.get("task", columns.get("task", self.task))
        if task != self.task:
            name = MODULE_OF_TASK[task].__name__
            raise UserError(f"the checkpoint is of the task {task}: load it with {name}")
        self.unfinished_epoch = checkpoint.get(UNFINISHED_EPOCH)
        options = checkpoint.get("preprocessing")
        if options and not isinstance(self.preprocessing, Preprocessing):
            self.preprocessing = Preprocessing.from_options(options).to(self.device)


class BinaryModule(SupervisedModule):
    """Two classes, one logit; predictions are probabilities of class 1, `(B,)`.

    >>> import torch
    >>> from multilayer import MLP
    >>> module = BinaryModule(MLP(4, 1), optimizer=torch.optim.Adam)
    >>> module(torch.zeros(5, 4)).shape
    torch.Size([5])
    """

    task = "binary"


class MulticlassModule(SupervisedModule):
    """A logit for each class; predictions are probabilities, `(B, n_classes)`.

    >>> import torch
    >>> from multilayer import MLP
    >>> module = MulticlassModule(MLP(4, 3), optimizer=torch.optim.Adam)
    >>> module(torch.zeros(5, 4)).sum(dim=1)
    tensor([1., 1., 1., 1., 1.], grad_fn=<SumBackward1>)
    """

    task = "multiclass"


class RegressionModule(SupervisedModule):
    """One value, in the units of the target, `(B,)`.

    >>> import torch
    >>> from multilayer import MLP
    >>> module = RegressionModule(MLP(4, 1), optimizer=torch.optim.Adam)
    >>> module(torch.zeros(5, 4)).shape
    torch.Size([5])
    """

    task = "regression"


MODULE_OF_TASK: dict[Task, type[SupervisedModule]] = {
    each.task: each for each in (BinaryModule, MulticlassModule, RegressionModule)
}


class _LightningOutputs(EpochOutputs):
    """The outputs of an epoch under Lightning: of several processes, of a module compiled whole."""

    add = torch.compiler.disable(EpochOutputs.add)  # type: ignore[no-untyped-call]

    def of_all_processes(self) -> EpochOutputs:
        """The outputs of all processes that train together, as one minibatch from each."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        together = EpochOutputs()
        together.losses = gather_all_tensors(self.mean_loss())
        together.outputs = gather_all_tensors(torch.cat(self.outputs))
        together.targets = gather_all_tensors(torch.cat(self.targets))
        together.weights = gather_all_tensors(torch.stack(self.weights).sum())
        return together


def _sources_of(trainer: pl.Trainer) -> list[Any]:
    """The loaders or data sets that a trainer was given for all its loops."""
    # `Trainer.fit(module, loaders)` and the like put them into the loops' `_data_source`, and
    # nowhere public before Lightning iterates over them. If a later Lightning moves them,
    # test_a_fit_takes_over_the_preprocessing_of_loaders fails.
    fit, others = trainer.fit_loop, (trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
    loops: Any = (fit, fit.epoch_loop.val_loop, *others)
    given = [loop._data_source.instance for loop in loops]
    return [each.iterables if isinstance(each, CombinedLoader) else each for each in given]


def _continue_after_trained(checkpoint: dict[str, Any]) -> None:
    """Have our minibatches continue after the last one that was trained on.

    After Ctrl-C or an error within a step, one minibatch was yielded that the weights have not
    learnt from; a resumed run would skip it.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop:
        n_trained = loop["epoch_loop.batch_progress"]["current"]["processed"]
        for state in loop["state_dict"].get("combined_loader", []):
            if "n_given" in state:
                state["n_given"] = n_trained


def _features_of(batch: Any) -> Tensor:
    """The features of a minibatch, which may contain more."""
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        kind = type(first).__name__
        raise UserError(f"a minibatch must be a tensor of features, or begin with it, got {kind}")
    return first


def copy_weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers, on their device."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
