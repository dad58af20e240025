"""`multilayer train`: one run, from its config to its run folder."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import pytorch_lightning as pl
import torch

from multilayer.core.errors import UserError
from multilayer.core.files import explain_write_error
from multilayer.core.interrupts import interrupt_behind
from multilayer.data import DataModule
from multilayer.data.datamodule import count_rows, describe
from multilayer.data.split import Split
from multilayer.runs.config import expand_env
from multilayer.runs.folder import Metrics, RunFolder
from multilayer.runs.manifest import describe_failure, start_manifest
from multilayer.training.checks import (
    check_batch_normalization,
    check_monitor,
    check_validations,
)
from multilayer.training.factory import (
    balance_class_weights,
    check_components,
    check_size,
    make_data,
    make_module,
    make_trainer,
    planned_steps,
    training_arguments,
)
from multilayer.training.lightning_adapter import check_averaging
from multilayer.training.module import SupervisedModule
from multilayer.training.resume import Resumed, command_to_go_on, open_resumed, without_finders
from multilayer.training.resume_state import load_resumed
from multilayer.training.runtime import compile_if_worthwhile, set_threads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How a run ended: its metrics by split, and its manifest."""

    metrics: Metrics
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Training:
    """A run that is ready to be trained."""

    config: dict[str, Any]
    run: RunFolder
    data: DataModule
    module: SupervisedModule
    trainer: pl.Trainer
    manifest: dict[str, Any]
    n_steps: int
    """The steps of the whole training, if nothing stops it."""
    resumed: Resumed | None = None
    """What it goes on from."""


def load_and_build(
    config: dict[str, Any], folder: str | Path, overrides: Sequence[str], *, quiet: bool
) -> Training:
    """A run that is ready to be trained; nothing is written yet.

    Raises `UserError`.
    """
    resumed = open_resumed(config)
    if resumed is not None:
        config = without_finders(config)
    check_components(config)
    data = make_data(config, known=resumed.columns if resumed else None)
    data.setup()
    return prepare(config, folder, overrides, data, quiet=quiet, resumed=resumed)


def fit_and_evaluate(training: Training) -> Result:
    """Train with Lightning, and leave the run folder."""
    config, data, resumed = training.config, training.data, training.resumed
    trainer, module, run = training.trainer, training.module, training.run
    if resumed is not None:
        load_resumed(resumed, training.config, module, data, trainer)
    log.info(f"data: {describe(data)}")
    manifest = training.manifest
    with recorded(run, training.config, manifest):
        # With a limit in time, nobody knows how many steps it will be.
        planned = 0 if config["trainer"]["max_time"] else training.n_steps
        manifest["compiled"] = compile_if_worthwhile(
            module.network, config["compile"], n_steps=planned, device=root_device(trainer)
        )
        fit(trainer, module, data, resumed.path if resumed else None, manifest)
        metrics = evaluate_splits(module.to(root_device(trainer)), data)
        manifest |= describe_end(trainer, metrics)
        run.write_metrics(metrics)
    return Result(metrics, manifest)


def prepare(
    config: dict[str, Any],
    folder: str | Path,
    overrides: Sequence[str],
    data: DataModule,
    *,
    quiet: bool,
    resumed: Resumed | None = None,
) -> Training:
    """Build what a run needs, from its config and its data; nothing is written yet.

    resumed: what it goes on from.

    Raises `UserError`.
    """
    config = with_absolute_paths(config)
    run = RunFolder(folder)
    trainer = make_trainer(config, run, quiet=quiet)
    check_averaging(trainer.callbacks)  # type: ignore[attr-defined]
    run.writes = trainer.is_global_zero
    run.check_is_free()
    data.trainer = trainer
    n_done = resumed.n_done if resumed else (0, 0)
    n_steps = planned_steps(config["trainer"], len(data.train_minibatches()), *n_done)
    check_validations(config, trainer, data, n_steps)
    module = make_trained_module(config, data, n_steps)
    manifest = start_manifest(config, overrides) | describe_start(data, trainer)
    return Training(config, run, data, module, trainer, manifest, n_steps, resumed)


def make_trained_module(config: dict[str, Any], data: DataModule, n_steps: int) -> SupervisedModule:
    """The module to be trained; its weights and all that is random after depend on the seed."""
    check_size(config, data.columns, data.preprocessing)
    pl.seed_everything(config["seed"], verbose=False)
    module = make_module(
        balance_class_weights(config, data),
        data.columns,
        data.preprocessing,
        data_fingerprint=data.fingerprint,
        **training_arguments(config, n_steps=n_steps, is_streamed=data.stream is not None),
    )
    check_monitor(config["monitor"], config["mode"], module.task, data)
    minibatches = data.train_minibatches()
    check_batch_normalization(module.network, minibatches)
    n_rows = minibatches.batch_size
    module.metadata["threads"] = set_threads(config["num_threads"], module.network, n_rows)
    return module


