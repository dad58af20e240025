"""Resuming a run: what its checkpoint holds, what may change, and whether anything is left."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multilayer.core.config_problems import has_class
from multilayer.core.errors import UserError
from multilayer.core.files import refusing, said_path
from multilayer.core.text import as_override
from multilayer.data.table import Columns
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.config import Config, is_refit, mask_config
from multilayer.runs.folder import RunFolder, find_last, find_state, goes_on
from multilayer.training.instantiate import (
    check_trusted_targets,
    target_nodes,
    untrusted_packages,
)

_MAY_CHANGE = (
    "optimizer.", "scheduler", "trainer.", "callbacks.", "logger.", "compile", "num_threads",
    "engine", "resume", "trusted_packages", "data.batch_size", "data.shuffle_seed", "data.path",
    "data.train_path", "data.validation_path", "data.test_path", "refit",
)  # fmt: skip
"""The keys, or beginnings of keys, that may change in a resumed run.

A path may lead to the same table elsewhere: its fingerprint is compared. Another class changes the
whole node, such as `optimizer`, which is not in the list.
"""

_INITIAL_ONLY = ("optimizer.initial_accumulator_value",)
"""Exceptions from that, which matter only at the start of a training."""

_DECIDES_BATCHES = (
    "data.batch_size", "data.shuffle_seed", "trainer.limit_train_batches",
    "trainer.accumulate_grad_batches", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
)  # fmt: skip
"""The keys that decide which rows are left of an unfinished epoch, and in which steps."""

_SAME_IN_PLACE = (
    "optimizer.", "scheduler", "trainer.", "data.batch_size", "data.shuffle_seed",
)  # fmt: skip
"""Exceptions from that for a run that goes on in its own folder, whose config.yaml stays."""

_SEARCHES = ("LearningRateSweep", "LearningRateFinder", "BatchSizeFinder")
"""The classes of callbacks that search before a training starts."""

DAMAGE = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)
"""What reading a state of another structure raises."""


@dataclass(frozen=True)
class Resumed:
    """A checkpoint from which a training resumes.

    Attributes:
        before: the config that it was trained with.
        columns: of the data that it was trained on.
        loops: the state of Lightning's loops.
        n_epochs: the whole epochs that were trained.
        n_steps: the optimizer steps so far.
        n_steps_within: the steps of an unfinished epoch; None if there is none.
        n_without_improvement: the epochs that early stopping has counted.
        seconds: how long it has trained, if there was a time limit.
        in_place: whether it goes on in its own folder.
        has_ended: whether nothing is left to train; it was killed before it could say so.
    """

    path: Path
    checkpoint: dict[str, Any]
    before: Config
    columns: Columns
    loops: dict[str, Any]
    n_epochs: int
    n_steps: int
    n_steps_within: int | None
    n_without_improvement: int
    seconds: float
    in_place: bool = False
    has_ended: bool = False

    @property
    def n_done(self) -> tuple[int, int]:
        """The number of whole epochs, and of their steps."""
        return self.n_epochs, self.n_steps - (self.n_steps_within or 0)


def open_resumed(config: Config, folder: str | Path) -> tuple[Resumed, Config]:
    """Read the checkpoint that a config resumes from.

    Args:
        config: as it was composed.
        folder: of the run; where it is that of the checkpoint, the run goes on as if it had never
            been interrupted, and what it writes names no checkpoint.

    Returns:
        The checkpoint, and the config without the callbacks that search before a training: a batch
        size that was found is in it already, and a learning rate in the optimizer's state.

    Raises:
        UserError: There is no such checkpoint, it names what may not be loaded, the config changes
            what cannot change any more, or nothing is left to train.
    """
    resumed = read_resumed(find_last(config["resume"]))
    if goes_on(config, folder):
        resumed = replace(resumed, in_place=True)
        config = _with_found(config, resumed.before) | {"resume": resumed.before["resume"]}
    check_trusted_targets(_instantiated_nodes(resumed.before, config), config["trusted_packages"])
    if resumed.in_place:
        config = config | {"trusted_packages": resumed.before["trusted_packages"]}
    weights = resumed.checkpoint["state_dict"]
    if not resumed.in_place and not all(
        weights[name].isfinite().all() for name in weights if name.startswith("network.")
    ):
        raise UserError(
            f"resume: {resumed.path} has diverged: its weights are not finite; train a new run "
            "with a smaller optimizer.lr"
        )
    limits = [*_reached_limits(resumed, config)]
    if resumed.in_place:
        stopping = resumed.checkpoint["callbacks"].get("EarlyStopping", {})
        has_ended = bool(limits) or stopping.get("reason") is not None
        resumed, limits = replace(resumed, has_ended=has_ended), []
    if limits and config["refit"] is True and Path(config["resume"]).is_dir():
        limits.append(f"refit=true: {_how_to_refit(config['resume'])}")
    problems = [*_forbidden_changes(resumed, config), *limits]
    if problems:
        raise UserError("\n".join(problems))
    kept = {name: node for name, node in config["callbacks"].items() if not _is_search(node)}
    return resumed, config | {"callbacks": kept}


def _how_to_refit(run: str) -> str:
    """What to do for the refit of a run that has come to its end."""
    refit = RunFolder(run).refit
    if find_state(refit) == "finished":
        return f"{refit} is the refit of that run already"
    return f"for the refit of that run alone, add {as_override('hydra.run.dir', run)}"


def read_resumed(path: Path) -> Resumed:
    """Read how far the training in a checkpoint has come.

    Raises:
        UserError: It lacks what is needed to resume.
    """
    checkpoint = read_checkpoint(path)
    with refusing(path, "is damaged, or no last.ckpt", *DAMAGE):
        loops = deepcopy(checkpoint["loops"]["fit_loop"])
        epochs, minibatches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
        steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        before = _stored_config(checkpoint)
        n_steps = int(checkpoint["global_step"])
        _count_steps(loops, n_steps, before["trainer"].get("accumulate_grad_batches", 1))
        stopping = checkpoint["callbacks"].get("EarlyStopping", {})
        timer = checkpoint["callbacks"].get("Timer", {"time_elapsed": {}})
        ended = epochs["current"]["started"] == epochs["current"]["processed"]
        if ended and not minibatches["is_last_batch"]:
            # `max_steps` ended the training within an epoch, which Lightning counts as whole.
            for each in epochs.values():
                each["processed"] -= 1
            ended = False
        return Resumed(
            path,
            checkpoint,
            before,
            Columns(**checkpoint["multilayer"]["columns"]),
            loops,
            n_epochs=int(epochs["current"]["processed"]),
            n_steps=n_steps,
            n_steps_within=None if ended else int(steps["current"]["completed"]),
            n_without_improvement=int(stopping.get("n_without_improvement", 0)),
            seconds=float(timer["time_elapsed"].get("train", 0.0)),
        )


def _count_steps(loops: dict[str, Any], n_steps: int, accumulated: int) -> None:
    """Have Lightning count the steps right by which it decides what to log.

    After Ctrl-C one minibatch has begun that was not trained on, and Lightning adds it when it
    resumes. tests/training/test_in_place.py watches the curves.

    Args:
        loops: the state of Lightning's loops, which is changed.
        n_steps: the optimizer steps so far.
        accumulated: the minibatches of a step.
    """
    counts = loops["epoch_loop.batch_progress"]["current"]
    if counts["ready"] > counts["processed"]:
        is_added = counts["ready"] % accumulated == 0
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] = n_steps - is_added


def _stored_config(checkpoint: Mapping[str, Any]) -> Config:
    """The config in a checkpoint, with the batch size that a `BatchSizeFinder` found."""
    config: Config = checkpoint["multilayer"]["config"]
    if not has_class(config["callbacks"], ".BatchSizeFinder"):
        return config
    (loader,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    return config | {"data": config["data"] | {"batch_size": loader["batch_size"]}}


def _is_search(node: Config | None) -> bool:
    """Whether a node is a callback that searches before a training starts."""
    return str((node or {}).get("_target_")).endswith(_SEARCHES)


def _with_found(config: Config, before: Config) -> Config:
    """A config with the learning rate and the batch size that its searches have found."""
    if any(map(_is_search, config["callbacks"].values())):
        for group, key in (("optimizer", "lr"), ("data", "batch_size")):
            if key in before[group]:
                config = config | {group: config[group] | {key: before[group][key]}}
    return config


def config_to_go_on(config: Config, folder: Path) -> Config:
    """The config with which the run in a folder goes on there, from the one that it began with.

    Args:
        config: of the user's own, as the command gives it: what it names is trusted.
        folder: of the run, which was interrupted.
    """
    trusted = [*config["trusted_packages"], *untrusted_packages(config)]
    return config | {"resume": str(folder), "trusted_packages": trusted}


def command_to_go_on(folder: Path, config: Config) -> str:
    """The command that resumes an interrupted run."""
    words = ["multilayer train", as_override("resume", said_path(folder))]
    if packages := untrusted_packages(config):
        words.append(as_override("trusted_packages", packages))
    return " ".join(words)


def _instantiated_nodes(own: Config, config: Config) -> Config:
    """The nodes of a run's config that will be instantiated, with their targets alone.

    They are those that the new config still has, and the optimizer and schedule, whose learning
    rates are compared.
    """
    now = {key: node["_target_"] for key, node in target_nodes("", config)}
    return {
        key: {"_target_": node["_target_"]}
        for key, node in target_nodes("", own)
        if now.get(key) == node["_target_"] or key.startswith(("optimizer", "scheduler"))
    }


def config_changes(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each key whose value differs, with both values; for another class, the key of its node."""
    are_dicts = isinstance(before, dict) and isinstance(now, dict)
    if are_dicts and before.get("_target_") == now.get("_target_"):
        for name in sorted(before.keys() | now.keys(), key=str):
            below = f"{key}.{name}" if key else str(name)
            yield from config_changes(before.get(name), now.get(name), below)
    elif before != now:
        yield key, before, now


