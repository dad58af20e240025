"""Builds what Lightning takes, module and trainer, from a plain config."""

from collections.abc import Sequence
from functools import partial

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor, ModelSummary, ProgressBar
from pytorch_lightning.loggers import Logger

from multilayer.data import Dataset
from multilayer.runs.folder import RunFolder
from multilayer.training.components import (
    Config,
    make_all,
    make_optimizer,
    make_scheduler,
    make_seeded,
)
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.epoch_outputs import KEPT_BYTES
from multilayer.training.history import History
from multilayer.training.instantiate import instantiate
from multilayer.training.lightning_adapter import lightning_callbacks
from multilayer.training.module import MODULE_OF_TASK, SupervisedModule


def make_trained_module(config: Config, data: Dataset, n_steps: int) -> SupervisedModule:
    """The module to be trained; its weights and all later random numbers follow from the seed.

    Args:
        config: the run's config.
        data: the data, read.
        n_steps: the optimizer steps of the whole training.
    """
    make = partial(
        MODULE_OF_TASK[data.columns.task],
        optimizer=make_optimizer(config),
        scheduler=make_scheduler(config, n_steps=n_steps),
        scheduler_interval=config["scheduler"]["interval"],
        monitor=config["monitor"],
        # Rows that do not fit into memory have outputs that do not either.
        kept_bytes=None if data.stream is None else KEPT_BYTES,
    )
    return make_seeded(make, config, data)


def make_trainer(config: Config, run: RunFolder, *, quiet: bool = False) -> pl.Trainer:
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
        config["trainer"],
        values,
        logger=loggers,
        callbacks=callbacks,
        default_root_dir=str(run.path),
        # Only what the config names, without Lightning's defaults.
        enable_checkpointing=has(callbacks, Checkpoint),
        enable_progress_bar=has(callbacks, ProgressBar),
        enable_model_summary=has(callbacks, ModelSummary),
        use_distributed_sampler=False,
    )
    return trainer


def has(callbacks: Sequence[pl.Callback], kind: type[pl.Callback]) -> bool:
    """Whether one of the callbacks is an instance of a class."""
    return any(isinstance(callback, kind) for callback in callbacks)
