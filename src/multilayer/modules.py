"""The LightningModules that train a network: one for each task, on one base."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from math import isnan
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics.utilities.distributed import gather_all_tensors

from multilayer.data.preprocessing import Preprocessing
from multilayer.losses import LOSS_OF_TASK, Task
from multilayer.metric_names import NEEDED
from multilayer.metrics import metrics_of

Batch = tuple[Tensor, Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


KEPT_BYTES = 2**25
"""Of an epoch that may be longer than memory."""

MINIBATCHES_A_PACK, BYTES_A_PACK = 4096, 2**21
"""When minibatches are put together: each takes 2 kB beside its values, and many small tensors that
stay scatter the memory around them."""


class Epoch:
    """What the network gave for each minibatch of an epoch, kept on its device until the end.

    kept_bytes: outputs and targets of the last rows are kept, in about so many bytes; None keeps
        all. Losses are kept of all rows.
    """

    def __init__(self, kept_bytes: int | None = None) -> None:
        self.kept_bytes = kept_bytes
        self.losses: list[Tensor] = []
        self.sizes: list[int] = []
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.n_packs = 0
        self.n_bytes_loose = 0

    def add(self, loss: Tensor, output: Tensor, target: Tensor) -> None:
        """Keep a minibatch; no value is read, so that a GPU need not wait."""
        self.losses.append(loss.detach())
        self.sizes.append(len(target))
        self.outputs.append(output.detach())
        self.targets.append(target)
        self.n_bytes_loose += output.nbytes + target.nbytes
        if self.n_bytes_loose > BYTES_A_PACK or len(self.losses) >= MINIBATCHES_A_PACK:
            self.pack()

    def pack(self) -> None:
        """Put the minibatches since the last pack together; forget the first rows of too many."""
        self.losses, self.sizes = [self.mean_loss()], [sum(self.sizes)]
        for values in (self.outputs, self.targets):
            values[self.n_packs :] = [torch.cat(values[self.n_packs :])]
        self.n_packs, self.n_bytes_loose = self.n_packs + 1, 0
        sizes = [a.nbytes + b.nbytes for a, b in zip(self.outputs, self.targets, strict=True)]
        while self.kept_bytes is not None and sum(sizes[1:]) >= self.kept_bytes:
            del sizes[0], self.outputs[0], self.targets[0]
            self.n_packs -= 1

    def mean_loss(self) -> Tensor:
        """The mean loss over the rows, a scalar."""
        sizes = torch.tensor(self.sizes, device=self.losses[0].device)
        return (torch.stack(self.losses) * sizes).sum() / sizes.sum()

    def of_all_processes(self) -> "Epoch":
        """The same of all processes that train together, with one minibatch from each."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        together = Epoch()
        together.losses = gather_all_tensors(self.mean_loss())
        together.outputs = gather_all_tensors(torch.cat(self.outputs))
        together.targets = gather_all_tensors(torch.cat(self.targets))
        together.sizes = [len(target) for target in together.targets]
        return together


