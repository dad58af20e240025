"""`multilayer train`: load the data, build the run, fit it, evaluate it, record it."""

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

from multilayer.core.errors import UserError, interrupt_behind
from multilayer.core.files import explain_write_error
from multilayer.data import DataModule
from multilayer.data.split import Split
from multilayer.runs.config import expand_env
from multilayer.runs.folder import Metrics, RunFolder, describe_failure, start_manifest
from multilayer.training.checks import (
    check_batch_normalization,
    check_monitor,
    check_validations,
)
from multilayer.training.factory import (
    balance_class_weights,
    check_components,
    check_size,
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
    """How a run ended.

    Attributes:
        metrics: by split and name, of the weights that are kept.
        manifest: the run's manifest.
    """

    metrics: Metrics
    manifest: dict[str, Any]


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
    data: DataModule
    module: SupervisedModule
    trainer: pl.Trainer
    manifest: dict[str, Any]
    n_steps: int
    resumed: Resumed | None = None


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
    return _fit_and_evaluate(load_and_build(config, folder, overrides, quiet=quiet))


def load_and_build(
    config: dict[str, Any], folder: str | Path, overrides: Sequence[str], *, quiet: bool
) -> Training:
    """Read the data of a run and build everything that it needs; nothing is written yet.

    Args:
        config: the composed config, as plain data.
        folder: the run folder.
        overrides: what the config was composed with, for the manifest.
        quiet: whether to leave out what shows progress.

    Returns:
        The run, ready to be trained.

    Raises:
        UserError: The config, the data or the checkpoint to resume from is wrong.
    """
    resumed = open_resumed(config)
    if resumed is not None:
        config = without_finders(config)
    data = check_components(config)
    data.known_columns = resumed.columns if resumed else None
    data.setup()
    return prepare(config, folder, overrides, data, quiet=quiet, resumed=resumed)


def prepare(
    config: dict[str, Any],
    folder: str | Path,
    overrides: Sequence[str],
    data: DataModule,
    *,
    quiet: bool,
    resumed: Resumed | None = None,
) -> Training:
    """Build a run on data that was read; see `load_and_build`."""
    config = _with_absolute_paths(config)
    run = RunFolder(folder)
    trainer = make_trainer(config, run, quiet=quiet)
    check_averaging(trainer.callbacks)  # type: ignore[attr-defined]
    run.writes = trainer.is_global_zero
    run.check_is_free()
    data.trainer = trainer
    n_done = resumed.n_done if resumed else (0, 0)
    n_steps = planned_steps(config["trainer"], len(data.train_minibatches()), *n_done)
    check_validations(config, trainer, data, n_steps)
    module = _make_trained_module(config, data, n_steps)
    manifest = start_manifest(config, overrides) | _describe_start(data, trainer)
    return Training(config, run, data, module, trainer, manifest, n_steps, resumed)


def _fit_and_evaluate(training: Training) -> Result:
    """Train a run with Lightning, evaluate it, and write its folder."""
    config, run, data, manifest = training.config, training.run, training.data, training.manifest
    module, trainer, resumed = training.module, training.trainer, training.resumed
    if resumed is not None:
        load_resumed(resumed, config, module, data, trainer)
    log.info(f"data: {data.describe()}")
    with _recorded(run, config, manifest):
        device = trainer.strategy.root_device
        # With a time limit, the number of steps is not known.
        n_steps = 0 if config["trainer"]["max_time"] else training.n_steps
        manifest["compiled"] = compile_if_worthwhile(
            module.network, config["compile"], n_steps=n_steps, device=device
        )
        _fit(training)
        module.to(device)
        metrics = {
            split: module.evaluate(data.minibatches(split, device)) for split in get_args(Split)
        }
        manifest |= describe_end(trainer, metrics)
        run.write_metrics(metrics)
    return Result(metrics, manifest)


def _make_trained_module(
    config: dict[str, Any], data: DataModule, n_steps: int
) -> SupervisedModule:
    """The module to be trained; its weights and all later random numbers follow from the seed."""
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


def _with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The config with absolute paths of the data's files, so that they are found from anywhere."""
    data = config["data"]
    names = ("path", "train_path", "validation_path", "test_path")
    paths = {name: _absolute(data[name]) for name in names if data.get(name)}
    return config | {"data": data | paths}


def _absolute(path: str) -> str:
    """A path made absolute; one that refers to the environment for that stays as it is."""
    if Path(expand_env("data.path", path)).is_absolute() and expand_env("", path) != path:
        return path
    return os.path.abspath(path)


@contextmanager
def _recorded(run: RunFolder, config: dict[str, Any], manifest: dict[str, Any]) -> Iterator[None]:
    """Write config and manifest at the start, and the manifest again however the block ends.

    Raises:
        UserError: The folder is another run's, or cannot be written.
    """
    run.begin(config, manifest)
    try:
        yield
        run.write_manifest(manifest)
    except BaseException as error:
        reason = explain_write_error(error, run.path) if isinstance(error, Exception) else error
        if run.can_be_resumed():
            reason.add_note(f"to go on: {command_to_go_on(run.path, config)}")
        with suppress(UserError):  # perhaps the very error that ended the run
            run.write_manifest(manifest | describe_failure(reason))
        if reason is error:
            raise
        raise reason from error


def _fit(training: Training) -> None:
    """Train, and record how long it took."""
    trainer, resumed = training.trainer, training.resumed
    n_before, start = trainer.global_step, perf_counter()  # a resumed run has taken some steps
    try:
        trainer.fit(
            training.module,
            training.data,
            ckpt_path=resumed.path if resumed else None,
            weights_only=True,
        )
    except SystemExit as error:
        raise interrupt_behind(error) from None
    finally:
        searching = _manifest_entries(trainer).get("lr_sweep_seconds", 0.0)
        seconds = perf_counter() - start - searching
        training.manifest.update(describe_fit(trainer, seconds, n_before))


def describe_fit(trainer: pl.Trainer, seconds: float, n_before: int = 0) -> dict[str, Any]:
    """The manifest's entries about the training.

    Args:
        trainer: the trainer that has trained.
        seconds: how long it took.
        n_before: the steps of the run that was resumed, which are not part of the seconds.

    Returns:
        The entries, with those of the callbacks.
    """
    n_steps = trainer.global_step
    return {
        "best_epoch": None,
        "fit_seconds": round(seconds, 3),
        "steps": n_steps,
        "steps_per_second": round((n_steps - n_before) / seconds, 1) if seconds else None,
        **_manifest_entries(trainer),
    }


def _describe_start(data: DataModule, trainer: pl.Trainer) -> dict[str, Any]:
    """The manifest's entries about data and device."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "data_fingerprint": data.fingerprint, "rows": data.count_rows()}


def describe_end(trainer: pl.Trainer, metrics: Metrics) -> dict[str, Any]:
    """The manifest's entries about the end: the status and why the training stopped."""
    ending = {"status": "done", "stop_reason": _limit_reached(trainer)} | _manifest_entries(trainer)
    is_finite = isfinite(metrics["train"]["loss"])
    return {
        "status": ending["status"] if is_finite else "diverged",
        "stop_reason": ending["stop_reason"],
    }


def _manifest_entries(trainer: pl.Trainer) -> dict[str, Any]:
    """The entries that callbacks add to the manifest by their `manifest_entries`."""
    entries: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        entries |= getattr(callback, "manifest_entries", dict)()
    return entries


def _limit_reached(trainer: pl.Trainer) -> str:
    """Why the training ended, if no callback says so."""
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return f"reached trainer.max_steps={trainer.max_steps}"
    if trainer.current_epoch >= (trainer.max_epochs or 0):
        return f"reached trainer.max_epochs={trainer.max_epochs}"
    if any(isinstance(item, pl.callbacks.Timer) for item in trainer.callbacks):  # type: ignore[attr-defined]
        return "reached trainer.max_time"
    return "stopped by a callback"


def objective(monitor: str, metrics: Metrics) -> float:
    """The monitored metric of the kept weights; NaN if there is no such metric."""
    split, _, name = monitor.partition("/")
    return metrics.get(split, {}).get(name, nan)
