"""Errors that the user can fix, interrupts, and how messages are worded and printed."""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from errno import ENAMETOOLONG
from signal import Signals

from multilayer.core.text import as_override, sanitize


@dataclass(frozen=True)
class Problem:
    """What is wrong with a word of the command line, or with a value of a config.

    Attributes:
        text: What is said of it.
        word: The word; of a value that a config lacks its key.
        meant: The words and flags that were meant, as a program is given them; none where nobody
            knows.
    """

    text: str
    word: str = ""
    meant: Sequence[str] = ()

    def __str__(self) -> str:
        return self.text


class UserError(ValueError):
    """The user's input is wrong: the command prints only the message and exits with code 2.

    >>> str(UserError("seed=-1: must be at least 0"))
    'seed=-1: must be at least 0'
    """

    _problems: Sequence[Problem] = ()

    @property
    def problems(self) -> Sequence[Problem]:
        """Each problem that the message names."""
        return self._problems or list(map(Problem, str(self).splitlines()))


class RefusedError(UserError):
    """What was to train the jobs of a sweep refuses them: none has begun."""


class JobsFailedError(Exception):
    """Jobs of a sweep have failed, each of which has said why."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, from a scheduler, `timeout` or `kill`, or SIGHUP, from a lost terminal.

    Whatever saves a run after Ctrl-C also saves it after these.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signal = Signals(signum)


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that an error has taken the place of; None if there was none.

    So it is where a library's `finally` fails, as argparse's does after one.
    """
    earlier = error.__cause__ or error.__context__
    while earlier is not None and not isinstance(earlier, KeyboardInterrupt):
        error, earlier = earlier, earlier.__cause__ or earlier.__context__
    return None if earlier is error.__cause__ else earlier  # `from` is meant


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A hint at the nearest valid name, at those that begin alike, or else the list of them all.

    >>> did_you_mean("adm", ["sgd", "adam"])
    'did you mean adam?'
    >>> did_you_mean("x", ["sgd", "adam"]), did_you_mean("X", ["x", "y"])
    ('choose from adam, sgd', 'did you mean x?')
    >>> did_you_mean("validation/acc", ["validation/auroc", "validation/accuracy"])
    'did you mean validation/accuracy?'
    """
    names = sorted(choices)
    begun = [each for each in names if each.startswith(name)]
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near}?"
    return f"choose from {listed(begun or names)}"


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The valid name that was likely meant; None where there is none, or several begin alike."""
    names = sorted(choices)
    alike = [each for each in names if each.lower() == name.lower()]
    begun = [each for each in names if each.startswith(name)]
    near = alike or begun or get_close_matches(name, names, n=1)
    return near[0] if len(near) == 1 else None


def nearest_override(
    key: str, given: Sequence[str], choices: Iterable[str], *, is_list: bool
) -> str:
    """A hint at the override that was likely meant, or at all valid names.

    A name with a comma is several where it is not in quotes: those of a list are joined again.

    Args:
        key: The override's.
        given: Its names, some of which are not among `choices`; one if it is no list.
        choices: The valid names.
        is_list: Whether the key takes a list.

    >>> print(nearest_override("drop", ["id", "c", "d"], ["c,d", "id"], is_list=True))
    did you mean "drop=['id','c,d']"?
    >>> print(nearest_override("target", ["x"], ["", "c,d"], is_list=False))
    choose from '', 'c,d'
    """
    valid, meant = list(choices), []
    rest = list(given)
    while rest:
        n = _n_joined(rest, valid)
        name = next((each for each in valid if n > 1 and _parts(each) == rest[:n]), rest[0])
        near = name if name in valid else nearest(name, valid)
        if near is None:
            return did_you_mean(name, valid)
        meant.append(near)
        rest = rest[n:]
    words = list(dict.fromkeys(meant)) if is_list else meant[0]
    return f"did you mean {as_override(key, words)}?"