def _forbidden_changes(resumed: Resumed, config: Config) -> Iterator[str]:
    """One line for each change of the config that a resumed run cannot have."""
    if is_refit(resumed.before) != is_refit(config):
        word = "is" if is_refit(resumed.before) else "is not"
        yield f"refit={_format_value(config['refit'])}: {resumed.path} {word} that of a refit"
    for key, before, now in config_changes(resumed.before, mask_config(config)):
        reason = _why_forbidden(key, before, now, resumed, config)
        if reason:
            yield (
                f"{key}={_format_value(now)}: it was {_format_value(before)} in {resumed.path}, "
                f"and must stay so: {reason}; leave it out, or train a new run without resume"
            )


def _why_forbidden(key: str, before: Any, now: Any, resumed: Resumed, config: Config) -> str:
    """Why a key cannot change in a resumed run; "" if it can."""
    if key in _DECIDES_BATCHES and resumed.n_steps_within is not None:
        n = resumed.n_epochs + 1
        return f"the run was interrupted within epoch {n}, whose other rows follow from it"
    if key.startswith("callbacks."):
        return _why_callback_forbidden(key, resumed, config)
    if resumed.in_place and key.startswith(_SAME_IN_PLACE):
        return "the run goes on in its own folder"
    # The weights that balance classes follow from the data, and are compared once it is read.
    is_balanced = key == "loss.class_weights" and before and now == "balanced"
    may = (is_balanced or key.startswith(_MAY_CHANGE)) and key not in _INITIAL_ONLY
    return "" if may else "it would be another run"


