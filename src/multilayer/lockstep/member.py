"""A member of a stack: one job, with its network, schedule, callbacks, loggers and run folder."""

from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, nan
from typing import Any

import numpy as np
import torch

from multilayer.composing.job_configs import Job
from multilayer.core.device import choose_device
from multilayer.data import Dataset, Minibatches
from multilayer.lockstep.plan import TENSORBOARD, is_shown_for_all
from multilayer.lockstep.restore import restore
from multilayer.lockstep.schedule import Schedule
from multilayer.runs.config import is_refit, with_absolute_paths
from multilayer.runs.folder import Metrics, Result, RunFolder, goes_on
from multilayer.runs.manifest import start_manifest
from multilayer.stacking.dropout import key_generator
from multilayer.training.checks import check_training
from multilayer.training.components import make_all, make_task_model
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.event_file import EventFile
from multilayer.training.history import History
from multilayer.training.refit import check_same_data
from multilayer.training.resume import Resumed, open_resumed
from multilayer.training.steps import epochs_to_train, planned_steps
from multilayer.training.task_model import TaskModel

_RUN_FOLDER = ("@run_folder", "run_folder")
"""What a config calls it now, and what earlier ones called it."""


@dataclass(eq=False)
class Member:
    """One of the networks of a stack, with what belongs to its run alone.

    Attributes:
        job: what it trains.
        config: of the job, with absolute paths.
        run: the run folder.
        data: with its own order of the rows.
        task_model: the network with its loss. Its weights are those of its slot, while it has one.
        schedule: of the optimizer's numbers; members with equal ones share it.
        callbacks: in the order of the config, those that write checkpoints last.
        loggers: TensorBoard's event file, and Lightning's loggers.
        manifest: as far as it is known.
        n_steps: the optimizer steps of its whole training.
        max_epochs, min_epochs: how long it trains at most, and at least.
        epoch, step: whole epochs and optimizer steps so far.
        metrics: the latest value of each metric that it has.
        measured: the names of those of this epoch.
        seconds, stack_seconds: its share of the stack's time, and all of that.
        stop_reason: why a callback stopped it.
        stopped_by: the state keys of the callbacks that did.
        has_diverged: whether its loss was not finite.
        failure: an error of its own, such as one of its callbacks'; it is to leave.
        lr: the learning rate, as the epoch began with it.
        started: when its first epoch began; 0 before.
        resumed: the checkpoint that it goes on from, until its first epoch begins.
        n_steps_before: the optimizer steps until then.
        n_within: the minibatches of an epoch that it goes on within; 0 if it begins one.
        n_unmeasured: those of them whose outputs are lost.
        has_ended: whether nothing is left to train.
        slots, k: the block that it is in, and its place there.
    """

    job: Job
    config: dict[str, Any]
    run: RunFolder
    data: Dataset
    task_model: TaskModel
    schedule: Schedule
    callbacks: list[EpochCallback]
    loggers: list[Any]
    manifest: dict[str, Any]
    n_steps: int
    max_epochs: int
    min_epochs: int
    epoch: int = 0
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    measured: set[str] = field(default_factory=set)
    seconds: float = 0.0
    stack_seconds: float = 0.0
    stop_reason: str | None = None
    stopped_by: frozenset[str] = frozenset()
    has_diverged: bool = False
    failure: Exception | None = None
    lr: float = nan
    started: float = 0.0
    resumed: Resumed | None = None
    n_steps_before: int = 0
    n_within: int = 0
    n_unmeasured: int = 0
    has_ended: bool = False
    slots: Any = None
    k: int = 0
    minibatches: Minibatches = field(init=False)
    dropout_keys: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        minibatches = self.data.train_minibatches()
        assert isinstance(minibatches, Minibatches), "the plan stacks no streamed data"
        self.minibatches = minibatches
        # The masks of dropout are hashed from its numbers; see `HashedDropout`.
        self.dropout_keys = key_generator(self.config["seed"])

    @cached_property
    def n_weights(self) -> int:
        """The number of weights and buffers."""
        return sum(each.numel() for each in self.task_model.state_dict().values())

    def is_done(self, within: int = 0) -> bool:
        """Whether it has trained enough, is to stop, or has failed.

        Args:
            within: 1 for the end of the epoch that it is in.
        """
        n_epochs = self.epoch + within
        stops = self.stop_reason is not None and n_epochs >= self.min_epochs
        enough = n_epochs >= self.max_epochs
        return stops or enough or self.has_diverged or self.failure is not None

    def order(self) -> torch.Tensor:
        """The order of the rows in the epoch that begins, `(n_rows,)`."""
        assert self.minibatches.sampler is not None
        self.minibatches.sampler.set_epoch(self.epoch)
        return self.minibatches.order()

    def describe_fit(self) -> dict[str, Any]:
        """The manifest's entries about the training so far."""
        n_steps = self.step - self.n_steps_before
        rate = round(n_steps / self.seconds, 1) if self.seconds else None
        return {
            "best_epoch": None,
            "fit_seconds": round(self.seconds, 3),
            "steps": self.step,
            "steps_per_second": rate,
            "stack_seconds": round(self.stack_seconds, 3),
        }

    def result(self, metrics: Metrics) -> Result:
        """How the run ended, with the manifest's entries about that."""
        limit = "refit" if is_refit(self.config) else "trainer.max_epochs"
        reason = self.stop_reason or f"reached {limit}={self.max_epochs}"
        if self.has_diverged and not reason.startswith("diverged"):
            reason = f"diverged: the loss was not finite after step {self.step}"
        is_finite = not self.has_diverged and isfinite(metrics["train"]["loss"])
        status = self.manifest["status"] if is_finite else "diverged"
        status = "done" if status == "running" else status
        self.manifest |= {"status": status, "stop_reason": reason}
        return Result(metrics, self.manifest)