def _n_joined(names: Sequence[str], valid: Sequence[str]) -> int:
    """How many names at the beginning are one that has commas; 1 if it is one by itself."""
    for n in range(len(names), 1, -1):
        is_split = any(name not in valid for name in names[:n])
        if is_split and any(_parts(each) == list(names[:n]) for each in valid):
            return n
    return 1


def _parts(name: str) -> list[str]:
    """What a list has of a name with commas that is not in quotes."""
    return [part.strip() for part in name.split(",")]


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """The message for a name that is not one of `choices`.

    >>> unknown_name("activation", "rely", ["relu", "tanh"])
    "unknown activation 'rely': did you mean relu?"
    """
    return f"unknown {kind} {name!r}: {did_you_mean(name, choices)}"


def listed(names: Sequence[str], limit: int = 40) -> str:
    """The first names, separated by commas; all in quotes if one of them could be taken for more.

    >>> listed(["a", "b/c"]), listed(["a", "b, c"])
    ('a, b/c', "'a', 'b, c'")
    """
    if all(re.fullmatch(r"[^\s,'\"]+", name) for name in names):
        more = f" and {len(names) - limit} more" if len(names) > limit else ""
        return ", ".join(names[:limit]) + more
    return quoted(names, limit)


def quoted(names: Sequence[str], limit: int = 8) -> str:
    """The first names, quoted and separated by commas.

    >>> quoted(["a", "b"])
    "'a', 'b'"
    """
    listed = ", ".join(repr(name) for name in names[:limit])
    return f"{listed} and {len(names) - limit} more" if len(names) > limit else listed


def first_line(error: Exception) -> str:
    """The first line of a library's message, or of its cause's, or else the name of its type.

    >>> first_line(KeyError())
    'KeyError'
    """
    line = str(error).strip().partition("\n")[0]
    if not line and isinstance(error.__cause__, Exception):
        return first_line(error.__cause__)
    return line or type(error).__name__


PRINTED_FIRST: dict[str, str | None] = {}
"""The jobs of the sweep for which each message was first printed."""


def of_user(error: Exception) -> Exception:
    """A `UserError` for a name that is too long for a file; any other error as it is."""
    if not isinstance(error, OSError) or error.errno != ENAMETOOLONG:
        return error
    name = os.path.basename(os.fsdecode(error.filename))
    return UserError(f"{name[:40]}...: a name of {len(name)} letters is too long for a file")


def print_failure(error: Exception, jobs: str | None = None) -> None:
    """Print to standard error why a command or a run failed, and mark the error as printed.

    Of a `UserError` it is the message, with each problem and note on its own line; else the
    traceback. The mark, `was_printed`, travels to other processes with the error.

    Args:
        error: what was raised.
        jobs: the runs of a sweep, as `name_jobs` has them.
    """
    if isinstance(error, UserError):
        head, of_job = "multilayer: error: ", "" if jobs is None else f"{jobs}: "
        first = PRINTED_FIRST.setdefault(str(error), jobs)
        is_new = jobs in (None, first)
        lines = [str(error), *getattr(error, "__notes__", ())] if is_new else [f"as {first}"]
        text = sanitize(of_job + "\n".join(lines)).replace("\n", "\n" + " " * len(head))
        print(head + text, file=sys.stderr)
    else:
        print(sanitize("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        if jobs is not None:
            print(f"multilayer: {jobs} failed", file=sys.stderr)
    vars(error)["was_printed"] = True


def raise_all(problems: Sequence[Problem | str]) -> None:
    """Raise one `UserError` that lists all problems, if there are any."""
    if problems:
        error = UserError("\n".join(map(str, problems)))
        error._problems = [
            each if isinstance(each, Problem) else Problem(each) for each in problems
        ]
        raise error


class SanitizingFormatter(logging.Formatter):
    """Formats log messages for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, safe to show."""
        return sanitize(super().format(record))
