"""Checks a command line whole, before torch is imported and any data is read."""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from multilayer.cli.choice_keys import fit_to_choices
from multilayer.cli.config_loader import make_hydra
from multilayer.cli.problems import (
    Problem,
    WrongWordsError,
    joined_around_equals,
    raise_problems,
    with_whole_command,
    without_problems,
)
from multilayer.cli.search_path import existing_folder, folders_of, search_path_in
from multilayer.cli.suggestions import (
    bad_choice,
    not_an_override,
    quoted_word,
    several_values,
    unknown_key,
)
from multilayer.composing.overrides import parse_override
from multilayer.composing.sweep_jobs import Words
from multilayer.core.config_problems import has_class
from multilayer.core.errors import UserError, first_line, raise_all
from multilayer.core.text import sanitize
from multilayer.core.value_problems import sweep_problems
from multilayer.runs.config import Config, dotted_keys, mask_overrides, problems_with, to_plain


def check_command_line(
    command: str, overrides: Sequence[str], *, config_dir: str | None = None, sweep: bool = False
) -> Config | None:
    """Compose what the overrides ask for, and check it.

    In a sweep, one valid job is enough: what is wrong in a single job ends that job alone.

    Args:
        command: `train`, for example.
        overrides: the words of the command line without flags.
        config_dir: a folder with the user's own choices.
        sweep: whether the overrides are those of a sweep.

    Returns:
        The config, in a sweep that of the first valid job; None where only a sweeper knows it.

    Raises:
        UserError: with every problem found.
    """
    words, joined = joined_around_equals(overrides)
    if joined:
        refuse_words(command, words, joined, config_dir=config_dir, sweep=sweep)
    try:
        return _check(command, overrides, config_dir, sweep)
    except WrongWordsError as error:
        flags = _flags(config_dir, sweep)
        raise UserError(with_whole_command(command, flags, overrides, error.problems)) from error


def refuse_words(
    command: str,
    given: Sequence[str],
    problems: Sequence[Problem],
    *,
    config_dir: str | None,
    sweep: bool,
) -> NoReturn:
    """Raise `UserError` for words of a command line, and for what else is wrong with it.

    Args:
        command: `train`, for example.
        given: the words of the command line without flags that exist.
        problems: what is known to be wrong with some of them.
        config_dir: a folder with the user's own choices.
        sweep: whether they are those of a sweep.
    """
    words = without_problems(given, problems)
    every = [*problems, *_problems_of(command, words, config_dir, sweep)]
    raise UserError(with_whole_command(command, _flags(config_dir, sweep), given, every))


def _flags(config_dir: str | None, sweep: bool) -> list[str]:
    """The flags of a command line of which these are known."""
    return ["-m"] * sweep + (["--config-dir", config_dir] if config_dir else [])


def _problems_of(
    command: str, words: Sequence[str], config_dir: str | None, sweep: bool
) -> list[Problem]:
    """What is wrong with words."""
    try:
        _check(command, words, config_dir, sweep)
    except WrongWordsError as error:
        return list(error.problems)
    except UserError as error:
        return list(map(Problem, str(error).splitlines()))
    return []


def _check(
    command: str, overrides: Sequence[str], config_dir: str | None, sweep: bool
) -> Config | None:
    """Compose what the overrides ask for, and check it; see `check_command_line`.

    Raises:
        WrongWordsError: If some words were meant otherwise, perhaps with other problems.
        UserError: With other problems alone.
    """
    _, unreadable = _parse(command, overrides, in_sweep=sweep)
    if unreadable:
        words = without_problems(overrides, unreadable)
        raise WrongWordsError([*unreadable, *_problems_of(command, words, config_dir, sweep)])
    folder = None if config_dir is None else existing_folder("--config-dir ", config_dir)
    hydra = make_hydra(search_path_in(overrides), folder)
    loader = hydra.config_loader
    parsed, _ = _parse(command, overrides, loader)
    swept = [override for override in parsed if override.is_sweep_override()]
    of_sweep = [item for item in parsed if item.key_or_group.startswith("sweep.")]
    launching = [item for item in parsed if re.match("hydra[./]launcher", item.key_or_group)]
    for_sweep = [*of_sweep, *launching] if command == "train" else []
    if (swept or for_sweep) and not sweep:
        # The chosen files may make it a sweep, as those of some experiments do.
        choices = [item for item in parsed if item not in swept and _choices(item, loader)]
        mode = hydra.get_mode(command, [str(item.input_line) for item in choices])
        sweep = mode == RunMode.MULTIRUN
        single = [] if sweep else swept
        raise_all([several_values(item, is_group=bool(_choices(item, loader))) for item in single])
    written = _written(parsed)
    if not sweep:
        raise_all([f"{item.input_line}: this is for a sweep, add -m" for item in for_sweep])
        return _check_job(command, parsed, loader, written)
    several = [
        Problem(f"{item.input_line}: one value for the whole sweep")
        for item in of_sweep
        if item in swept
    ]
    raise_problems(several + [bad for item in swept for bad in _bad_choices(command, item, loader)])
    first = None
    for job in _jobs(command, parsed, loader):
        try:
            config = _check_job(command, job, loader, written, in_sweep=True)
        except UserError as error:
            first = first or error
            continue
        values = [item for item in swept if not _choices(item, loader)]
        _say_what_will_fail(command, config, values)
        return config
    if first is not None:
        if "Could not override 'hydra.launcher." in str(first):
            raise_all(_lacking_launcher(overrides, launching))
        raise first
    return None


