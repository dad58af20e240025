"""Going on from a checkpoint: what it holds, what may change, and whether anything is left."""

import json
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Timer

from multilayer.core.errors import UserError
from multilayer.core.files import refusing
from multilayer.core.text import as_override
from multilayer.data.table import Columns
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.config import mask_config
from multilayer.runs.folder import find_last
from multilayer.training.instantiate import ALLOWED, check_trusted_targets, is_within, target_nodes

Config = dict[str, Any]

MAY_CHANGE = (
    "optimizer.", "scheduler", "trainer.", "callbacks.", "logger.", "compile", "num_threads",
    "engine", "resume", "trusted_packages", "data.batch_size", "data.shuffle_seed", "data.path",
    "data.train_path", "data.validation_path", "data.test_path",
)  # fmt: skip
"""The keys, or beginnings of keys, that may change in a run that goes on. A path may lead to the
same table elsewhere: its fingerprint is compared. An object of another class is a change of the
whole node, `optimizer` for example, which is not in the list."""

AT_START = ("optimizer.initial_accumulator_value",)
"""But these, which count at the start alone."""

CUTS_EPOCHS = (
    "data.batch_size", "data.shuffle_seed", "trainer.limit_train_batches",
    "trainer.accumulate_grad_batches", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
)  # fmt: skip
"""What decides which rows are left of an epoch that was begun, and in which steps."""

FINDERS = ("LearningRateSweep", "LearningRateFinder", "BatchSizeFinder")
"""Callbacks that search before a training begins."""

DAMAGE = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)
"""What a state of another shape raises where it is read."""


