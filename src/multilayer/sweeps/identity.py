"""What a job of a sweep is known by: the values that decide what it gives."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from multilayer.runs.config import Config, mask_value, with_absolute_paths

Values: TypeAlias = dict[str, Any]
"""The values of a config that matter, by dotted key."""

_IGNORED = frozenset(
    {
        # How a run is computed: the results are the same, to rounding. A sweep that was begun on
        # one machine is finished on another, stacked or not.
        "engine",
        "optimizer.foreach",
        "optimizer.fused",
        "trainer.accelerator",
        # What is said and written on the way.
        "logger",
        "trainer.default_root_dir",
        "trainer.enable_checkpointing",
        "trainer.enable_model_summary",
        "trainer.enable_progress_bar",
        "trainer.log_every_n_steps",
        "trainer.logger",
        "trainer.profiler",
        # How the sweep is run, and what its configs may load.
        "hydra",
        "sweep",
        "trusted_packages",
    }
)
"""Keys, with all below them, that do not change what a run gives."""

LATER_KEYS: Config = {
    "refit": False,
    **dict.fromkeys(["metrics", "module"]),
    **dict.fromkeys(["data.split", "data.time", "data.split_column", "data.weight"]),
}
"""Keys that sweeps of earlier versions do not have, with the values that mean the same."""

_HOW_COMPUTED = ("compile", "num_threads")
"""Names of keys that do not either, of a run and of a learning-rate sweep's trainings."""

_IGNORED_CALLBACKS = re.compile(
    r"multilayer\..*\b(Checkpoint|LearningRate|NetworkSummary|TrainingProgress)"
    r"|(pytorch_lightning|lightning\.pytorch)\..*"
    r"\b(ModelSummary|RichModelSummary|RichProgressBar|TQDMProgressBar)"
)
"""The classes of callbacks that only print, log or save, of ours and of Lightning's."""

_TYPED = frozenset(
    f"trainer.{name}"
    for name in (
        "limit_predict_batches",
        "limit_test_batches",
        "limit_train_batches",
        "limit_val_batches",
        "overfit_batches",
        "val_check_interval",
    )
)
"""Keys by which Lightning takes 1 for one minibatch, and 1.0 for all of them."""

_N_DIGITS = 32
"""Hexadecimal digits of an identity: 128 bits."""


def identity(config: Config) -> str:
    """A hash of the values of a run's config that decide what it gives.

    Two configs have the same identity if they differ only in the order of their keys, in how a
    number is written (1 or 1.0), in secrets, or in what has no part in the result: how and where
    it is computed, loggers, what is printed, how often it is saved. The same Python value has the
    same identity in any version of Python. The data's files are taken by their absolute paths.

    Args:
        config: as `multilayer.runs.config.to_plain` gives it.

    Examples:
        >>> identity({"seed": 1, "compile": True}) == identity({"compile": False, "seed": 1.0})
        True
    """
    return identity_of(values_that_matter(config))


def identity_of(values: Values) -> str:
    """The identity of a config whose `values_that_matter` are known."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:_N_DIGITS]


def values_that_matter(config: Config) -> Values:
    """The values by dotted key that decide what a run gives, each in one spelling, no secrets."""
    if "data" in config:
        config = with_absolute_paths(config)
    if config.get("resume") is not None:
        config = config | {"resume": str(Path(config["resume"]).absolute())}
    if config.get("callbacks"):
        config = config | {"callbacks": _callbacks_that_matter(config["callbacks"])}
    leaves = _leaves(config, "")
    return {key: value for key, value in leaves if LATER_KEYS.get(key, ...) is not value}


def _callbacks_that_matter(nodes: Config) -> Config:
    """The callbacks without those that only print, log or save, or are switched off."""
    return {
        name: node
        for name, node in nodes.items()
        if node is not None and not _IGNORED_CALLBACKS.fullmatch(str(node.get("_target_")))
    }


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The values below a node that matter, with their dotted keys."""
    if key in _IGNORED:
        return
    if isinstance(node, dict) and node:
        for name, value in node.items():
            if name in _HOW_COMPUTED and (not key or key.startswith("callbacks.")):
                continue
            part = str(name).replace(".", "\\.")
            yield from _leaves(value, f"{key}.{part}" if key else part)
    elif node != {} or key != "callbacks":
        yield key, _typed(node) if key in _TYPED else _canonical(node, key)


def _canonical(value: Any, key: str) -> Any:
    """A value at a dotted key in the one spelling that it has in an identity, without secrets."""
    if isinstance(value, list | tuple):
        return [_canonical(each, key) for each in value]
    if isinstance(value, dict):
        return {str(name): _canonical(each, f"{key}.{name}") for name, each in value.items()}
    masked = mask_value(key, value)
    if isinstance(masked, float):
        return int(masked) if masked.is_integer() else masked
    return masked if masked is None or isinstance(masked, bool | int) else str(masked)


def _typed(value: Any) -> Any:
    """A number that is another one as an integer than as a float."""
    return f"{value!r}" if isinstance(value, float) else value
