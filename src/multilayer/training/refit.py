"""`refit=true`: a run is trained once more on training and validation rows, for its best epochs.

The refit is a run with its own folder, `refit/` in that of the first. It has the same seed, test
rows and schedule, which is planned for as many epochs as before; it ends after the epoch that was
the best one. Nothing is validated, so that there is no early stopping and no choice of an epoch.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from multilayer.core.config_problems import has_class
from multilayer.core.errors import UserError
from multilayer.core.files import said_path
from multilayer.core.text import as_override, counted
from multilayer.data import Dataset
from multilayer.runs.config import Config, is_refit
from multilayer.runs.folder import Result, RunFolder, find_state, goes_on
from multilayer.runs.manifest import has_refit
from multilayer.training.instantiate import resolve_target
from multilayer.training.resume import command_to_go_on, config_to_go_on, open_resumed

log = logging.getLogger(__name__)

_WITHOUT_REFIT = (
    *("BestWeights", "EarlyStopping", "BestEpochMarker", "Figures", "LearningCurves"),
    *("LearningRateSweep", "NetworkSummary", "Timer"),
)
"""The classes of callbacks that need a validation, or have done their part in the first training.

`_waits` finds others."""


def train_with_refit(
    train: Callable[..., Result],
    config: Config,
    folder: str | Path,
    overrides: Sequence[str],
    *,
    quiet: bool,
) -> Result:
    """Train a run and then its refit; where only that is left of a run that goes on, that alone.

    Args:
        train: trains either, as `multilayer.training.run.train` does.
        config: of the run, as plain data.
        folder: the run folder.
        overrides: what the config was composed with, for the manifests.
        quiet: whether to leave out what shows progress.

    Returns:
        How the run ended, with how its refit did, if it has one.

    Raises:
        UserError: The config, the data, or a folder to go on from is wrong.
    """
    run = RunFolder(folder)
    trained = read_trained(config, run)
    if trained is not None:
        config, first = trained
    else:
        first = train(config, folder, overrides, quiet=quiet)
    if not is_due(first):
        return first
    n_epochs = first.manifest["best_epoch"]
    log.info(f"refit: training and validation rows, for {counted(n_epochs, 'epoch')}")
    with _explained(run, config):
        refit = train(config_of_refit(config, run), run.refit, overrides, quiet=True)
    return replace(first, refit=refit)


def is_due(result: Result) -> bool:
    """Whether a run that is to have a refit has come to an end that gives it one."""
    return has_refit(result.manifest | {"refit": True})


def read_trained(config: Config, run: RunFolder) -> tuple[Config, Result] | None:
    """What is known of a run of which only the refit is left.

    Args:
        config: of the run, as it was composed.
        run: its folder.

    Returns:
        The config without what was for its own training alone, and how that ended; None where the
        config does not go on with such a run in its folder.

    Raises:
        UserError: The config is another one than it was, or the folder is damaged.
    """
    if not goes_on(config, run.path) or find_state(run.path) == "none":
        return None
    result = run.read_result()
    if not is_due(result) or find_state(run.refit) == "finished":
        return None
    return open_resumed(config, run.path)[1], result


def config_of_refit(config: Config, run: RunFolder) -> Config:
    """The config of a refit; what an earlier attempt at it has left goes on, or is removed.

    Args:
        config: of the run, as it was composed.
        run: its folder; it has come to its end, with a best epoch.
    """
    callbacks = config["callbacks"]
    if has_class(callbacks, ".LearningRateSweep"):
        lr = run.read_config()["optimizer"]["lr"]  # which it has found
        config = config | {"optimizer": config["optimizer"] | {"lr": lr}}
    if goes_on(config, run.path):  # which may trust more than the run needs
        config = config | {"trusted_packages": run.read_config()["trusted_packages"]}
    refit = config | {
        "callbacks": {name: node for name, node in callbacks.items() if not _waits(name, node)},
        "refit": run.read_manifest()["best_epoch"],
        "resume": None,
    }
    state = find_state(run.refit)
    if state == "resumable":
        return config_to_go_on(refit, run.refit)
    if state == "unfinished":  # killed before its first checkpoint
        shutil.rmtree(run.refit)
    return refit


def _waits(name: str, node: Mapping[str, Any] | None) -> bool:
    """Whether a callback follows a metric, or has nothing to do in a refit."""
    if node is None or "_target_" not in node:
        return False
    kind = resolve_target(f"callbacks.{name}", node["_target_"])
    waits = "monitor" in node or getattr(kind, "waits_for_validation", False)
    return waits or node["_target_"].rpartition(".")[2] in _WITHOUT_REFIT


def check_same_data(config: Config, run: RunFolder, data: Dataset) -> None:
    """Raise `UserError` if the data of a refit are not those of the run that it belongs to.

    Args:
        config: of a run, which may be a refit.
        run: its folder.
        data: read.
    """
    first = RunFolder(run.path.parent)
    if not is_refit(config) or first.refit != run.path or not first.manifest_file.exists():
        return
    if first.read_manifest()["data_fingerprint"] != data.fingerprint:
        raise UserError(
            f"the data have changed since {first.path} was trained on them, so that its refit "
            "would have other test rows; train a new run"
        )


@contextmanager
def _explained(run: RunFolder, config: Config) -> Iterator[None]:
    """Have what ends a refit say how to go on with it."""
    try:
        yield
    except BaseException as error:
        words = [
            command_to_go_on(run.path, config),
            as_override("hydra.run.dir", said_path(run.path)),
        ]
        error.__notes__ = [f"the run itself came to its end; for its refit: {' '.join(words)}"]
        raise
