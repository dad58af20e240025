"""What is wrong with words of the command line, and the whole command that was meant."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multilayer.core.errors import UserError
from multilayer.core.text import quote_for_shell
from multilayer.runs.config import mask_overrides

_PLACEHOLDER = re.compile(r".*=(COLUMN|FILE|FOLDER|VALUE)")
"""A word that leaves something for the user to fill in."""

_NEEDS_NO_QUOTES = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""A word that a shell leaves as it is, as `shlex` has it."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a word of the command line.

    Attributes:
        text: What is said of it.
        word: The word as it was given.
        meant: The words that were meant, as a program is given them; none where nobody knows.
    """

    text: str
    word: str = ""
    meant: Sequence[str] = ()


class WrongWordsError(UserError):
    """Words of the command line are wrong.

    Args:
        problems: One or more.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(problem.text for problem in problems))
        self.problems = problems


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one `WrongWordsError` with all problems, if there are any."""
    if problems:
        raise WrongWordsError(problems)


def for_shell(words: Sequence[str]) -> str:
    """Words as they are written in a shell.

    >>> print(for_shell(["seed=1", "model.d_hidden=[64]"]))
    seed=1 "model.d_hidden=[64]"
    """
    safe = [sign if _NEEDS_NO_QUOTES.fullmatch(sign) else quote_for_shell(sign) for sign in words]
    return " ".join(safe)


def with_whole_command(
    command: str, flags: Sequence[str], words: Sequence[str], problems: Sequence[Problem]
) -> str:
    """The text of all problems; if each of several has an answer, the whole command comes last.

    Args:
        command: `train`, for example.
        flags: Those of the command line.
        words: Its other words, some of which have the problems.
        problems: All of them.
    """
    text = "\n".join(problem.text for problem in problems)
    meant = {problem.word: problem.meant for problem in problems}
    mended = _replaced(_replaced(words, meant), meant)  # some are of words that were meant before
    keys = {word.partition("=")[0] for word in mended if not _PLACEHOLDER.fullmatch(word)}
    whole = [
        word
        for word in dict.fromkeys(mended)
        if not (_PLACEHOLDER.fullmatch(word) and word.partition("=")[0] in keys)
    ]
    is_whole = all(meant.values()) and not any(map(_PLACEHOLDER.fullmatch, whole))
    if len(problems) < 2 or not is_whole:
        return text
    line = for_shell(["multilayer", command, *flags, *mask_overrides(whole)])
    return f"{text}\nthe whole command: {line}"


def without_problems(words: Sequence[str], problems: Sequence[Problem]) -> list[str]:
    """The words that were meant, as far as they are known, for what else may be wrong."""
    meant = {problem.word: problem.meant for problem in problems}
    return [word for word in _replaced(words, meant) if not word.endswith("=VALUE")]


def joined_around_equals(words: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Words that are one with what follows or precedes a `=` after a blank.

    >>> joined_around_equals(["optimizer.lr", "=", "0.1"])[0]
    ['optimizer.lr=0.1']

    Returns:
        The words, and the problems with those that were joined.
    """
    found: list[list[str]] = []
    for word in words:
        before = found[-1] if found else []
        is_value = before[-1:] == ["="] or (len(before) == 1 and before[0].endswith("="))
        if before and (word.startswith("=") or (is_value and "=" not in word)):
            before.append(word)
        else:
            found.append([word])
    problems = []
    for parts in (each for each in found if each[1:]):
        one = "".join(parts)
        said = f"{' '.join(parts)}: without blanks around =: {for_shell([one])}"
        problems.append(Problem(said, one, [one]))
    return ["".join(parts) for parts in found], problems


def _replaced(words: Sequence[str], meant: Mapping[str, Sequence[str]]) -> list[str]:
    """Words, with those that were meant in place of others."""
    return [each for word in words for each in meant.get(word, [word])]
