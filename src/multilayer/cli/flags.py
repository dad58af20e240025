"""Flags that do not exist: other programs have them for what is a setting here."""

import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from multilayer.cli.check import refuse_words
from multilayer.cli.config_loader import make_hydra
from multilayer.cli.problems import Problem, for_shell
from multilayer.cli.suggestions import groups_with, meant_words, quoted_word
from multilayer.core.value_problems import takes
from multilayer.runs.config import dotted_keys, mask_overrides


def refuse_flags(
    command: str, arguments: Sequence[str], unknown: Sequence[str], flags: Any
) -> NoReturn:
    """Raise `UserError` for flags that do not exist, and for what else is wrong.

    Args:
        command: `train`, for example.
        arguments: The whole command line.
        unknown: The flags among them, perhaps with a value after a `=`.
        flags: Hydra's flags in it, and its overrides.
    """
    config = make_hydra([]).config_loader.load_configuration(command, [], RunMode.RUN)
    keys = set(dotted_keys(OmegaConf.to_container(config, resolve=False)))
    no_flags = [word for word in unknown if not word.startswith("-")]
    overrides, left = [*flags.overrides, *no_flags], [*unknown]
    problems: list[Problem] = []
    given: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in overrides:
            overrides.remove(word)
            given.append(word)
        elif word in left:
            value = _value_after(words, overrides)
            problems.append(_flag_problem(command, word, value, keys))
            given.append(word)
    refuse_words(command, given, problems, config_dir=flags.config_dir, sweep=flags.multirun)


def _value_after(words: list[str], overrides: list[str]) -> str:
    """Take the value of a flag from the words that follow it, if it has one."""
    if not words or "=" in words[0] or words[0] not in overrides:
        return ""
    overrides.remove(words[0])
    return words.pop(0)


def _flag_problem(command: str, flag: str, value: str, keys: set[str]) -> Problem:
    """The problem with a flag.

    Args:
        command: `train`, for example.
        flag: As it was written.
        value: The word that follows it, if that may be its value.
        keys: Those of the command's config.
    """
    name, sign, own = flag.lstrip("-").partition("=")
    key, value = name.replace("-", "_"), own if sign else value
    if not value and takes(key, True) and not takes(key, "x"):
        value = "true"
    is_key = key in keys
    meant = [f"{key}={value or 'VALUE'}"] if is_key else meant_words(command, key, value, keys)
    groups = groups_with(key) if command == "train" and not (meant or value) else []
    meant = [f"{group}={key}" for group in groups] or list(map(_readable, meant))
    hint = f"multilayer {command} --help lists them"
    if meant:
        hint = f"did you mean {for_shell(mask_overrides(meant))}?"
    problem = f"{flag}: no such flag; a setting is KEY=VALUE, without dashes: {hint}"
    return Problem(problem, flag, meant)


def _readable(word: str) -> str:
    """A word that Hydra's grammar can read, with quotes where they help."""
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return next(iter(shlex.split(quoted_word(word) or "")), word)
    return word
