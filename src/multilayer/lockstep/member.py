"""A member of a stack: one job with its own run folder, callbacks, loggers and schedule.

The stack trains its weights. All else that Lightning's Trainer does for a run that trains alone is
done here, epoch by epoch, with that run's own Trainer, callbacks and counters, so that what it
leaves behind is the same.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import wraps
from typing import Any, TypeVar, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelSummary, ProgressBar
from pytorch_lightning.loops.progress import _Progress
from pytorch_lightning.trainer.states import TrainerFn, TrainerStatus
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.optim import SGD, Optimizer

from multilayer.core.errors import UserError
from multilayer.core.files import explain_write_error
from multilayer.data import Minibatches, as_datamodule
from multilayer.stacking.block import Block, Layout
from multilayer.stacking.compat import difference
from multilayer.stacking.dropout import key_generator
from multilayer.training.epoch_outputs import drop_undefined
from multilayer.training.run import Training
from multilayer.training.steps import limited_batches
from multilayer.training.weights import copy_weights

log = logging.getLogger(__name__)

Method = TypeVar("Method", bound=Callable[..., None])

HOOKS = (
    "setup",
    "on_fit_start",
    "on_train_start",
    "on_train_epoch_start",
    "on_validation_start",
    "on_validation_epoch_start",
    "on_validation_epoch_end",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_end",
    "on_fit_end",
    "teardown",
    "on_exception",
)
"""The hooks of callbacks that a member calls. A job whose callbacks want others trains alone."""


def _guarded(method: Method) -> Method:
    """Keep what a member's own callbacks, loggers and schedule raise from the other members.

    It becomes the member's `failure`; from then on it does nothing more.
    """

    @wraps(method)
    def run(member: "Member", *args: Any, **arguments: Any) -> None:
        if member.failure is not None:
            return
        try:
            method(member, *args, **arguments)
        except Exception as error:
            member.failure = explain_write_error(error, member.training.run.path)

    return cast(Method, run)


class Member:
    """One of the networks of a stack, with what belongs to its run alone.

    training: the run, ready to be trained.
    failure: what one of its callbacks raised, say; it is to leave.
    seconds, stack_seconds: its share of the stack's time, and all of that; see `Stack.share_time`.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.module = training.module
        self.trainer = training.trainer
        # Only its order and its counter are used: a checkpoint says which minibatches were given.
        minibatches = training.data.train_minibatches()
        assert isinstance(minibatches, Minibatches), "the plan stacks no streamed data"
        self.minibatches = minibatches
        # The masks of dropout are hashed from its numbers; see `HashedDropout`.
        self.dropout_keys = key_generator(training.config["seed"])
        self.left_at_step: int | None = None
        self.facts_before: dict[str, Any] = {}
        self.network_before: pl.LightningModule | None = None
        self.trainer_facts = self.facts_of_trainer()
        self.schedule_before: tuple[int, Any] | None = None
        self.failure: Exception | None = None
        self.seconds = self.stack_seconds = 0.0

    @property
    def optimizer(self) -> Optimizer:
        """torch's own. It holds the numbers and the state; the stack does its steps."""
        return self.trainer.optimizers[0]

    @_guarded
    def start(self) -> None:
        """Write what is known of the run, and do what Lightning does when a fit begins."""
        self.training.run.begin(self.training.config, self.training.manifest)
        trainer = self.trainer
        trainer.state.fn, trainer.state.status = TrainerFn.FITTING, TrainerStatus.RUNNING
        trainer.training = True
        self.module.trainer = trainer
        trainer.strategy.connect(self.module)
        self.module.to(trainer.strategy.root_device)
        self.show_data()
        kept = [item for item in trainer.callbacks if not isinstance(item, SHOWN_FOR_ALL)]  # type: ignore[attr-defined]
        trainer.callbacks[:] = kept  # type: ignore[attr-defined]
        self.call("setup", stage="fit")
        trainer.strategy.setup_optimizers(trainer)
        self.call("on_fit_start")
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # the schedule looks for it
        self.call("on_train_start")
        if any(not type(each).__module__.startswith(KNOWN) for each in trainer.callbacks):  # type: ignore[attr-defined]
            self.network_before = _without_copying_weights(self.module)

    def show_data(self) -> None:
        """Let callbacks find the data in the trainer, and checkpoints the minibatches given."""
        training, loop = self.training, self.trainer.fit_loop
        validation = training.data.minibatches("validation")
        self.trainer.datamodule = as_datamodule(training.data)  # type: ignore[attr-defined]
        loop._combined_loader = CombinedLoader(self.minibatches, "max_size_cycle")
        loop.max_batches = limited_batches(training.config["trainer"], len(self.minibatches))
        loop.epoch_loop.val_loop._combined_loader = CombinedLoader(validation, "sequential")
        loop.epoch_loop.val_loop._max_batches = [len(validation)]

    def call(self, hook: str, **arguments: Any) -> None:
        """Call a hook of every callback, in Lightning's order."""
        self.module._current_fx_name = hook  # `self.log` asks for it
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            getattr(callback, hook)(self.trainer, self.module, **arguments)
        self.module._current_fx_name = None

    def live_in(self, block: Block, k: int) -> None:
        """Make the weights, buffers and optimizer state views of place `k` of a block."""
        layout = Layout(self.module)
        params = dict(self.module.named_parameters())
        tensors = {**params, **dict(self.module.named_buffers())}
        views = {**layout.split(block.weights[k]), **{n: t[k] for n, t in block.rest.items()}}
        for name in views.keys() & tensors.keys():
            tensors[name].data = views[name]
        n_steps = self.trainer.global_step
        states = {name: layout.split(state[k]) for name, state in block.state.items()}
        for name in layout.shapes if states else ():
            own = {key: parts[name] for key, parts in states.items()}
            if not isinstance(self.optimizer, SGD):
                # One for each: if they shared it, each would count it on in a run that is resumed.
                own["step"] = torch.tensor(float(n_steps))
            self.optimizer.state[params[name]] = own
        self.facts_before = self.facts_of_step()

    def facts_of_trainer(self) -> dict[str, Any]:
        """What a callback may change in the trainer, and a stack does not follow."""
        trainer = self.trainer
        return {
            "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches,
            "trainer.gradient_clip_val": trainer.gradient_clip_val,
            "trainer.limit_train_batches": trainer.limit_train_batches,
            "trainer.max_epochs": trainer.max_epochs,
        }

    def facts_of_step(self) -> dict[str, Any]:
        """What a callback may change in the network and the optimizer, likewise."""
        network, group = self.module.network, self.optimizer.param_groups[0]
        tensors = [*network.parameters(), *network.buffers()]
        return {
            "weights or buffers": [(each.data_ptr(), each.requires_grad) for each in tensors],
            "flags of the optimizer": [each for each in group.values() if isinstance(each, bool)],
            "the state of the optimizer": len(self.optimizer.state),
        }

    def move_out(self) -> None:
        """Give it weights of its own: its place goes to another."""
        for tensor in [*self.module.parameters(), *self.module.buffers()]:
            tensor.data = tensor.data.clone()
        self.optimizer.state.clear()

    @_guarded
    def begin_epoch(self, unused_terms: Sequence[str]) -> None:
        """Do what Lightning does when an epoch begins.

        unused_terms: see `check_step`.
        """
        self.trainer.fit_loop.epoch_progress.increment_ready()
        self.trainer.fit_loop.epoch_progress.increment_started()
        self.call("on_train_epoch_start")
        self.check_step(unused_terms)

    def check_step(self, unused_terms: Sequence[str]) -> None:
        """Raise `UserError` where a callback has made of a step what a stack does not do.

        unused_terms: the optimizer's numbers that are 0 throughout.
        """
        before = self.trainer_facts | self.facts_before
        now = self.facts_of_trainer() | self.facts_of_step()
        changed = [name for name, value in now.items() if value != before[name]]
        group = self.optimizer.param_groups[0]
        changed += [f"optimizer.{name}" for name in unused_terms if group.get(name, 0) != 0]
        if self.network_before is not None and not changed:
            found = difference(self.network_before, self.module, in_all=True)
            changed = [found] if found else []
        if changed:
            raise UserError(
                f"a callback has changed {', '.join(changed)}, which a stack cannot follow: "
                "use hydra/launcher=basic and engine=lightning"
            )

    def take_back_begin(self) -> None:
        """Count an epoch as not begun, of which no minibatch was given."""
        progress: Any = self.trainer.fit_loop.epoch_progress
        for counts in (progress.total, progress.current):
            counts.ready -= 1
            counts.started -= 1
        self.minibatches.n_yielded = 0

    def order(self, epoch: int) -> Tensor:
        """The order of the rows in an epoch, `(n_rows,)`."""
        assert self.minibatches.sampler is not None
        self.minibatches.sampler.set_epoch(epoch)
        return self.minibatches.order()

    def has_schedule(self, interval: str) -> bool:
        """Whether its schedule moves on every "step" or "epoch"."""
        return any(config.interval == interval for config in self.trainer.lr_scheduler_configs)

    @_guarded
    def move_schedule(self, interval: str) -> None:
        """Move on the schedules of an interval, but those that follow a metric."""
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == interval and not config.reduce_on_plateau:
                schedule: Any = config.scheduler
                schedule.step()

    def note_schedule(self, n_steps: int) -> None:
        """Remember the schedule as it is before a call, which is that of `n_steps` steps."""
        group = {
            key: each for key, each in self.optimizer.param_groups[0].items() if key != "params"
        }
        states = [config.scheduler.state_dict() for config in self.trainer.lr_scheduler_configs]
        self.schedule_before = n_steps, deepcopy((group, states))

    def take_schedule_back(self, n_steps: int) -> None:
        """Set the schedule to that of `n_steps` steps: it was moved for a whole call at once."""
        if self.schedule_before is None:
            return
        n_before, (group, states) = self.schedule_before
        self.optimizer.param_groups[0].update(group)
        for config, state in zip(self.trainer.lr_scheduler_configs, states, strict=True):
            config.scheduler.load_state_dict(state)
        for _ in range(n_steps - n_before):
            self.move_schedule("step")

    @_guarded
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars to the run's loggers; some show the epoch, which Lightning adds too."""
        for logger in self.trainer.loggers:
            logger.log_metrics({**values, "epoch": self.trainer.current_epoch}, step)
            logger.save()

    @_guarded
    def end_validation(self, values: Mapping[str, Tensor], n_steps: int, n_batches: int) -> None:
        """Log an epoch's metrics and call what looks at them.

        n_steps, n_batches: see `count`.
        """
        self.count(n_steps, n_batches)
        trainer, connector = self.trainer, self.trainer._logger_connector
        trainer.validating = True
        self.module.eval()
        if self.network_before is not None:  # before a user's callback changes the weights
            self.module.validated = copy_weights(self.module)
        self.call("on_validation_start")
        self.call("on_validation_epoch_start")
        connector._callback_metrics.update(values)
        connector._logged_metrics.update(values)
        self.call("on_validation_epoch_end")
        all_values = {**values, **connector.update_eval_epoch_metrics()}  # those of callbacks too
        self.log(drop_undefined(all_values), step=n_steps - 1)  # Lightning counts steps from 0
        self.call("on_validation_end")
        self.module.move_plateau()
        connector.reset_results()
        trainer.training = True
        self.module.train()
        if self.left_at_step is not None:
            self.count(self.left_at_step, n_batches)  # the step that its weights are of
            trainer.should_stop = True
            trainer.fit_loop.min_epochs = 0

    @_guarded
    def end_epoch(self) -> None:
        """Close an epoch after its validation."""
        loop, connector = self.trainer.fit_loop, self.trainer._logger_connector
        loop.epoch_loop._batches_that_stepped += 1
        loop.epoch_progress.increment_processed()
        self.call("on_train_epoch_end")
        connector.on_epoch_end()
        loop.epoch_loop._batches_that_stepped -= 1  # what is logged is of the last step
        connector.update_train_epoch_metrics()
        loop.epoch_loop._batches_that_stepped += 1
        loop.epoch_progress.increment_completed()

    def is_done(self) -> bool:
        """Whether it has trained enough, or is to stop."""
        if self.failure is not None:
            return True
        n_epochs = self.trainer.current_epoch
        enough = n_epochs >= (self.trainer.min_epochs or 0)
        return n_epochs == self.trainer.max_epochs or (self.trainer.should_stop and enough)

    def count(self, n_steps: int, n_batches: int, *, all_given: bool = True) -> None:
        """Set the trainer's counters to what they are when an epoch has given some minibatches.

        n_steps: the optimizer steps so far, of which `n_batches` are this epoch's.
        all_given: whether it has no more, and is validated.
        """
        loop = self.trainer.fit_loop.epoch_loop
        optimizer = loop.automatic_optimization.optim_progress.optimizer
        for progress in (loop.batch_progress, optimizer.step, optimizer.zero_grad):
            _set_counts(progress, n_steps, n_batches)
        if all_given:
            _set_counts(loop.val_loop.batch_progress, 1, 1)
        n_epochs = self.trainer.current_epoch
        moves = (n_epochs + all_given, int(all_given))
        if self.has_schedule("step"):
            moves = (n_steps, n_batches)
        elif any(config.reduce_on_plateau for config in self.trainer.lr_scheduler_configs):
            moves = (0, 0)  # the module moves it, not Lightning
        _set_counts(loop.scheduler_progress, *moves)
        loop.batch_progress.is_last_batch = loop.val_loop.batch_progress.is_last_batch = all_given
        loop._batches_that_stepped = n_steps - all_given
        self.minibatches.n_yielded = n_batches
        for state in self.optimizer.state.values():
            if "step" in state:
                state["step"].fill_(n_steps)

    def finish(self) -> None:
        """End, and take the weights along: the place in the block goes to another."""
        self.end_fit()
        if self.failure is not None:
            self.fail(self.failure)
        self.move_out()

    @_guarded
    def end_fit(self) -> None:
        """Do what Lightning does when a fit ends."""
        self.call("on_train_end")
        self.call("on_fit_end")
        self.call("teardown", stage="fit")
        for logger in self.trainer.loggers:
            logger.finalize("success")

    def fail(self, error: BaseException) -> None:
        """Let the callbacks save what there is, as Lightning does after an error."""
        folder = self.training.run.path
        try:
            self.call("on_exception", exception=error)
            for logger in self.trainer.loggers:
                logger.finalize("failed")
        except Exception as raised:
            other = explain_write_error(raised, folder)
            if not isinstance(other, UserError):
                log.exception(f"{folder} failed, and then its callbacks did")
            # A full disk is full for these too, and a folder that is gone is gone for all.
            elif str(other) != str(error) and folder.is_dir():
                log.warning(f"{folder}: {other}")


SHOWN_FOR_ALL: tuple[type[pl.Callback], ...] = (ProgressBar, ModelSummary)
"""Callbacks that print: the stack has one bar for all."""


KNOWN = ("multilayer.", "pytorch_lightning.")
"""Packages whose callbacks change nothing in a network's attributes."""


def _without_copying_weights(module: pl.LightningModule) -> pl.LightningModule:
    """A copy of a module's layers, over the same weights: what its attributes are now."""
    memo = {id(each): each for each in [*module.parameters(), *module.buffers()]}
    copied = pl.LightningModule()
    for name in ("network", "loss"):
        setattr(copied, name, deepcopy(getattr(module, name), memo))
    return copied


def _set_counts(progress: _Progress, total: int, current: int) -> None:
    """Set all counts of a progress."""
    for counts, n in ((progress.total, total), (progress.current, current)):
        for name in vars(counts):
            setattr(counts, name, n)
