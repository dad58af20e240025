"""Going on from a checkpoint: what may change, whether anything is left, and what is loaded."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Timer
from torch import Tensor

from multilayer.errors import UserError
from multilayer.pasted import as_override
from multilayer.resumed_config import read_own_config
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import find_last
from multilayer.targets import ALLOWED, check_stranger, is_below, nodes

Config = dict[str, Any]

NEEDED_KEYS = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")
"""What Lightning wrote into a checkpoint from which a training can go on."""

FIXED = {
    "seed": "the weights and the order of the rows were drawn from it",
    "monitor": "the best epoch so far was chosen by it",
    "mode": "the best epoch so far was chosen by it",
    "loss": "the best epoch so far was chosen by the loss as it was",
    "model": "these are no weights of another model",
    "data": "it would go on with other data",
    "optimizer._target_": "another optimizer cannot take up what this one has gathered",
    "optimizer.initial_accumulator_value": "it counts at the start alone",
    "trainer._target_": "only Lightning's own goes on",
}
"""What cannot change, and why; a group stands for all of it. What is not here is built anew, or
written into what is loaded."""

NOT_IN_ROWS = (
    "data.batch_size",
    "data.shuffle_seed",
    "data.path",
    "data.train_path",
    "data.validation_path",
    "data.test_path",
)
"""What of the data may change. A path may lead to the same table: its fingerprint is compared."""

CUTS_EPOCHS = (
    "data.batch_size",
    "data.shuffle_seed",
    "trainer.limit_train_batches",
    "trainer.accumulate_grad_batches",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
)
"""What decides which rows are left of an epoch that was begun, and in which steps."""


@dataclass(frozen=True)
class Resumed:
    """A checkpoint that a training goes on from.

    Attributes:
        n_epochs: whole epochs that were trained.
        n_steps: the optimizer's steps until then.
        n_steps_within: those of the epoch that was begun; None where none was.
        before: the config that it was trained with.
        changed: the keys that are others now.
    """

    path: Path
    checkpoint: dict[str, Any]
    before: Config
    n_epochs: int
    n_steps: int
    n_steps_within: int | None
    changed: frozenset[str]

    @property
    def n_steps_before(self) -> int:
        """The steps of the whole epochs."""
        return self.n_steps - (self.n_steps_within or 0)

    def has_changed(self, keys: Sequence[str]) -> bool:
        """Whether one of some keys, or a key of one of some groups, is another now."""
        return any(
            key == each or key.startswith(f"{each}.") for key in self.changed for each in keys
        )


def open_resumed(config: Config) -> Resumed | None:
    """The checkpoint that a config says to go on from; None where it names none.

    Raises:
        UserError: where there is none, where it names what it may not, where the config says what
            cannot change any more, and where nothing is left to train.
    """
    if config["resume"] is None:
        return None
    own = read_own_config(config["resume"])
    check_stranger(still_there(own, config), config["allow"])
    path = find_last(config["resume"])
    checkpoint = read_checkpoint(path)
    resumed = described(path, checkpoint, own, config)
    problems = [*fixed_changes(resumed, config), *no_time_left(resumed, config)]
    if problems:
        raise UserError("\n".join(problems))
    return resumed


def command_to_go_on(folder: Path, config: Config) -> str:
    """The command by which a run that was interrupted goes on."""
    words = ["multilayer train", as_override("resume", os.path.relpath(folder))]
    paths = (str(node["_target_"]) for key, node in nodes("", config) if key != "trainer")
    packages = {path.rpartition(".")[0] for path in paths if not is_below(path, ALLOWED)}
    if packages:
        words.append(as_override("allow", sorted(packages)))
    return " ".join(words)


def still_there(own: Config, config: Config) -> Config:
    """The nodes of a run's config that a config has taken over."""
    now = {key: node["_target_"] for key, node in nodes("", config)}
    return {
        key: {name: value for name, value in node.items() if not isinstance(value, dict | list)}
        for key, node in nodes("", own)
        if now.get(key) == node["_target_"]
    }