def build_member(job: Job, data: Dataset) -> Member:
    """Build what a job needs, with nothing written; the data is what the members of a stack share.

    Raises:
        UserError: A component refuses its arguments, or the folder holds a run that the job does
            not go on with.
    """
    config = with_absolute_paths(job.config)
    run, resumed = RunFolder(job.folder), None
    if goes_on(config, job.folder):
        run.check_is_unfinished()
        resumed, config = open_resumed(config, job.folder)
    else:
        run.check_is_free()
    own = data.with_shuffle_seed(config["data"].get("shuffle_seed", data.shuffle_seed))
    values = run.placeholders()
    callbacks = [
        *make_all("callbacks", _acting(config["callbacks"]), values, EpochCallback),
        History(folder=run.path),
    ]
    callbacks.sort(key=lambda each: each.writes_checkpoints)  # as Lightning does
    loggers = _make_loggers(config["logger"], run, resumed.n_steps if resumed else None)
    device = choose_device(config["trainer"]["accelerator"])
    n_steps = planned_steps(config["trainer"], len(own.train_minibatches()))
    check_training(config, callbacks, own, n_steps)
    check_same_data(config, run, own)
    task_model = make_task_model(config, own)
    member = Member(
        job,
        config,
        run,
        own,
        task_model,
        Schedule(config, n_steps),
        callbacks,
        loggers,
        start_manifest(config, job.overrides, own, device),
        n_steps=n_steps,
        max_epochs=epochs_to_train(config),
        min_epochs=config["trainer"]["min_epochs"] or 0,
    )
    if resumed is not None:
        restore(member, resumed)
    return member


def _acting(callbacks: dict[str, Any]) -> dict[str, Any]:
    """The nodes of callbacks that do more than print."""
    return {
        name: node
        for name, node in callbacks.items()
        if node is not None and not is_shown_for_all(name, node)
    }


def _make_loggers(group: dict[str, Any], run: RunFolder, n_steps_before: int | None) -> list[Any]:
    """The loggers of a run: TensorBoard's event file, and any of Lightning's."""
    theirs = {
        name: node for name, node in group.items() if node is not None and not _is_event_file(node)
    }
    n_own = sum(node is not None for node in group.values()) - len(theirs)
    loggers: list[Any] = []
    if n_own:
        loggers.append(EventFile(run.path / "tensorboard", n_steps_before))
    if theirs:
        from pytorch_lightning.loggers import Logger

        loggers += make_all("logger", theirs, run.placeholders(), Logger)
    return loggers


def _is_event_file(node: dict[str, Any]) -> bool:
    """Whether a logger is TensorBoard's in the run folder; elsewhere it is Lightning's to write."""
    return node.get("_target_") == TENSORBOARD and node.get("save_dir") in _RUN_FOLDER
