"""Hydra's flags, and those that other programs have for what is a setting here."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser  # Hydra has no public way to its own flags

from multilayer.cli.problems import SWEEP
from multilayer.core.errors import UserError
from multilayer.core.value_problems import any_value, knows


class CommandLine:
    """A command line after its command.

    Args:
        command: `train`, for example.
        arguments: What follows.

    Attributes:
        flags: Hydra's, by their names.
        words: Those that are none.
        others: The flags that do not exist by the words that they were taken for.
    """

    def __init__(self, command: str, arguments: Sequence[str]) -> None:
        parser: Any = get_args_parser()
        parser.error = _refuse  # which would print its usage and exit
        parser.allow_abbrev = False  # --experiment is not --experimental-rerun
        if knows("run", command):  # nor is --run=RUN Hydra's --run, which changes nothing
            del parser._option_string_actions["--run"]
        self.flags, unknown = parser.parse_known_intermixed_args(arguments)
        self.words: list[str] = self.flags.overrides
        self.others: dict[str, str] = {}
        if unknown:
            _refuse_misspelt(unknown, parser._option_string_actions)
            self._take_for_settings(command, list(arguments), unknown)

    @property
    def options(self) -> list[str]:
        """Hydra's flags as a program is given them."""
        found = []
        for name, value in vars(self.flags).items():
            if name != "overrides" and value not in (None, False):
                found.append(SWEEP if name == "multirun" else f"--{name.replace('_', '-')}")
                found += [] if value is True else [value]
        return found

    def _take_for_settings(
        self, command: str, arguments: list[str], unknown: Sequence[str]
    ) -> None:
        """Put settings in place of flags that do not exist."""
        no_flags = [word for word in unknown if not word.startswith("-")]
        overrides, left = [*self.words, *no_flags], [*unknown]
        self.words = []
        while arguments:
            word = arguments.pop(0)
            if word in overrides:
                overrides.remove(word)
                self.words.append(word)
            elif word in left:
                setting = _setting(command, word, arguments, overrides)
                self.others[setting] = word
                self.words.append(setting)


def _refuse(message: str) -> NoReturn:
    raise UserError(message)


def _refuse_misspelt(flags: Sequence[str], known: Iterable[str]) -> None:
    """Raise `UserError` for a flag that is nearly one of Hydra's."""
    for flag in flags:
        name = flag.partition("=")[0].replace("_", "-")
        if name.startswith("--") and (near := get_close_matches(name, known, n=1, cutoff=0.8)):
            raise UserError(f"{flag}: no such flag, did you mean {near[0]}?")


def _setting(command: str, flag: str, following: list[str], overrides: list[str]) -> str:
    """The setting that a flag would be; its value is taken from the words that follow.

    Args:
        command: `train`, for example.
        flag: As it was written.
        following: The words of the command line after it.
        overrides: Those of them that are no flags.
    """
    name, sign, value = flag.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if not sign and following[:1] == ["="]:
        overrides.remove(following.pop(0))
    if not sign and following and following[0] in overrides and "=" not in following[0]:
        overrides.remove(following[0])
        value = following.pop(0)
        while value.endswith(",") and following and following[0] in overrides:
            overrides.remove(following[0])
            value += following.pop(0)
    if not value and knows(key, command):
        value = any_value(key, command)
    return f"{key}={value}"