def described(path: Path, checkpoint: dict[str, Any], own: Config, config: Config) -> Resumed:
    """What a checkpoint says of its training.

    Raises `UserError` where it lacks what is needed.
    """
    lacking = [key for key in NEEDED_KEYS if key not in checkpoint]
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        steps = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        is_within = epochs["started"] > epochs["processed"]
        before = checkpoint["multilayer"]["config"]
        if own["loss"].get("class_weights") == "balanced":  # they became numbers
            before = before | {"loss": before["loss"] | {"class_weights": "balanced"}}
        found = Resumed(
            path,
            checkpoint,
            before,
            n_epochs=int(epochs["processed"]),
            n_steps=int(checkpoint["global_step"]),
            n_steps_within=int(steps["current"]["completed"]) if is_within else None,
            changed=frozenset(changed_keys(before, config)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"resume: {path} is damaged, or no last.ckpt: {error}") from error
    if lacking:
        raise UserError(f"resume: {path} holds no state to go on from: {', '.join(lacking)}")
    if not all(value.isfinite().all() for value in weights_in(checkpoint)):
        raise UserError(
            f"resume: {path} has diverged: its weights are not finite; train a new run with a "
            "smaller optimizer.lr"
        )
    return found


def weights_in(checkpoint: Mapping[str, Any]) -> Iterator[Tensor]:
    """The weights in a checkpoint, where they are tensors of floats."""
    for name, value in checkpoint["state_dict"].items():
        if name.startswith("network.") and isinstance(value, Tensor) and value.is_floating_point():
            yield value


def changed_keys(before: Config, now: Config) -> Iterator[str]:
    """The keys whose values differ; one by one within what has the same class before and now."""
    for key in before.keys() | now.keys():
        yield from changed_below(key, before.get(key), now.get(key))


def changed_below(key: str, before: Any, now: Any) -> Iterator[str]:
    """The keys below one whose values differ, or that one itself."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        if before != now:
            yield key
    elif before.get("_target_") != now.get("_target_"):
        yield f"{key}._target_"
    else:
        for name in before.keys() | now.keys():
            yield from changed_below(f"{key}.{name}", before.get(name), now.get(name))


def fixed_changes(resumed: Resumed, config: Config) -> list[str]:
    """What the config says that cannot change in a run that goes on, one line each."""
    problems = []
    for key in sorted(resumed.changed):
        reason = why_fixed(key, resumed, config)
        if reason:
            before, now = value_of(resumed.before, key), value_of(config, key)
            problems.append(
                f"{key}={now}: it was {before} in {resumed.path}, and must stay so: {reason}; "
                "leave it out, or train a new run without resume"
            )
    return problems


def why_fixed(key: str, resumed: Resumed, config: Config) -> str | None:
    """Why a key cannot change in a run that goes on; None where it can."""
    group = key.partition(".")[0]
    if key in CUTS_EPOCHS and resumed.n_steps_within is not None:
        return (
            f"the run was interrupted within epoch {resumed.n_epochs + 1}, whose other rows follow "
            "from it"
        )
    if key in NOT_IN_ROWS:
        return None
    if group == "callbacks":
        return why_callback_fixed(key, resumed, config)
    return FIXED.get(group) or FIXED.get(key)


def why_callback_fixed(key: str, resumed: Resumed, config: Config) -> str | None:
    """Why a callback, or an argument of one, cannot change in a run that goes on."""
    _, name, *argument = key.split(".")
    node = config["callbacks"].get(name) or {}
    module, _, kind = str(node.get("_target_")).rpartition(".")
    if kind in ("LearningRateSweep", "LearningRateFinder"):
        return "rates are tried before a training begins; give optimizer.lr=RATE instead"
    has_state = any(state.startswith(kind) for state in resumed.checkpoint["callbacks"])
    if not has_state or argument in ([], ["_target_"]):
        return None
    if argument[0] in ("monitor", "mode"):
        return FIXED["monitor"]
    is_ours = module.startswith("multilayer.")
    return None if is_ours else f"{kind} takes up its old values with what it has gathered"


def value_of(config: Config, key: str) -> str:
    """A value of a config as one would write it; of an object its class."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node = node.get("_target_")
    return node if isinstance(node, str) else json.dumps(node)


def no_time_left(resumed: Resumed, config: Config) -> list[str]:
    """The limits at which the training would end before it began, each with one that would do."""
    trainer, path = config["trainer"], resumed.path
    problems = []
    for key, n in (("max_epochs", resumed.n_epochs), ("max_steps", resumed.n_steps)):
        if trainer[key] not in (None, -1) and n >= trainer[key]:
            problems.append(
                f"trainer.{key}={trainer[key]}: {path} has {n} {key[4:]} already; give a larger "
                f"one, from trainer.{key}={n + 1} on"
            )
    if resumed.n_epochs >= (trainer["min_epochs"] or 0):
        problems += no_patience_left(resumed, config)
    elapsed = time_in(resumed.checkpoint)
    if trainer["max_time"] and elapsed >= (Timer(trainer["max_time"])._duration or 0.0):
        problems.append(
            f"trainer.max_time={trainer['max_time']}: {path} has trained for {elapsed:.0f} seconds "
            "already; give more than that"
        )
    return problems


def time_in(checkpoint: Mapping[str, Any]) -> float:
    """The seconds that a training took that had a limit in time; else 0."""
    state = checkpoint["callbacks"].get("Timer", {})
    return float(state.get("time_elapsed", {}).get("train", 0.0))


def no_patience_left(resumed: Resumed, config: Config) -> list[str]:
    """The callbacks that would stop the training at once."""
    state = resumed.checkpoint["callbacks"].get("EarlyStopping", {})
    n = state.get("n_without_improvement", 0)
    return [
        f"callbacks.{name}.patience={node['patience']}: {resumed.path} has not improved for {n} "
        f"epochs already; give more, from callbacks.{name}.patience={n + 1} on"
        for name, node in config["callbacks"].items()
        if node
        and node["_target_"] == "multilayer.callbacks.EarlyStopping"
        and n >= node.get("patience", 10) > 0
    ]
