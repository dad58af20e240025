"""`multilayer train`: load the data, build the run, fit it, evaluate it, record it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor, ModelSummary, ProgressBar
from pytorch_lightning.loggers import Logger

from multilayer.core.errors import UserError, interrupt_behind
from multilayer.core.files import explain_write_error
from multilayer.data import Dataset, as_datamodule
from multilayer.data.split import Split
from multilayer.runs.config import Config, is_refit, with_absolute_paths
from multilayer.runs.folder import Metrics, Result, RunFolder, goes_on
from multilayer.runs.manifest import describe_failure, start_manifest
from multilayer.training.checks import check_training
from multilayer.training.components import (
    check_components,
    make_all,
    make_optimizer,
    make_own_module,
    make_scheduler,
    make_seeded,
)
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.epoch_outputs import KEPT_BYTES
from multilayer.training.history import History
from multilayer.training.instantiate import instantiate
from multilayer.training.interrupts import interrupts_deferred
from multilayer.training.lightning_adapter import lightning_callbacks, unwrapped_callbacks
from multilayer.training.module import MODULE_OF_TASK, SupervisedModule
from multilayer.training.refit import check_same_data
from multilayer.training.resume import Resumed, command_to_go_on, open_resumed
from multilayer.training.resume_state import load_resumed
from multilayer.training.runtime import compile_if_worthwhile, quiet_lightning
from multilayer.training.steps import epochs_to_train, planned_steps
from multilayer.training.trackers import runs_ended

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A run that is ready to be trained.

    Attributes:
        config: as plain data.
        run: the run folder.
        data: read, split and preprocessed.
        module: with its initial weights.
        trainer: with its callbacks and loggers.
        manifest: as far as it is known.
        n_steps: the optimizer steps of the whole training, if nothing stops it.
        resumed: the checkpoint that it resumes from.
    """

    config: dict[str, Any]
    run: RunFolder
    data: Dataset
    module: SupervisedModule
    trainer: pl.Trainer
    manifest: dict[str, Any]
    n_steps: int
    resumed: Resumed | None = None

    def describe_fit(self, seconds: float, n_before: int = 0) -> dict[str, Any]:
        """The manifest's entries about the training, with those of the callbacks.

        Args:
            seconds: how long it took.
            n_before: the steps of the run that was resumed, which are not part of the seconds.
        """
        n_steps = self.trainer.global_step
        return {
            "best_epoch": None,
            "fit_seconds": round(seconds, 3),
            "steps": n_steps,
            "steps_per_second": round((n_steps - n_before) / seconds, 1) if seconds else None,
            **self._entries_of_callbacks(),
        }

    def describe_end(self, metrics: Metrics) -> dict[str, Any]:
        """The manifest's entries about the end: the status and why the training stopped."""
        status = self.manifest["status"]  # what a callback has said of it, if any has
        status = "done" if status == "running" else status
        if not isfinite(metrics["train"]["loss"]):
            status = "diverged"
        reason = self.manifest["stop_reason"] or self._limit_reached()
        return {"status": status, "stop_reason": reason}

    def _entries_of_callbacks(self) -> dict[str, Any]:
        """The entries that callbacks add to the manifest by their `manifest_entries`."""
        entries: dict[str, Any] = {}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            entries |= getattr(callback, "manifest_entries", dict)()
        return entries

    def _limit_reached(self) -> str:
        """Why the training ended, if no callback says so."""
        trainer = self.trainer
        if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
            return f"reached trainer.max_steps={trainer.max_steps}"
        if trainer.max_epochs not in (None, -1) and trainer.current_epoch >= trainer.max_epochs:
            limit = "refit" if is_refit(self.config) else "trainer.max_epochs"
            return f"reached {limit}={trainer.max_epochs}"
        is_late = any(map(_time_is_over, trainer.callbacks))  # type: ignore[attr-defined]
        return "reached the time limit" if is_late else "stopped by a callback"


def _time_is_over(callback: pl.Callback) -> bool:
    """Whether it is a `Timer`, which Lightning adds for `trainer.max_time`, and has run out."""
    left = callback.time_remaining() if isinstance(callback, pl.callbacks.Timer) else None
    return left is not None and left <= 0


def train(
    config: dict[str, Any], folder: str | Path, overrides: Sequence[str], *, quiet: bool
) -> Result:
    """Train a run with Lightning, as a plain config says, and leave its run folder.

    Args:
        config: the composed config, as plain data.
        folder: the run folder.
        overrides: what the config was composed with, for the manifest.
        quiet: whether to leave out what shows progress.

    Raises:
        UserError: The config, the data or the checkpoint to resume from is wrong; nothing was
            written yet.
    """
    quiet_lightning()  # again: importing Lightning has made it talkative
    training = _load_and_build(config, folder, overrides, quiet=quiet)
    log.info(f"data: {training.data.describe()}")
    with runs_ended(training.trainer.loggers), _recorded(training):
        _fit(training)
        metrics = _evaluate(training)
        training.manifest.update(training.describe_end(metrics))
        training.run.write_metrics(metrics)
    return Result(metrics, training.manifest)


def _load_and_build(
    config: dict[str, Any], folder: str | Path, overrides: Sequence[str], *, quiet: bool
) -> Training:
    """Read the data of a run and build all that it needs; nothing is written yet. See `train`."""
    resumed = None
    if config["resume"] is not None:
        if goes_on(config, folder):
            RunFolder(folder).check_is_unfinished()
        resumed, config = open_resumed(config, folder)
    data = check_components(config)
    data.known_columns = resumed.columns if resumed else None
    data.setup()
    training = prepare(config, folder, overrides, data, quiet=quiet, resumed=resumed)
    if resumed is not None:
        load_resumed(training, resumed)
    return training