_OF_LOCKSTEP = re.compile(r"hydra\.launcher\.(max_members|ray|slurm|stack|workers)\b")
"""The keys of the launcher `lockstep`."""


def _lacking_launcher(overrides: Sequence[str], launching: Sequence[Override]) -> list[str]:
    """The problem with options of a launcher that was not chosen, and the command that chooses it.

    Args:
        overrides: the words of the command line.
        launching: those of them that choose a launcher or set its options.
    """
    options = [item.input_line for item in launching if _OF_LOCKSTEP.match(item.key_or_group)]
    if not options:
        return []
    words = ["multilayer", "train", "-m", *mask_overrides(overrides), "hydra/launcher=lockstep"]
    return [f"{options[0]}: add hydra/launcher=lockstep, as in {shlex.join(words)}"]


def _say_what_will_fail(command: str, config: Config, swept: Sequence[Override]) -> None:
    """Say which swept values no job can have; their jobs fail, but perhaps after hours of others.

    Args:
        command: `train`, for example.
        config: of a valid job.
        swept: the overrides with several values.
    """
    for key, text in _listed_values(swept):
        *groups, name = key.split(".")
        changed = deepcopy(config)
        node: Any = changed
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if not isinstance(node, dict) or name not in node:
            continue
        node[name] = parse_override(f"{key}={text}").value()
        for problem in problems_with(command, changed, in_sweep=True, written={key: text}):
            print(sanitize(f"multilayer: jobs will fail: {problem}"), file=sys.stderr)


def _listed_values(swept: Sequence[Override]) -> Iterator[tuple[str, str]]:
    """The keys of a sweep with each of their values, where these are listed and are plain."""
    for item in swept:
        if item.value_type == ValueType.SIMPLE_CHOICE_SWEEP:
            for text in item.sweep_string_iterator():
                if "${" not in text:
                    yield item.key_or_group, text


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
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            quoted = quoted_word(text, in_sweep=in_sweep)
            if quoted is not None:
                said = f"{text}: not to be read without quotes; write {quoted}"
                problems.append(Problem(said, text, shlex.split(quoted)))
            elif "=" in text:
                problems.append(Problem(_unreadable(text, error), text))
            else:
                problems.append(not_an_override(command, text))
    return parsed, problems


def _unreadable(text: str, error: HydraException) -> str:
    """The problem with an override that Hydra's grammar cannot read, even with quotes."""
    key = text.partition("=")[0].lstrip("+~")
    if not key.isascii():
        return f"{key}: unknown key; only values may have such letters"
    return f"{text}: not of the form key=value ({first_line(error)})"


def _jobs(
    command: str, parsed: Sequence[Override], loader: ConfigLoader
) -> Iterator[list[Override]]:
    """The overrides of each job of a sweep, in the order of Hydra's own sweeper.

    Nothing where a value is only known to a sweeper that searches.
    """
    if any(override.is_interval_sweep() for override in parsed):
        return
    jobs: Sequence[Words]
    (jobs,) = BasicSweeper.split_arguments(list(parsed), max_batch_size=None)
    with suppress(HydraException):  # a choice that is none, as the check of each job says
        jobs, _ = fit_to_choices(loader, command, jobs)
    yield from (_parse(command, job)[0] for job in jobs)


