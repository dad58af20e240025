"""The configs of a sweep's jobs, of which those that differ in values alone are made from one.

Hydra composes each job anew, in 10 to 100 ms. Here it composes two jobs of each kind; jobs of one
kind set the same keys to plain values and have all other overrides in common. The config of any
other job of that kind is a copy with other values, made when it is first looked at, and its plain
data is had without one. What Hydra has to do itself is left to it: a job that is the only one of
its kind, or is wrong, or that changes the config in a way that may depend on the values.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf

from multilayer.composing.job_configs import ConfigOnDemand, JobKind, JobOfKind, node_at
from multilayer.composing.overrides import DOTTED_KEY, Word, parse_override


class SweepConfigs:
    """The configs of a sweep's jobs.

    Args:
        master: The config of the sweep.
        compose: Composes a job from its overrides, as Hydra does.
        is_group: Whether an override of this key makes a choice from a group.
    """

    def __init__(
        self,
        master: DictConfig,
        compose: Callable[[list[str]], DictConfig],
        is_group: Callable[[str], bool],
    ) -> None:
        self.master = master
        self._compose = compose
        self._is_group = is_group
        self._words: dict[str, Word] = {}
        self._kinds: dict[tuple[Any, ...], JobKind | None] = {}
        self._waiting: dict[tuple[str, ...], DictConfig] = {}

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """A job's config, which is asked for twice: by the sweeper, and then by the launcher.

        Raises:
            HydraException: What Hydra says of overrides that are wrong.
        """
        lines = tuple(overrides)
        try:
            words = [self._word(line) for line in lines]
        except HydraException:
            return self._compose([*lines])  # which says what is wrong with which
        in_common = tuple(word.in_common for word in words)
        kind = self._kinds.get(in_common)
        if kind is None:
            waiting = self._waiting.pop(lines, None)
            if waiting is not None and not OmegaConf.is_readonly(waiting.hydra):  # it has not run
                return waiting
            config = self._compose([*lines])
            if in_common in self._kinds and _differ_in_values_alone(config, words):
                kind = JobKind(config, words, self.master)
            self._kinds[in_common] = kind
            if kind is None:
                self._waiting[lines] = config
                return config
        return ConfigOnDemand(JobOfKind(kind, words).make)

    def _word(self, line: str) -> Word:
        """An override, parsed once."""
        if line not in self._words:
            override = parse_override(line)
            self._words[line] = Word(override, self._is_group(override.key_or_group))
        return self._words[line]


def _differ_in_values_alone(config: DictConfig, words: Sequence[Word]) -> bool:
    """Whether all jobs of a kind can be made from the config of one.

    No override may depend on the value that another one sets, by its key or by a reference on the
    way to it; no value may be converted, as those of structured configs are; and what Hydra does
    for a job must be the same for all.
    """
    changes = [word for word in words if word.changes_config]
    keys = [f"{word.key}." for word in changes]
    for word, key in zip(changes, keys, strict=True):
        related = [other for other in keys if other.startswith(key) or key.startswith(other)]
        deletes_by_value = word.override.is_delete() and word.override.value_type is not None
        if len(related) > 1 or deletes_by_value or not re.fullmatch(DOTTED_KEY, word.key, re.ASCII):
            return False
        *path, name = word.key.split(".")
        parent = node_at(config, path)
        if parent is None or (word.is_plain and not _is_untyped(node_at(parent, [name]))):
            return False
    hydra: Any = OmegaConf.to_container(config.hydra, resolve=False)
    named = ("id", "name", "num", "override_dirname")
    job = {name: value for name, value in hydra["job"].items() if name not in named}
    return "${" not in str([job, hydra["job_logging"], hydra["output_subdir"]])


def _is_untyped(node: Any) -> bool:
    """Whether a node takes any value, or any list of values, as it is."""
    if type(node) is ListConfig and node._metadata.element_type is Any:
        return isinstance(node._content, list) and all(map(_is_untyped, node._content))
    return type(node) is AnyNode
