"""The LightningModules that train a network: one for each task, with one base class."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, Literal, Self, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils._pytree import tree_leaves

from multilayer.core.errors import UserError
from multilayer.data.batches import Minibatch
from multilayer.data.preprocessing import Preprocessing
from multilayer.nn.losses import (
    AutoLoss,
    Task,
    check_outputs,
    loss_for_task,
    squeeze_single,
    target_for,
    total_weight,
)
from multilayer.nn.metrics import metrics_of
from multilayer.runs.checkpoint import prepare_to_save
from multilayer.training.checks import (
    call_factory,
    check_arguments,
    check_batch,
    check_trainable,
    features_of,
    refuse_shape,
)
from multilayer.training.epoch import KEPT_BYTES, EpochModule, EpochOutputs, copy_weights

_Batch = tuple[Tensor, Tensor]
_MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]

_NEVER = sys.maxsize
"""A number of epochs that never pass, for a schedule that Lightning must not move."""

_RAW_WEIGHTS = (
    "preprocessing: these weights have learnt from raw columns, and the data are preprocessed; "
    "give them raw columns, as in DataLoader(TensorDataset(columns, target)), or train a new module"
)

DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
"""The dtype of the weights, by `trainer.precision`; float32 for any other."""


class SupervisedModule(EpochModule, ABC):
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

    task: Task

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
        super().__init__(kept_bytes)
        check_arguments(network, loss, optimizer, scheduler, scheduler_interval)
        self.network = network
        self.loss: Any = loss_for_task(loss or AutoLoss(), self.task)
        self.preprocessing = preprocessing or nn.Identity()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.monitor = monitor
        self.metadata = metadata or {}
        self.lr: float | None = None
        self.validated: dict[str, Tensor] | None = None  # a copy, if a callback wants one
        self.raw_weights: Literal["", "loaded", "trained"] = ""  # without a preprocessing

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the name of the current hook fast: 50 times a step, torch would take 1 us."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def predictions(self, output: Tensor, /) -> Tensor:
        """Map the network's output to what the metrics and the user take."""

    def targets(self, target: Tensor, /) -> Tensor:
        """The targets of a minibatch as the metrics take them."""
        return target

    def take_preprocessing(self, fitted: Preprocessing) -> None:
        """Take over the preprocessing of the data if this module has none.

        A network that has learnt from raw columns keeps them; loaded weights may only change to
        preprocessed features in a fit.
        """
        fits = self._trainer is not None and self._trainer.state.fn == "fit"
        is_new = self.raw_weights in (("", "loaded") if fits else ("",))
        if is_new and not isinstance(self.preprocessing, Preprocessing):
            self.preprocessing = deepcopy(fitted).to(self.device)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Take over the preprocessing of loaders before callbacks copy the module.

        Lightning calls this first; a `Dataset` may not be fitted until its `setup`.
        """
        for fitted in _preprocessings_of(self.trainer):
            self.take_preprocessing(fitted)
        return []

    def check_data(self, data: Any = None) -> None:
        """Raise `UserError` if the data are preprocessed differently than this module expects.

        Args:
            data: loaders; None for those of the trainer.
        """
        for other in _preprocessings_of(self.trainer if data is None else data):
            self.take_preprocessing(other)
            own = self.preprocessing
            if not isinstance(own, Preprocessing):
                raise UserError(_RAW_WEIGHTS)
            if own is not other and not own.is_like(other):
                raise UserError(
                    "preprocessing: the module has another one than the data; give the data the "
                    "module's, as in BuiltinData(..., preprocessing=module.preprocessing), or "
                    "train a new module"
                )

    on_fit_start = on_validation_start = on_test_start = on_predict_start = check_data

    def output(self, features: Tensor) -> Tensor:
        """The network's output."""
        features = features.to(self.device, cast(torch.dtype, self.dtype))
        if features.ndim < 2:
            raise UserError(f"features must be (B, n_features), got {tuple(features.shape)}")
        try:
            return squeeze_single(self.network(features))
        except (RuntimeError, ValueError) as error:
            refuse_shape(features, self.network, error)
            raise

    def forward(self, columns: Tensor) -> Tensor:
        """Predictions for raw columns `(B, n_features)`, in float32 or wider."""
        return self.predict_features(self.preprocessing(columns))

    def predict_features(self, features: Tensor) -> Tensor:
        """Predictions for preprocessed features `(B, n_features)`, in float32 or wider."""
        return self.predictions(_at_least_float32(self.output(features)))

    def training_step(self, batch: _Batch, batch_index: int) -> Tensor:
        """The loss of a minibatch."""
        loss = self.step(batch, self.epochs["train"][0])
        if not loss.requires_grad:
            check_trainable(self.network)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:
            self.log("train/loss_step", loss.detach())
        return loss

    def validation_step(self, batch: _Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Keep the outputs of a validation minibatch, and with the first one the weights."""
        if self.validated is not None and batch_index == dataloader_idx == 0:
            self.validated = copy_weights(self)
        self.step(batch, self.epochs["validation"][dataloader_idx])

    def test_step(self, batch: _Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Keep the outputs of a test minibatch."""
        self.step(batch, self.epochs["test"][dataloader_idx])

    def predict_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> Tensor:
        """Predictions for a minibatch, whatever it contains besides the features."""
        if isinstance(batch, Minibatch):
            return self.predict_features(batch.features)
        return self(features_of(batch))  # type: ignore[no-any-return]

    def step(self, batch: _Batch, epoch: EpochOutputs) -> Tensor:
        """The loss of a minibatch, whose outputs are kept for the metrics of the epoch."""
        features, target = batch if isinstance(batch, Minibatch) else self.prepared(batch)
        output = self.output(features)
        check_outputs(self.task, output, target)
        loss = self.loss_of(output, target)
        epoch.add(loss, output, target, total_weight(self.loss, target))
        return loss

    def prepared(self, batch: _Batch) -> Minibatch:
        """A minibatch of raw columns as the network and its loss take it."""
        columns, target = check_batch(batch)
        features = self.preprocessing(columns)
        if self.task == "regression":
            if isinstance(self.preprocessing, Preprocessing):
                target = self.preprocessing.scale_target(target)
            target = target.to(torch.promote_types(cast(torch.dtype, self.dtype), torch.float32))
        return Minibatch(features, target)

    def loss_of(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, in float32 or wider; bfloat16 has only three digits."""
        output = _at_least_float32(output)
        loss: Tensor = self.loss(output, target_for(output, target))
        if loss.ndim:
            raise UserError(
                f"loss: must be one number for a minibatch, the mean over its rows, got the shape "
                f"{tuple(loss.shape)}; use reduction='mean'"
            )
        return loss

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a change of precision, but keep the loss in float32 or wider."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        buffers = self.loss.buffers() if isinstance(self.loss, nn.Module) else ()
        if {each.dtype for each in buffers} & {torch.float16, torch.bfloat16}:
            self.loss.float()
        return self

    def on_train_epoch_start(self) -> None:
        """Note that the weights learn from raw columns, if they do."""
        super().on_train_epoch_start()
        if not isinstance(self.preprocessing, Preprocessing):
            self.raw_weights = "trained"

    @torch.no_grad()
    def summarize(self, epoch: EpochOutputs) -> dict[str, Tensor]:
        """The loss and every metric over an epoch, as scalars on the device."""
        outputs = _at_least_float32(torch.cat(epoch.outputs))
        target = torch.cat(epoch.targets)
        check_outputs(self.task, outputs, target, values=True)
        predictions, target = self.predictions(outputs), self.targets(target)
        return {"loss": epoch.mean_loss(), **metrics_of(self.task, predictions, target)}

    @torch.no_grad()
    def evaluate(self, minibatches: Iterable[_Batch]) -> dict[str, float]:
        """The loss and every metric over minibatches, without learning from them."""
        self.check_data(minibatches)
        training = self.training
        self.eval()
        epoch = EpochOutputs()
        for batch in minibatches:
            self.step(batch, epoch)
        values = {name: float(value) for name, value in self.summarize(epoch).items()}
        self.train(training)
        return values

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
        checkpoint["multilayer"], checkpoint["task"] = self.metadata, self.task
        if isinstance(self.preprocessing, Preprocessing):
            checkpoint["preprocessing"] = self.preprocessing.options()
        prepare_to_save(checkpoint)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, *found: Any
    ) -> None:
        """Create a preprocessing if one comes with the weights."""
        begin = f"{prefix}preprocessing."
        own = {
            key.removeprefix(begin): each
            for key, each in state_dict.items()
            if key.startswith(begin)
        }
        if strict and not own:
            if isinstance(self.preprocessing, Preprocessing):
                raise UserError(_RAW_WEIGHTS)
            self.raw_weights = self.raw_weights or "loaded"
        elif own and not isinstance(self.preprocessing, Preprocessing):
            self.preprocessing = Preprocessing.for_state(own).to(self.device)
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *found)

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

    def predictions(self, output: Tensor) -> Tensor:
        """Logits `(B,)` to probabilities `(B,)`."""
        return output.sigmoid()


class MulticlassModule(SupervisedModule):
    """A logit for each class; predictions are probabilities, `(B, n_classes)`."""

    task = "multiclass"

    def predictions(self, output: Tensor) -> Tensor:
        """Logits `(B, n_classes)` to probabilities of the same shape."""
        # Across a few classes torch's softmax is 20 times slower than down the rows.
        return output.mT.contiguous().softmax(dim=-2).mT


class RegressionModule(SupervisedModule):
    """One value, in the units of the target, `(B,)`."""

    task = "regression"

    def predictions(self, output: Tensor, /) -> Tensor:
        """The network's output `(B,)` in the units of the target."""
        if isinstance(self.preprocessing, Preprocessing):
            return self.preprocessing.unscale_target(output)
        return output

    targets = predictions  # targets are standardized as well


MODULE_OF_TASK: dict[Task, type[SupervisedModule]] = {
    each.task: each for each in (BinaryModule, MulticlassModule, RegressionModule)
}


def _at_least_float32(output: Tensor) -> Tensor:
    """A network's output, widened where it is float16 or bfloat16."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _preprocessings_of(data: Any) -> list[Preprocessing]:
    """The preprocessings of some loaders, or of the loaders or `Dataset` of a trainer."""
    if isinstance(data, pl.Trainer):
        # `Trainer.fit(module, loaders)` and the like put them into the loops' `_data_source`, and
        # nowhere public before Lightning iterates over them. If a later Lightning moves them,
        # test_a_fit_takes_over_the_preprocessing_of_loaders fails.
        fit, others = data.fit_loop, (data.validate_loop, data.test_loop, data.predict_loop)
        loops: Any = (fit, fit.epoch_loop.val_loop, *others)
        given = [loop._data_source.instance for loop in loops]
        data = [each.iterables if isinstance(each, CombinedLoader) else each for each in given]
    found = [getattr(each, "preprocessing", None) for each in tree_leaves(data)]
    return [each for each in found if isinstance(each, Preprocessing)]
