"""The one kind of error that the user can mend, and the words that help to mend it."""

import sys
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from multilayer.core.harmless import harmless


class UserError(ValueError):
    """The user's input is wrong: the command prints the message alone and exits with code 2."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A hint at the nearest valid name, or those that begin so, or else the list of them.

    >>> did_you_mean("adm", ["sgd", "adam"])
    'did you mean adam?'
    >>> did_you_mean("x", ["sgd", "adam"])
    'choose from adam, sgd'
    >>> did_you_mean("validation/acc", ["validation/auroc", "validation/accuracy"])
    'did you mean validation/accuracy?'
    """
    names = sorted(choices)
    begun = [each for each in names if each.startswith(name)]
    if begun:
        return f"did you mean {begun[0]}?" if len(begun) == 1 else f"choose from {', '.join(begun)}"
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(names)}"


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """The message for a name that is none of `choices`.

    >>> unknown_name("activation", "rely", ["relu", "tanh"])
    "unknown activation 'rely': did you mean relu?"
    """
    return f"unknown {kind} {name!r}: {did_you_mean(name, choices)}"


def quoted(names: Sequence[str], limit: int = 8) -> str:
    """The first names in a readable list.

    >>> quoted(["a", "b"])
    "'a', 'b'"
    """
    listed = ", ".join(repr(name) for name in names[:limit])
    return f"{listed} and {len(names) - limit} more" if len(names) > limit else listed


def first_line(error: Exception) -> str:
    """The part of a library's message that says what is wrong.

    >>> first_line(KeyError())
    'KeyError'
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


def print_error(error: UserError, job: int | str | None = None) -> None:
    """One message on the standard error, each problem and note on a line of its own."""
    head = "multilayer: error: "
    of_job = "" if job is None else f"job {job}: "
    text = harmless("\n".join([f"{of_job}{error}", *getattr(error, "__notes__", ())]))
    print(head + text.replace("\n", "\n" + " " * len(head)), file=sys.stderr)


PRINTED_FIRST: dict[str, int | str | None] = {}
"""For which job of the sweep each message was printed first."""


def print_failure(error: Exception, job: int | str | None = None) -> None:
    """Say why a run failed: a message for what the user can mend, else the traceback.

    job: its number in a sweep, or several in words.
    """
    if isinstance(error, UserError):
        first = PRINTED_FIRST.setdefault(str(error), job)
        print_error(error if job in (None, first) else UserError(f"as job {first}"), job)
    else:
        print(harmless("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        if job is not None:
            print(f"multilayer: job {job} failed", file=sys.stderr)
    note_printed(error)


def note_printed(error: Exception) -> None:
    """Let nobody say it again; the note goes with it to another process."""
    vars(error)["was_printed"] = True


def was_printed(error: Exception) -> bool:
    """Whether `print_failure` has said it."""
    return "was_printed" in vars(error)


def raise_all(problems: Sequence[str]) -> None:
    """Raise one `UserError` that lists all problems, if there are any."""
    if problems:
        raise UserError("\n".join(problems))
