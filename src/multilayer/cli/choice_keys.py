"""Overrides of a sweep that set a key which only some of its choices have.

In `optimizer=sgd,adam optimizer.momentum=0.9,0.99` the momentum is SGD's alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import OmegaConf

from multilayer.composing.overrides import parse_override
from multilayer.composing.sweep_jobs import Words
from multilayer.runs.config import dotted_keys

_Choices = tuple[str, ...]
"""The overrides of a job that choose from groups."""


def fit_to_choices(
    loader: Any, command: str, jobs: Sequence[Words]
) -> tuple[Sequence[Words], list[str]]:
    """Leave out of each job what sets a key that another choice of the sweep has.

    A key that no choice of the sweep has stays: it is a mistake.

    Args:
        loader: Ours, which composes configs.
        command: The name of the command's config.
        jobs: The overrides of each job.

    Returns:
        The overrides of each job, and those that became the same once; and what to say about it,
        one line for each key.
    """
    parsed = {word: parse_override(word) for job in jobs for word in job}
    of_group = {word for word, each in parsed.items() if loader.is_group(each.key_or_group)}
    choices = [tuple(word for word in job if word in of_group) for job in jobs]
    is_resumed = any(each.key_or_group == "resume" for each in parsed.values())
    if len(set(choices)) == 1 or is_resumed:
        return jobs, []
    keys = {each: _keys(loader, command, each) for each in dict.fromkeys(choices)}
    known = set[str]().union(*keys.values())
    fitted: list[tuple[str, ...]] = []
    lacking: dict[str, list[_Choices]] = {}
    for job, chosen in zip(jobs, choices, strict=True):
        kept = []
        for word in job:
            key = parsed[word].key_or_group
            if _sets_key(parsed[word]) and key in known - keys[chosen]:
                lacking.setdefault(key, []).append(chosen)
            else:
                kept.append(word)
        fitted.append(tuple(kept))
    if not lacking:
        return jobs, []
    different = list(dict.fromkeys(fitted))
    notes = [_note(key, keys, without) for key, without in lacking.items()]
    if len(different) < len(jobs):
        notes.append(f"{len(jobs)} jobs are {len(different)}, since the others are the same then")
    return different, notes


def _keys(loader: Any, command: str, choices: Sequence[str]) -> set[str]:
    """The keys of what is composed of choices."""
    config = loader.load_configuration(command, list(choices), RunMode.RUN)
    values: Any = OmegaConf.to_container(config, resolve=False)
    del values["hydra"]
    return set(dotted_keys(values))


def _sets_key(override: Override) -> bool:
    """Whether an override changes a key that has to exist."""
    return override.type == OverrideType.CHANGE and not override.is_hydra_override()


def _note(key: str, keys: dict[_Choices, set[str]], without: Sequence[_Choices]) -> str:
    """That jobs go without a key.

    Args:
        key: The key.
        keys: Those of all choices of the sweep.
        without: The choices of the jobs that lack it.
    """
    group = key.partition(".")[0]
    for is_told in (lambda word: word.startswith(f"{group}="), lambda word: True):
        has = _in_words([each for each in keys if key in keys[each]], keys, is_told)
        lacks = _in_words(without, keys, is_told)
        if not set(has) & set(lacks):
            break
    return f"{key} is for {' and '.join(has)}; {' and '.join(lacks)}: without it"


def _in_words(
    some: Sequence[_Choices], every: Iterable[_Choices], is_told: Callable[[str], bool]
) -> list[str]:
    """What sets some choices apart from the others, each once."""
    shared = set.intersection(*map(set, every))
    sides = [[word for word in each if word not in shared and is_told(word)] for each in some]
    return list(dict.fromkeys(" ".join(side) or "the default" for side in sides))