def with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the data's files by their full names: the run is found from anywhere."""
    data = config["data"]
    names = ("path", "train_path", "validation_path", "test_path")
    paths = {name: absolute(data[name]) for name in names if data.get(name)}
    return config | {"data": data | paths}


def absolute(path: str) -> str:
    """A path by its full name; what refers to the environment stays so."""
    if Path(expand_env("data.path", path)).is_absolute() and expand_env("", path) != path:
        return path
    return os.path.abspath(path)


def root_device(trainer: pl.Trainer) -> torch.device:
    """The device of this process."""
    return trainer.strategy.root_device


@contextmanager
def recorded(run: RunFolder, config: dict[str, Any], manifest: dict[str, Any]) -> Iterator[None]:
    """Write config and manifest at the start, and the manifest at the end, whichever end it is.

    Raises `UserError` where the folder is another run's, or takes no more.
    """
    run.begin(config, manifest)
    try:
        yield
        run.write_manifest(manifest)
    except BaseException as error:
        reason = explain_write_error(error, run.path) if isinstance(error, Exception) else error
        if run.can_be_resumed():
            reason.add_note(f"to go on: {command_to_go_on(run.path, config)}")
        with suppress(UserError):  # what it failed of, perhaps
            run.write_manifest(manifest | describe_failure(reason))
        if reason is error:
            raise
        raise reason from error


def fit(
    trainer: pl.Trainer,
    module: SupervisedModule,
    data: DataModule,
    resumed: Path | None,
    manifest: dict[str, Any],
) -> None:
    """Train, and note how long it took."""
    n_before, start = trainer.global_step, perf_counter()  # in a run that goes on, there are some
    try:
        trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
    except SystemExit as error:
        raise interrupt_behind(error) from None
    finally:
        of_sweep = entries_of(trainer).get("lr_sweep_seconds", 0.0)
        manifest |= describe_fit(trainer, perf_counter() - start - of_sweep, n_before)


def describe_fit(trainer: pl.Trainer, seconds: float, n_before: int = 0) -> dict[str, Any]:
    """What the manifest says of the training: how long, how far, and the best epoch.

    n_before: the steps of the run that it went on from, whose seconds are not these.
    """
    n_steps = trainer.global_step
    return {
        "best_epoch": None,
        "fit_seconds": round(seconds, 3),
        "steps": n_steps,
        "steps_per_second": round((n_steps - n_before) / seconds, 1) if seconds else None,
        **entries_of(trainer),
    }


def evaluate_splits(module: SupervisedModule, data: DataModule) -> Metrics:
    """The loss and metrics of each split, with the weights as they are."""
    device = module.device
    return {split: module.evaluate(data.minibatches(split, device)) for split in get_args(Split)}


def describe_start(data: DataModule, trainer: pl.Trainer) -> dict[str, Any]:
    """What the manifest says of data and device."""
    device = root_device(trainer)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "data_fingerprint": data.fingerprint, "rows": count_rows(data)}


def objective(monitor: str, metrics: Metrics) -> float:
    """The monitored metric of the best weights; NaN where there is none of that name."""
    split, _, name = monitor.partition("/")
    return metrics.get(split, {}).get(name, nan)


def entries_of(trainer: pl.Trainer) -> dict[str, Any]:
    """What the callbacks want in the manifest, by their `manifest_entries`."""
    entries: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        entries |= getattr(callback, "manifest_entries", dict)()
    return entries


def describe_end(trainer: pl.Trainer, metrics: Metrics) -> dict[str, Any]:
    """What the manifest says of the end: the status and the reason to stop."""
    ending = {"status": "done", "stop_reason": limit_reached(trainer)} | entries_of(trainer)
    is_finite = isfinite(metrics["train"]["loss"])
    return {
        "status": ending["status"] if is_finite else "diverged",
        "stop_reason": ending["stop_reason"],
    }


def limit_reached(trainer: pl.Trainer) -> str:
    """Why the training ended, where no callback says it."""
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return f"reached trainer.max_steps={trainer.max_steps}"
    if trainer.current_epoch >= (trainer.max_epochs or 0):
        return f"reached trainer.max_epochs={trainer.max_epochs}"
    if any(isinstance(item, pl.callbacks.Timer) for item in trainer.callbacks):  # type: ignore[attr-defined]
        return "reached trainer.max_time"
    return "stopped by a callback"