def _why_callback_forbidden(key: str, resumed: Resumed, config: Config) -> str:
    """Why a callback, or an argument of one, cannot change; "" if it can."""
    _, name, *argument = key.split(".")
    node = config["callbacks"].get(name) or {}
    if _is_search(node):
        return "it searches before a training begins; give optimizer.lr or data.batch_size instead"
    module, _, kind = str(node.get("_target_")).rpartition(".")
    gathers = any(state.startswith(kind) for state in resumed.checkpoint["callbacks"])
    is_taken_up = argument[:1] in (["monitor"], ["mode"]) or not module.startswith("multilayer.")
    return "what it has gathered follows from it" if argument and gathers and is_taken_up else ""


def _format_value(value: Any) -> str:
    """A value as one would write it; for an object, its class."""
    if isinstance(value, dict):
        value = value.get("_target_")
    return value if isinstance(value, str) else json.dumps(value)


def _reached_limits(resumed: Resumed, config: Config) -> Iterator[str]:
    """One line, with a value that works, for each limit that the training has already reached."""
    trainer, path = config["trainer"], resumed.path
    limits = [
        ("trainer.max_epochs", trainer["max_epochs"], resumed.n_epochs, "epochs"),
        ("trainer.max_steps", trainer["max_steps"], resumed.n_steps, "steps"),
        ("refit", config["refit"] if is_refit(config) else 0, resumed.n_epochs, "epochs"),
    ]
    if resumed.n_epochs >= (trainer["min_epochs"] or 0):
        n = resumed.n_without_improvement
        limits += [
            (f"callbacks.{name}.patience", node.get("patience", 10), n, "epochs of no improvement")
            for name, node in config["callbacks"].items()
            if node and node.get("_target_") == "multilayer.callbacks.EarlyStopping"
        ]
    for key, limit, n, counted in limits:
        if 0 < (limit or 0) <= n:
            yield (
                f"{key}={limit}: {path} has {n} {counted} already; give a larger one, from "
                f"{key}={n + 1} on"
            )
    limit = trainer["max_time"]
    if not limit:
        return
    from pytorch_lightning.callbacks import Timer  # which a stack, without such a limit, needs not

    if resumed.seconds >= (Timer(limit)._duration or 0.0):
        yield (
            f"trainer.max_time={limit}: {path} has trained for {resumed.seconds:.0f} seconds "
            "already; give more than that"
        )
