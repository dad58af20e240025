"""Checks a command line whole, before torch is imported and any data is read."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from hydra.types import RunMode

from multilayer.cli.bare_words import BareWords, joined_words
from multilayer.cli.check_job import bad_choices, check_job, choices_of
from multilayer.cli.choice_keys import fit_to_choices
from multilayer.cli.config_loader import make_hydra
from multilayer.cli.problems import SWEEP, Mending, key_of
from multilayer.cli.search_path import existing_folder, search_path_in
from multilayer.cli.suggestions import unreadable
from multilayer.composing.overrides import parse_override
from multilayer.composing.sweep_jobs import Words
from multilayer.core.errors import Problem, UserError, raise_all
from multilayer.core.text import sanitize
from multilayer.core.value_problems import type_problems
from multilayer.runs.config import Config, mask_overrides, problems_with

_ROUNDS = 9
"""How often words are looked at: what is wrong may be said of words that were meant by others."""


def check_command_line(
    command: str,
    overrides: Sequence[str],
    *,
    config_dir: str | None = None,
    sweep: bool = False,
    options: Sequence[str] = (),
    flags: Mapping[str, str] = MappingProxyType({}),
) -> Config | None:
    """Compose what the overrides ask for, and check it.

    In a sweep, one valid job is enough, and that no value is wrong in all jobs: what is wrong in a
    single job ends that job alone.

    Args:
        command: `train`, for example.
        overrides: the words of the command line without flags.
        config_dir: a folder with the user's own choices.
        sweep: whether the overrides are those of a sweep.
        options: Hydra's flags, for the command that was meant.
        flags: the flags that do not exist by the overrides that they were taken for.

    Returns:
        The config, in a sweep that of the first valid job; None where only a sweeper knows it.

    Raises:
        UserError: with every problem found.

    >>> check_command_line("train", ["data=iris", "optimizer.lr=0.1"])["optimizer"]["lr"]
    0.1
    """
    words, joined = joined_words(command, overrides)
    line = Mending(words, flags, sweep=sweep)
    line.take(joined)
    for _ in range(_ROUNDS):
        error: UserError | None = None
        try:
            config = _check(command, line.words, config_dir, line.sweep)
        except UserError as raised:
            error = raised
        if error is None or not line.take(error.problems):
            break
    text = line.text(command, options)
    if error is not None or text:
        raise UserError(text or str(error)) from error
    return config


def _check(
    command: str, overrides: Sequence[str], config_dir: str | None, sweep: bool
) -> Config | None:
    """Compose what the overrides ask for, and check it; see `check_command_line`."""
    _, unreadable = _parse(command, overrides, in_sweep=sweep)
    raise_all(unreadable)
    folder = None if config_dir is None else existing_folder("--config-dir ", config_dir)
    hydra = make_hydra(search_path_in(overrides), folder)
    loader = hydra.config_loader
    parsed, _ = _parse(command, overrides, loader)
    swept = [override for override in parsed if override.is_sweep_override()]
    if not sweep:
        # The chosen files may make it a sweep, as those of some experiments do.
        choices = [item for item in parsed if item not in swept and choices_of(item, loader)]
        mode = hydra.get_mode(command, [str(item.input_line) for item in choices])
        sweep = mode == RunMode.MULTIRUN
    of_sweep = [item for item in parsed if item.key_or_group.startswith("sweep.")]
    if not sweep:
        launching = [item for item in parsed if re.match("hydra[./]launcher", item.key_or_group)]
        for_sweep = [*of_sweep, *launching] if command == "train" else []
        config, problems = check_job(command, parsed, loader)
        raise_all([*map(_only_in_sweep, for_sweep), *problems])
        return config
    several = [
        Problem(f"{item.input_line}: one value for the whole sweep")
        for item in of_sweep
        if item in swept
    ]
    raise_all(several + [bad for item in swept for bad in bad_choices(command, item, loader)])
    valid = _SweepJobs(command, parsed, loader).check()
    _say_what_is_repeated(parsed)
    return valid


def _only_in_sweep(override: Override) -> Problem:
    """The problem with what is for a sweep, if there is none."""
    word = str(override.input_line)
    return Problem(f"{word}: this is for a sweep, add {SWEEP}", word, [SWEEP, word])


def _say_what_is_repeated(overrides: Sequence[Override]) -> None:
    """Say which keys of a sweep are given more than once, as a shell makes of `seed={0..3}`."""
    values = defaultdict(list)
    for item in (each for each in overrides if not each.is_delete()):
        values[item.get_key_element()].append(item.get_value_string())
    for key, texts in values.items():
        if len(set(texts)) > 1:
            (all_,) = mask_overrides([f"{key}={','.join(texts)}"])
            said = f"{key}: given {len(texts)} times, of which the last holds"
            print(sanitize(f"multilayer: {said}; several values are {all_}"), file=sys.stderr)


class _SweepJobs:
    """The jobs of a sweep, as far as they are looked at before any begins.

    Args:
        command: `train`, for example.
        parsed: the overrides of the sweep.
        loader: composes configs.
    """

    def __init__(self, command: str, parsed: Sequence[Override], loader: ConfigLoader) -> None:
        self._command = command
        self._given = {item.get_key_element(): item for item in parsed}
        self._loader = loader
        self._jobs = _jobs(command, parsed, loader)

    def check(self) -> Config | None:
        """The config of the first valid job; None where only a sweeper knows the jobs.

        Raises:
            UserError: There is none, or no job with some value is valid.
        """
        config, problems = self._valid_one(self._jobs)
        raise_all(problems)
        if config is not None:
            swept = [item for item in self._given.values() if item.is_sweep_override()]
            raise_all([wrong for item in swept for wrong in self._wrong_values(item, config)])
        return config

    def _valid_one(self, jobs: Iterable[Words]) -> tuple[Config | None, list[Problem]]:
        """The config of the first valid job; if none is, the problems of the first."""
        first: list[Problem] = []
        for job in jobs:
            parsed, _ = _parse(self._command, job)
            config, problems = check_job(self._command, parsed, self._loader, self._given)
            if not problems:
                return config, []
            first = first or problems
        return None, first

    def _wrong_values(self, override: Override, config: Config) -> list[Problem]:
        """The problems with those of several values that no valid job has.

        Args:
            override: what has the values.
            config: of a valid job.
        """
        key, word = override.get_key_element(), str(override.input_line)
        is_choice = bool(choices_of(override, self._loader))
        found: list[Problem] = []
        for text in _listed_values(override):
            wrong: list[Problem] = []
            if not is_choice:
                changed = _with_value(config, key, text)
                of_type = type_problems(self._command, changed, {key: text})
                own = [each for each in of_type if f"{key_of(each.word)}.".startswith(f"{key}.")]
                if own:
                    found += own
                    continue
                wrong = problems_with(self._command, changed, in_sweep=True, written={key: text})
            if is_choice or wrong:
                with_it = (job for job in self._jobs if f"{key}={text}" in job)
                found += self._valid_one(with_it)[1]
        return [replace(each, word=word, meant=()) for each in found]


def _listed_values(override: Override) -> list[str]:
    """The values of an override of a sweep, where they are listed and plain."""
    is_listed = override.value_type == ValueType.SIMPLE_CHOICE_SWEEP
    texts = override.sweep_string_iterator() if is_listed else ()
    return [text for text in texts if "${" not in text]


def _with_value(config: Config, key: str, text: str) -> Config:
    """A config with another value of a key, where it has that key."""
    *groups, name = key.split(".")
    changed = deepcopy(config)
    node: Any = changed
    for group in groups:
        node = node.get(group) if isinstance(node, dict) else None
    if isinstance(node, dict) and name in node:
        node[name] = parse_override(f"{key}={text}").value()
    return changed


def _parse(
    command: str,
    overrides: Sequence[str],
    loader: ConfigLoader | None = None,
    *,
    in_sweep: bool = False,
) -> tuple[list[Override], list[Problem]]:
    """Parse overrides in Hydra's grammar, in which `glob(*)` asks the loader for choices.

    Returns:
        Those that can be parsed, and the problems with the others.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    problems: list[Problem] = []
    bare = BareWords(command, overrides)
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            if "=" in text:
                problems.append(unreadable(text, str(error), in_sweep=in_sweep))
            else:
                problems.append(bare.problem(text))
    return parsed, problems


def _jobs(command: str, parsed: Sequence[Override], loader: ConfigLoader) -> Sequence[Words]:
    """The overrides of each job of a sweep, in the order of Hydra's own sweeper.

    Nothing where a value is only known to a sweeper that searches.
    """
    if any(override.is_interval_sweep() for override in parsed):
        return []
    jobs: Sequence[Words]
    (jobs,) = BasicSweeper.split_arguments(list(parsed), max_batch_size=None)
    with suppress(HydraException):  # a choice that is none, as the check of each job says
        jobs, _ = fit_to_choices(loader, command, jobs)
    return jobs