def _check_job(
    command: str,
    parsed: Sequence[Override],
    loader: ConfigLoader,
    written: Mapping[str, str],
    *,
    in_sweep: bool = False,
) -> Config:
    """The plain config of one job, checked for choices, keys, missing values, types and ranges.

    Values are set after the composition, which is done once; `${hydra:overrides.task}` and the
    names made of it lack them here, and have them in the run. `${hydra:job.num}` is that of a first
    job.

    Args:
        command: `train`, for example.
        parsed: the overrides of the job.
        loader: composes the config.
        written: the values on the command line, in a sweep perhaps several, by their keys.
        in_sweep: whether it is a job of a sweep.
    """
    bad = [(f"{item.key_or_group}.", _bad_choices(command, item, loader)) for item in parsed]
    groups = tuple(key for key, problems in bad if problems)
    right = [item for item in parsed if not f"{item.key_or_group}.".startswith(groups)]
    start = "resume" if command == "train" else ""
    changes = [item for item in right if item.key_or_group != start and _changes_key(item, loader)]
    try:
        words = [str(item.input_line) for item in right if item not in changes]
        config = loader.load_configuration(command, words, RunMode.RUN)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = 0
            config.hydra.runtime.output_dir = os.getcwd()
            HydraConfig.instance().set_config(config)
            del config["hydra"]
        keys = set(dotted_keys(OmegaConf.to_container(config, resolve=False)))
        if OmegaConf.is_config(config.get("sweep")):
            keys.remove("sweep")  # which was the name of a group
        unknown = [item for item in changes if not _adds(item) and item.key_or_group not in keys]
        known = [item for item in changes if item not in unknown]
        ConfigLoaderImpl._apply_overrides_to_config(known, config)
        values = to_plain(config)
        of_sweep = OmegaConf.select(config, "sweep") if in_sweep else None
    except (HydraException, OmegaConfBaseException) as error:
        is_there = "An item is already at" in str(error)
        hint = " Leave out the +, or write ++." if is_there else ""
        if twice := re.match(r"Multiple values for ([\w/]+)\.", str(error)):
            raise UserError(f"+{twice[1]}: it has a choice already; leave out the +") from error
        raise UserError(first_line(error) + hint) from error
    finally:
        HydraConfig.instance().cfg = None
    own = _own_folders(loader)
    messages = problems_with(command, values, in_sweep=in_sweep, written=_written(changes))
    if of_sweep is not None:
        messages += sweep_problems(OmegaConf.to_container(of_sweep))
    raise_problems(
        [problem for _, problems in bad for problem in problems]
        + [unknown_key(command, item, written, keys, own) for item in unknown]
        + list(map(Problem, messages))
    )
    if has_class(values.get("callbacks"), ".LearningRateSweep") and values["resume"] is None:
        rates = [item.input_line for item in right if item.key_or_group == "optimizer.lr"]
        refusal = "callbacks=lr_sweep finds the rate; leave one of them out"
        raise_all([f"{rate}: {refusal}" for rate in rates])
    return values


def _choices(override: Override, loader: ConfigLoader) -> list[str]:
    """The choices of the group from which an override chooses; none if it does not."""
    choices: list[str] = loader.get_group_options(override.key_or_group)
    return choices


def _own_folders(loader: ConfigLoader) -> list[Path]:
    """The folders of the user's own choices."""
    entries = loader.get_search_path().get_path()
    own = [item.path for item in entries if item.provider in ("command-line", "hydra.searchpath")]
    return folders_of(own)


def _changes_key(override: Override, loader: ConfigLoader) -> bool:
    """Whether an override changes a key of the config.

    Others choose from a group, are Hydra's own, or add a key at the top.
    """
    adds_to_top = _adds(override) and "." not in override.key_or_group
    return not (_choices(override, loader) or override.is_hydra_override() or adds_to_top)


def _adds(override: Override) -> bool:
    """Whether an override may add a key, with `+` or `++`."""
    return bool(override.is_add() or override.is_force_add())


def _written(changes: Sequence[Override]) -> dict[str, str]:
    """The values that overrides set, as they are written, by their keys."""
    set_ = [item for item in changes if not item.is_delete()]
    return {item.key_or_group: item.get_value_string() for item in set_}


def _bad_choices(command: str, override: Override, loader: ConfigLoader) -> list[Problem]:
    """The problems with the names that an override, or a sweep, chooses from a group."""
    options = _choices(override, loader)
    if not options or override.is_interval_sweep():
        return []
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    if command != "train" and not override.is_hydra_override():
        options = []
    return [
        bad_choice(command, override, name, options)
        for value in values
        for name in (value if isinstance(value, list) else [value])
        if str(getattr(name, "text", name)) not in options
    ]