class SupervisedModule(pl.LightningModule, ABC):
    """Trains any `nn.Module` that maps features `(B, n_features)` to outputs `(B, n_outputs)`.

    network: the `nn.Module`.
    loss: called with outputs and targets of one minibatch; None takes the usual one of the task.
    optimizer: called with the parameters. Not needed where nothing is trained.
    scheduler: called with the optimizer; None keeps the rate.
    scheduler_interval: "epoch" or "step", how often the schedule moves on.
    monitor: the metric that `ReduceLROnPlateau` follows.
    preprocessing: fitted, from raw columns to features; None where features come ready.
    about: plain data that travels in the checkpoint under "multilayer".
    kept_bytes: what outputs and targets of a training epoch may take; the metrics of a longer one
        are those of its last rows. None keeps all.

    The minibatches hold features that are preprocessed already; `forward` takes raw columns.
    """

    task: Task

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: nn.Module | None = None,
        optimizer: MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        scheduler_interval: str = "epoch",
        monitor: str = "validation/loss",
        preprocessing: Preprocessing | None = None,
        about: dict[str, Any] | None = None,
        kept_bytes: int | None = KEPT_BYTES,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss or LOSS_OF_TASK[self.task]()
        self.preprocessing = preprocessing or nn.Identity()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.monitor = monitor
        self.about = about or {}
        self.epochs = {"train": Epoch(kept_bytes), "validation": Epoch()}

    def __setattr__(self, name: str, value: Any) -> None:
        """Note the hook that is called, at once: 50 times a step, torch looks for weights, 1 us."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def predictions(self, output: Tensor) -> Tensor:
        """From the network's output to what the metrics and the user take."""

    def targets(self, target: Tensor) -> Tensor:
        """The targets of a minibatch as the metrics take them."""
        return target

    def output(self, features: Tensor) -> Tensor:
        """The network's output."""
        return squeeze_single(self.network(features.to(self.device, cast(torch.dtype, self.dtype))))

    def forward(self, columns: Tensor) -> Tensor:
        """Predictions for raw columns `(B, n_features)`, in float32 or wider."""
        return self.predictions(at_least_float32(self.output(self.preprocessing(columns))))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of a minibatch."""
        loss = self.step(batch, self.epochs["train"])
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:
            self.log("train/loss_step", loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Keep the outputs of a validation minibatch."""
        self.step(batch, self.epochs["validation"])

    def step(self, batch: Batch, epoch: Epoch) -> Tensor:
        """The loss of a minibatch, which is kept for the metrics of the epoch."""
        features, target = batch
        output = self.output(features)
        loss: Tensor = self.loss(output, target)
        epoch.add(loss, output, target)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the training loss and metrics where no validation has done so."""
        self.log_values(self.end("train"))

    def on_validation_epoch_end(self) -> None:
        """Log the loss and metrics of both, so that callbacks find them side by side."""
        self.log_values(self.end("train") | self.end("validation"))

    def end(self, split: str) -> dict[str, Tensor]:
        """The loss and every metric over an epoch, by the names to log; none of no minibatches.

        Those of training are taken while the weights move.
        """
        epoch = self.epochs[split]
        self.epochs[split] = Epoch(epoch.kept_bytes)
        return named(split, self.summarize(epoch.of_all_processes())) if epoch.losses else {}

    def log_values(self, values: dict[str, Tensor]) -> None:
        """Log scalars that are the same in all processes."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            log_in_fit(self.trainer, values)
        else:  # Lightning returns and prints what was logged so
            self.log_dict(values, sync_dist=True)

    @torch.no_grad()
    def summarize(self, epoch: Epoch) -> dict[str, Tensor]:
        """The loss and every metric over an epoch, as scalars on the device."""
        predictions = self.predictions(at_least_float32(torch.cat(epoch.outputs)))
        target = self.targets(torch.cat(epoch.targets))
        return {"loss": epoch.mean_loss(), **metrics_of(self.task, predictions, target)}

    @torch.no_grad()
    def evaluate(self, minibatches: Iterable[Batch]) -> dict[str, float]:
        """The loss and every metric over some minibatches, without learning from them."""
        training = self.training
        self.eval()
        epoch = Epoch()
        for batch in minibatches:
            self.step(batch, epoch)
        values = {name: float(value) for name, value in self.summarize(epoch).items()}
        self.train(training)
        return values

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over the network's parameters, and its schedule."""
        assert self.make_optimizer is not None, "a module to be trained needs an optimizer"
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self.make_scheduler(optimizer),
                "interval": self.scheduler_interval,
                "monitor": self.monitor,
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild the module from the checkpoint alone.

        In a stack of lockstep's, weights are parts of a larger storage: only theirs is saved.
        """
        checkpoint["multilayer"] = self.about
        count_minibatches(checkpoint)
        weights = checkpoint["state_dict"]
        weights.update({name: with_own_storage(value) for name, value in weights.items()})
        for optimizer in checkpoint.get("optimizer_states", []):
            optimizer["state"] = {
                parameter: {name: with_own_storage(value) for name, value in own.items()}
                for parameter, own in optimizer["state"].items()
            }


def log_in_fit(trainer: pl.Trainer, values: dict[str, Tensor]) -> None:
    """Do what Lightning's `log_dict` does in a fit, at an epoch's end.

    Lightning takes 0.3 ms for each value, which for ten of them is a tenth of an epoch of 1,257
    rows: it prepares to accumulate them over minibatches and processes.
    """
    if trainer.sanity_checking or not values:
        return
    trainer.callback_metrics.update(values)
    trainer.logged_metrics.update(values)
    scalars = defined(values)
    for logger in trainer.loggers:
        logger.log_metrics({**scalars, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        logger.save()


def defined(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The values as numbers, without metrics that are not defined for the rows."""
    numbers = {name: float(value) for name, value in values.items()}
    return {
        name: value
        for name, value in numbers.items()
        if not (isnan(value) and name.rpartition("/")[2] in NEEDED)
    }


def count_minibatches(checkpoint: dict[str, Any]) -> None:
    """Let our minibatches count as given where they were trained on.

    After Ctrl-C or an error within a step, one was given that the weights have not seen; a run that
    is resumed would pass over it.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop:
        n_trained = loop["epoch_loop.batch_progress"]["current"]["processed"]
        for state in loop["state_dict"].get("combined_loader", []):
            if "n_given" in state:
                state["n_given"] = n_trained


def with_own_storage(value: Any) -> Any:
    """A tensor, copied where it is a part of a larger one; anything else as it is."""
    is_part = isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes
    return value.clone() if is_part else value


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

    def predictions(self, output: Tensor) -> Tensor:
        """The network's output `(B,)` in the units of the target."""
        return self.in_units(output)

    def targets(self, target: Tensor) -> Tensor:
        """The standardised target `(B,)` in its own units."""
        return self.in_units(target)

    def in_units(self, standardised: Tensor) -> Tensor:
        """Undo the scaling of the target, if there was one."""
        if isinstance(self.preprocessing, Preprocessing):
            return self.preprocessing.unscale_target(standardised)
        return standardised


MODULE_OF_TASK: dict[Task, type[SupervisedModule]] = {
    "binary": BinaryModule,
    "multiclass": MulticlassModule,
    "regression": RegressionModule,
}


def at_least_float32(output: Tensor) -> Tensor:
    """A network's output, widened where it is float16 or bfloat16."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def squeeze_single(output: Tensor) -> Tensor:
    """A network's output; `(B, 1)` -> `(B,)` for a single one."""
    return output.squeeze(1) if output.ndim == 2 and output.shape[1] == 1 else output


def named(split: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The values with the split before each name.

    >>> named("train", {"loss": torch.tensor(1.0)})
    {'train/loss': tensor(1.)}
    """
    return {f"{split}/{name}": value for name, value in values.items()}