@dataclass(frozen=True)
class Resumed:
    """A checkpoint that a training goes on from.

    Attributes:
        before: the config that it was trained with.
        columns: of the data that it was trained on.
        loops: the state of Lightning's loops.
        n_epochs: whole epochs that were trained.
        n_steps: the optimizer's steps until then.
        n_steps_within: those of the epoch that was begun; None where none was.
        n_without_improvement: epochs, as early stopping counts them.
        seconds: how long it trained, if there was a limit in time.
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

    @property
    def n_done(self) -> tuple[int, int]:
        """The whole epochs, and their steps."""
        return self.n_epochs, self.n_steps - (self.n_steps_within or 0)


def open_resumed(config: Config) -> Resumed | None:
    """The checkpoint that a config says to go on from; None where it names none.

    Raises:
        UserError: where there is none, where it names what it may not, where the config says what
            cannot change any more, and where nothing is left to train.
    """
    if config["resume"] is None:
        return None
    resumed = read_resumed(find_last(config["resume"]))
    check_trusted_targets(what_is_built(resumed.before, config), config["trusted_packages"])
    weights = resumed.checkpoint["state_dict"]
    if not all(weights[name].isfinite().all() for name in weights if name.startswith("network.")):
        raise UserError(
            f"resume: {resumed.path} has diverged: its weights are not finite; train a new run "
            "with a smaller optimizer.lr"
        )
    problems = [*fixed_changes(resumed, config), *no_time_left(resumed, config)]
    if problems:
        raise UserError("\n".join(problems))
    return resumed


def read_resumed(path: Path) -> Resumed:
    """What a checkpoint says of its training.

    Raises:
        UserError: where it lacks what is needed to go on.
    """
    checkpoint = read_checkpoint(path)
    with refusing(path, "is damaged, or no last.ckpt", *DAMAGE):
        loops = deepcopy(checkpoint["loops"]["fit_loop"])
        epochs, minibatches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
        steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        stopping = checkpoint["callbacks"].get("EarlyStopping", {})
        timer = checkpoint["callbacks"].get("Timer", {"time_elapsed": {}})
        ended = epochs["current"]["started"] == epochs["current"]["processed"]
        if ended and not minibatches["is_last_batch"]:
            # `max_steps` ended the training within an epoch, which Lightning takes for a whole one.
            for each in epochs.values():
                each["processed"] -= 1
            ended = False
        return Resumed(
            path,
            checkpoint,
            config_in(checkpoint),
            Columns(**checkpoint["multilayer"]["columns"]),
            loops,
            n_epochs=int(epochs["current"]["processed"]),
            n_steps=int(checkpoint["global_step"]),
            n_steps_within=None if ended else int(steps["current"]["completed"]),
            n_without_improvement=int(stopping.get("n_without_improvement", 0)),
            seconds=float(timer["time_elapsed"].get("train", 0.0)),
        )


def config_in(checkpoint: Mapping[str, Any]) -> Config:
    """The config in a checkpoint, with the batch size that Lightning's callback found."""
    config: Config = checkpoint["multilayer"]["config"]
    if not any(is_finder(node, "BatchSizeFinder") for node in config["callbacks"].values()):
        return config
    (loader,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    return config | {"data": config["data"] | {"batch_size": loader["batch_size"]}}


def without_finders(config: Config) -> Config:
    """The config of a run that goes on without the callbacks that search before a training.

    A batch size that was found is in the config by now, and a rate in the optimizer's state.
    """
    kept = {name: node for name, node in config["callbacks"].items() if not is_finder(node)}
    return config | {"callbacks": kept}


def is_finder(node: Config | None, kinds: str | tuple[str, ...] = FINDERS) -> bool:
    """Whether a node is a callback that searches before a training begins."""
    return str((node or {}).get("_target_")).endswith(kinds)


def command_to_go_on(folder: Path, config: Config) -> str:
    """The command by which a run that was interrupted goes on."""
    words = ["multilayer train", as_override("resume", os.path.relpath(folder))]
    paths = (str(node["_target_"]) for key, node in target_nodes("", config) if key != "trainer")
    packages = {path.rpartition(".")[0] for path in paths if not is_within(path, ALLOWED)}
    if packages:
        words.append(as_override("trusted_packages", sorted(packages)))
    return " ".join(words)


def what_is_built(own: Config, config: Config) -> Config:
    """The nodes of a run's config that something is made of, as far as they name classes.

    They are what a config has taken over, and the optimizer and schedule whose rates are compared.
    """
    now = {key: node["_target_"] for key, node in target_nodes("", config)}
    return {
        key: {"_target_": node["_target_"]}
        for key, node in target_nodes("", own)
        if now.get(key) == node["_target_"] or key.startswith(("optimizer", "scheduler"))
    }


def changes(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each key whose value differs, with both; of an object of another class its own key."""
    are_dicts = isinstance(before, dict) and isinstance(now, dict)
    if are_dicts and before.get("_target_") == now.get("_target_"):
        for name in sorted(before.keys() | now.keys(), key=str):
            below = f"{key}.{name}" if key else str(name)
            yield from changes(before.get(name), now.get(name), below)
    elif before != now:
        yield key, before, now


def fixed_changes(resumed: Resumed, config: Config) -> Iterator[str]:
    """What the config says that cannot change in a run that goes on, one line each."""
    for key, before, now in changes(resumed.before, mask_config(config)):
        reason = why_fixed(key, before, now, resumed, config)
        if reason:
            yield (
                f"{key}={shown(now)}: it was {shown(before)} in {resumed.path}, and must stay so: "
                f"{reason}; leave it out, or train a new run without resume"
            )


def why_fixed(key: str, before: Any, now: Any, resumed: Resumed, config: Config) -> str:
    """Why a key cannot change in a run that goes on; nothing where it can."""
    if key in CUTS_EPOCHS and resumed.n_steps_within is not None:
        n = resumed.n_epochs + 1
        return f"the run was interrupted within epoch {n}, whose other rows follow from it"
    if key.startswith("callbacks."):
        return why_callback_fixed(key, resumed, config)
    # The weights that balance classes follow from the data, and are compared once it is read.
    is_balanced = key == "loss.class_weights" and before and now == "balanced"
    may = (is_balanced or key.startswith(MAY_CHANGE)) and key not in AT_START
    return "" if may else "it would be another run"


def why_callback_fixed(key: str, resumed: Resumed, config: Config) -> str:
    """Why a callback, or an argument of one, cannot change; nothing where it can."""
    _, name, *argument = key.split(".")
    node = config["callbacks"].get(name) or {}
    if is_finder(node):
        return "it searches before a training begins; give optimizer.lr or data.batch_size instead"
    module, _, kind = str(node.get("_target_")).rpartition(".")
    gathers = any(state.startswith(kind) for state in resumed.checkpoint["callbacks"])
    is_taken_up = argument[:1] in (["monitor"], ["mode"]) or not module.startswith("multilayer.")
    return "what it has gathered follows from it" if argument and gathers and is_taken_up else ""


def shown(value: Any) -> str:
    """A value as one would write it; of an object its class."""
    if isinstance(value, dict):
        value = value.get("_target_")
    return value if isinstance(value, str) else json.dumps(value)


def no_time_left(resumed: Resumed, config: Config) -> Iterator[str]:
    """The limits at which the training would end before it began, each with one that would do."""
    trainer, path = config["trainer"], resumed.path
    limits = [
        ("trainer.max_epochs", trainer["max_epochs"], resumed.n_epochs, "epochs"),
        ("trainer.max_steps", trainer["max_steps"], resumed.n_steps, "steps"),
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
    if limit and resumed.seconds >= (Timer(limit)._duration or 0.0):
        yield (
            f"trainer.max_time={limit}: {path} has trained for {resumed.seconds:.0f} seconds "
            "already; give more than that"
        )
