"""What is wrong with a composed config: its types, and what this machine cannot do."""

from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from multilayer.core.device import free_memory
from multilayer.core.errors import Problem
from multilayer.core.metric_names import LESS_IS_BETTER, MORE_IS_BETTER
from multilayer.core.value_problems import missing_value, type_problems

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
"""Files that exist on a machine whose GPU has its own memory."""


_FINDERS = ("LearningRateFinder", "BatchSizeFinder")
"""Callbacks of Lightning's that search before a fit."""

_EXTRAS = {"MLFlowLogger": "mlflow", "WandbLogger": "wandb"}
"""The extra that installs a logger's package, by the name of Lightning's class."""


def problems_in(
    command: str,
    config: dict[str, Any],
    *,
    in_sweep: bool = False,
    written: Mapping[str, str] = MappingProxyType({}),
) -> list[Problem]:
    """The problems with the values of a composed config, except those of "???".

    Args:
        command: `train`, for example.
        config: The config, as plain data.
        in_sweep: Whether it is that of a job of a sweep.
        written: The values on the command line as they were written there, by their keys.
    """
    problems = type_problems(command, config, written)
    if problems or command != "train":
        return problems
    return [
        *_missing_extras(config.get("logger") or {}),
        *_missing_path(config["data"]),
        *_fold_problems(config["data"]),
        *([] if config["resume"] else _mode_problems(config["monitor"], config["mode"])),
        *_hidden_size_problems(config),
        *_process_problems(config["trainer"], in_sweep),
        *_refit_problems(config),
    ]


def _missing_extras(loggers: dict[str, Any]) -> list[Problem]:
    """One line for each logger whose package is not installed, with the extra that installs it."""
    return [
        Problem(
            f"logger={name}: the package {extra} is not installed; "
            f"run: pip install 'multilayer[{extra}]'"
        )
        for name, node in loggers.items()
        if str((node or {}).get("_target_")).startswith("pytorch_lightning.")
        for logger, extra in _EXTRAS.items()
        if has_class({name: node}, f".{logger}") and find_spec(extra) is None
    ]


def _missing_path(data: dict[str, Any]) -> list[Problem]:
    """The problem with a table whose file is not named."""
    if "train_path" in data and data["path"] is None and data["train_path"] is None:
        return [missing_value("data.path")]
    return []


def _fold_problems(data: dict[str, Any]) -> list[Problem]:
    """The problem with a fold that does not exist."""
    n_folds, fold = data.get("folds"), data.get("fold", 0)
    if n_folds is None or fold < n_folds:
        return []
    problem = f"data.fold={fold}: of data.folds={n_folds} the last is {n_folds - 1}"
    return [Problem(problem, f"data.fold={fold}")]


def _mode_problems(monitor: str, mode: str) -> list[Problem]:
    """The problem with a mode that would choose the worst epoch, for the metrics known here."""
    name = monitor.rpartition("/")[2]
    more_is_better = name in MORE_IS_BETTER
    if (not more_is_better and name not in LESS_IS_BETTER) or more_is_better == (mode == "max"):
        return []
    which, right = ("more", "max") if more_is_better else ("less", "min")
    problem = f"mode={mode}: of {monitor} {which} is better; use mode={right}"
    return [Problem(problem, f"mode={mode}", [f"mode={right}"])]


def _process_problems(trainer: dict[str, Any], in_sweep: bool) -> list[Problem]:
    """The problems with training one run in several processes."""
    strategy, devices = str(trainer["strategy"]), trainer["devices"]
    if strategy.endswith(("_spawn", "_fork", "_notebook")):
        # Lightning leaves the state of callbacks, such as the best weights, in other processes.
        return [Problem(f"trainer.strategy={strategy}: its results are lost; use trainer=ddp")]
    if in_sweep and (devices != 1 or not strategy.startswith(("auto", "single"))):
        # The second process would start the whole sweep again, and the results be wrong.
        problem = (
            f"trainer.strategy={strategy} trainer.devices={devices}: several processes are not for "
            "a sweep; train such runs one by one, or each with trainer.devices=1"
        )
        return [Problem(problem)]
    return []


def _refit_problems(config: Mapping[str, Any]) -> list[Problem]:
    """Why a run cannot have a refit, if it is to have one."""
    refit, trainer = config["refit"], config["trainer"]
    if type(refit) is int:  # as a refit has it that is resumed
        return [] if config["resume"] else [Problem(f"refit={refit}: must be true or false")]
    if not refit:
        return []
    schedule = config["scheduler"]["scheduler"]["_target_"]
    reasons = {
        "the epochs are those of the best one, which callbacks.best_weights finds; add "
        "callbacks=checkpoint": not has_class(config["callbacks"], ".BestWeights"),
        f"trainer.max_steps={trainer['max_steps']} would be another number of epochs, since they "
        "have more rows; give trainer.max_epochs instead": trainer["max_steps"] != -1,
        "data.stream=true keeps the validation rows apart from those that it reads again and "
        "again; leave one of them out": config["data"].get("stream", False),
        "scheduler=plateau follows the validation, of which a refit has none; choose another "
        "schedule": schedule.endswith(".ReduceLROnPlateau"),
        "it trains in one process; give trainer.devices=1": trainer["devices"] != 1
        or not str(trainer["strategy"]).startswith(("auto", "single")),
        "what Lightning's LearningRateFinder or BatchSizeFinder finds is not taken over; give it "
        "by hand": any(has_class(config["callbacks"], f".{name}") for name in _FINDERS),
    }
    return [Problem(f"refit=true: {reason}") for reason, holds in reasons.items() if holds]


def _hidden_size_problems(config: Mapping[str, Any]) -> list[Problem]:
    """Why the weights between hidden layers do not fit into memory, if they do not.

    If the run may train on a GPU, only the weights themselves count: the rest is in its memory.
    """
    has_gpu = any(Path(driver).exists() for driver in _GPU_DRIVERS)
    on_cpu = config["trainer"]["accelerator"] == "cpu" or not has_gpu
    n_weights = sum(a * b for a, b in pairwise(config["model"].get("d_hidden") or []))
    return size_problems(n_weights, config, free_memory(), in_training=on_cpu)


def size_problems(
    n_weights: int,
    config: Mapping[str, Any],
    free: int,
    *,
    in_training: bool,
) -> list[Problem]:
    """Why a network does not fit into memory, if it does not.

    Args:
        n_weights: the number of its weights.
        config: the run's config.
        free: the free bytes.
        in_training: whether what a training needs besides the weights must fit too.
    """
    n_copies = 1
    if in_training:
        n_copies += 1  # the gradients
        if has_class(config["callbacks"], ".BestWeights"):
            n_copies += 2  # of the validated and of the best weights
    needed = 4 * n_weights * n_copies
    if needed <= free:
        return []
    widths = config["model"].get("d_hidden")
    key = f"model.d_hidden={widths}".replace(" ", "") if widths else "model"
    problem = (
        f"{key}: {n_weights:,} weights take at least {needed / 2**30:,.1f} GiB in training, and "
        f"{free / 2**30:,.1f} GiB are free; choose fewer"
    )
    return [Problem(problem)]


def has_class(nodes: Mapping[str, Any] | None, name: str) -> bool:
    """Whether one of a config's callbacks or loggers is of a class whose path ends so."""
    targets = [str((node or {}).get("_target_")) for node in (nodes or {}).values()]
    return any(target.endswith(name) for target in targets)
