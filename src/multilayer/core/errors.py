"""Errors that the user can fix, interrupts, and how their messages are worded, quoted and printed.

What is shown is safe for a terminal, and what is advised can be pasted into a command line.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from signal import Signals
from typing import Any

_MOST_BITS = 10_000
"""Bits of the largest integer shown in decimal; Python refuses to print longer ones."""

_UNQUOTED = r"(?!(?:true|false|null|nan|inf)$)(?:\.\./|/)*[a-z_][\w./+-]*"
"""A name or path that neither Hydra nor a shell reads as anything else, in any case."""


class UserError(ValueError):
    """The user's input is wrong: the command prints only the message and exits with code 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, from a scheduler, `timeout` or `kill`, or SIGHUP, from a lost terminal.

    Whatever saves a run after Ctrl-C also saves it after these.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signal = Signals(signum)


def interrupt_behind(error: SystemExit) -> BaseException:
    """The interrupt that Lightning turned into an exit; the exit itself if there is none."""
    context = error.__context__
    return context if isinstance(context, KeyboardInterrupt) else error


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A hint at the nearest valid name, at those that begin alike, or else the list of them all.

    >>> did_you_mean("adm", ["sgd", "adam"])
    'did you mean adam?'
    >>> did_you_mean("x", ["sgd", "adam"])
    'choose from adam, sgd'
    >>> did_you_mean("validation/acc", ["validation/auroc", "validation/accuracy"])
    'did you mean validation/accuracy?'
    """
    names = sorted(choices)
    begun = [each for each in names if each.startswith(name)]
    if len(begun) > 1:
        return f"choose from {', '.join(begun)}"
    near = begun or get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(names)}"


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """The message for a name that is not one of `choices`.

    >>> unknown_name("activation", "rely", ["relu", "tanh"])
    "unknown activation 'rely': did you mean relu?"
    """
    return f"unknown {kind} {name!r}: {did_you_mean(name, choices)}"


def quoted(names: Sequence[str], limit: int = 8) -> str:
    """The first names, quoted and separated by commas.

    >>> quoted(["a", "b"])
    "'a', 'b'"
    """
    listed = ", ".join(repr(name) for name in names[:limit])
    return f"{listed} and {len(names) - limit} more" if len(names) > limit else listed


def first_line(error: Exception) -> str:
    """The first line of a library's message, or else the name of its type.

    >>> first_line(KeyError())
    'KeyError'
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


PRINTED_FIRST: dict[str, int | str | None] = {}
"""The job of the sweep for which each message was first printed."""


def print_failure(error: Exception, job: int | str | None = None) -> None:
    """Print to standard error why a command or a run failed, and mark the error as printed.

    Of a `UserError` it is the message, with each problem and note on its own line; else the
    traceback. The mark, `was_printed`, travels to other processes with the error.

    Args:
        error: what was raised.
        job: the number of the run in a sweep, or several numbers as text.
    """
    if isinstance(error, UserError):
        head, of_job = "multilayer: error: ", "" if job is None else f"job {job}: "
        first = PRINTED_FIRST.setdefault(str(error), job)
        is_new = job in (None, first)
        lines = [str(error), *getattr(error, "__notes__", ())] if is_new else [f"as job {first}"]
        text = sanitize(of_job + "\n".join(lines)).replace("\n", "\n" + " " * len(head))
        print(head + text, file=sys.stderr)
    else:
        print(sanitize("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        if job is not None:
            print(f"multilayer: job {job} failed", file=sys.stderr)
    vars(error)["was_printed"] = True


def raise_all(problems: Sequence[str]) -> None:
    """Raise one `UserError` that lists all problems, if there are any."""
    if problems:
        raise UserError("\n".join(problems))


def sanitize(text: str, keep: str = "\n\t") -> str:
    r"""Escape terminal codes and characters that change the direction of text.

    They are shown as Python writes them, except those in `keep`, so that lines stay lines. Names of
    columns, classes and runs may come from other people's files.

    >>> print(sanitize("\x1b[31mred, \u202eder"))
    \x1b[31mred, \u202eder
    """
    if text.isprintable():
        return text
    escaped = (
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode()
        for each in text
    )
    return "".join(escaped)


def sanitize_data(value: Any) -> Any:
    """Plain data with `sanitize`d text; YAML's dates, bytes and sets become text."""
    if isinstance(value, dict):
        return {sanitize(str(key)): sanitize_data(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [sanitize_data(each) for each in value]
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return hex(value)
    return value if value is None or isinstance(value, bool | int | float) else sanitize(str(value))


class SanitizingFormatter(logging.Formatter):
    """Formats log messages for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, safe to show."""
        return sanitize(super().format(record))


def as_override(key: str, value: str | Sequence[str]) -> str:
    r"""An override that sets `key` to a string or a list of strings, quoted where necessary.

    Hydra reads the same value from it when it is pasted into a shell.

    >>> print(as_override("data.drop_columns", ["a"]), as_override("data.drop_columns", ["my col"]))
    data.drop_columns=[a] "data.drop_columns=['my col']"
    >>> print(as_override("data.target", "1"), as_override("data.decimal", ","))
    "data.target='1'" "data.decimal=','"
    """
    texts = [value] if isinstance(value, str) else value
    is_plain = all(re.fullmatch(_UNQUOTED, text, re.ASCII | re.IGNORECASE) for text in texts)
    listed = ",".join(texts if is_plain else map(_quote_for_hydra, texts))
    word = f"{key}={listed if isinstance(value, str) else f'[{listed}]'}"
    return word if is_plain else _quote_for_shell(word)


def _quote_for_hydra(text: str) -> str:
    """A string that Hydra reads literally."""
    doubled = re.sub(r"(\\*)(?='|$)", r"\1\1", text.replace("${", r"\${"))
    return "'" + doubled.replace("'", r"\'") + "'"


def _quote_for_shell(word: str) -> str:
    """A word that a shell, including an interactive one, reads literally."""
    return '"' + re.sub(r'(["$`\\])', r"\\\1", word).replace("!", "\"'!'\"") + '"'