def prepare(
    config: dict[str, Any],
    folder: str | Path,
    overrides: Sequence[str],
    data: Dataset,
    *,
    quiet: bool,
    resumed: Resumed | None = None,
) -> Training:
    """Build a run on data that was read; see `train`."""
    config = with_absolute_paths(config)
    run = RunFolder(folder)
    trainer = _make_trainer(config, run, quiet=quiet)
    run.writes = trainer.is_global_zero
    if not (resumed and resumed.in_place):
        run.check_is_free()
    data.rank, data.n_ranks = trainer.global_rank, trainer.world_size
    n_done = resumed.n_done if resumed else (0, 0)
    n_steps = planned_steps(config["trainer"], len(data.train_minibatches()), *n_done)
    check_training(config, unwrapped_callbacks(trainer), data, n_steps)
    check_same_data(config, run, data)
    module = _make_module(config, data, n_steps)
    device = trainer.strategy.root_device
    manifest = start_manifest(config, overrides, data, device)
    return Training(config, run, data, module, trainer, manifest, n_steps, resumed)


def _make_trainer(config: Config, run: RunFolder, *, quiet: bool = False) -> pl.Trainer:
    """The Trainer with the callbacks and loggers of the config, which write to the run folder."""
    values = run.placeholders()
    loggers = make_all("logger", config["logger"], values, Logger)
    callbacks = make_all("callbacks", config["callbacks"], values, pl.Callback, EpochCallback)
    if not loggers:  # Lightning refuses to monitor rates that nothing logs
        callbacks = [item for item in callbacks if not isinstance(item, LearningRateMonitor)]
    if quiet:
        callbacks = [item for item in callbacks if not isinstance(item, ModelSummary)]
    callbacks = lightning_callbacks(*callbacks, History(folder=run.path))
    trainer: pl.Trainer = instantiate(
        "trainer",
        config["trainer"] | (_limits_of_refit(config) if is_refit(config) else {}),
        values,
        logger=loggers,
        callbacks=callbacks,
        default_root_dir=str(run.path),
        # Only what the config names, without Lightning's defaults.
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
        enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
        enable_model_summary=any(isinstance(each, ModelSummary) for each in callbacks),
        use_distributed_sampler=False,
    )
    return trainer


def _limits_of_refit(config: Config) -> dict[str, Any]:
    """The arguments of a Trainer by which a refit trains its epochs and no more, unvalidated."""
    n_epochs = epochs_to_train(config)
    return {"max_epochs": n_epochs, "min_epochs": None, "max_time": None, "limit_val_batches": 0}


def _make_module(config: Config, data: Dataset, n_steps: int) -> SupervisedModule:
    """The module to be trained; its weights and all later random numbers follow from the seed.

    Args:
        config: the run's config.
        data: the data, read.
        n_steps: the optimizer steps of the whole training.
    """
    make = partial(
        make_own_module(config, data.columns.task) or MODULE_OF_TASK[data.columns.task],
        optimizer=make_optimizer(config),
        scheduler=make_scheduler(config, n_steps=n_steps),
        scheduler_interval=config["scheduler"]["interval"],
        monitor=config["monitor"],
        # Rows that do not fit into memory have outputs that do not either.
        kept_bytes=None if data.stream is None else KEPT_BYTES,
    )
    module: SupervisedModule = make_seeded(make, config, data)
    return module


@contextmanager
def _recorded(training: Training) -> Iterator[None]:
    """Write config and manifest at the start, and the manifest again however the block ends.

    Raises:
        UserError: The folder is another run's, or cannot be written.
    """
    run, manifest = training.run, training.manifest
    if training.resumed and training.resumed.in_place:
        run.begin_again(manifest)
    else:
        run.begin(training.config, manifest)
    try:
        yield
        run.write_manifest(manifest)
    except BaseException as error:
        reason = error
        if isinstance(error, Exception):
            reason = interrupt_behind(error) or explain_write_error(error, run.path)
        if run.can_be_resumed():
            reason.add_note(f"to go on: {command_to_go_on(run.path, training.config)}")
        with suppress(UserError):  # perhaps the very error that ended the run
            run.write_manifest(manifest | describe_failure(reason))
        if reason is error:
            raise
        raise reason from error


def _fit(training: Training) -> None:
    """Train, and record how long it took."""
    config, trainer, resumed = training.config, training.trainer, training.resumed
    training.manifest["compiled"] = compile_if_worthwhile(
        training.module.network,
        config["compile"],
        # With a time limit, the number of steps is not known.
        n_steps=0 if config["trainer"]["max_time"] else training.n_steps,
        device=trainer.strategy.root_device,
    )
    n_before, start = trainer.global_step, perf_counter()  # a resumed run has taken some steps
    try:
        with interrupts_deferred():
            trainer.fit(
                training.module,
                as_datamodule(training.data),
                ckpt_path=resumed.path if resumed else None,
                weights_only=True,
            )
    except SystemExit as error:
        raise (interrupt_behind(error) or error) from None  # Lightning makes an exit of it
    finally:
        callbacks = unwrapped_callbacks(trainer)
        apart = sum(getattr(each, "seconds_apart", 0.0) for each in callbacks)
        training.manifest.update(training.describe_fit(perf_counter() - start - apart, n_before))


def _evaluate(training: Training) -> Metrics:
    """The loss and metrics of each split, of the weights that the training has ended with."""
    data, device = training.data, training.trainer.strategy.root_device
    module = training.module.to(device)
    splits = [split for split in get_args(Split) if len(data.rows[split])]
    return {
        split: module.evaluate(data.minibatches(split, device), tests=split == "test")
        for split in splits
    }
