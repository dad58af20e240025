"""What is wrong with words of the command line, and the whole command that was meant."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multilayer.core.errors import Problem
from multilayer.core.text import for_shell
from multilayer.runs.config import mask_overrides

_PLACEHOLDER = re.compile(r".*[=:](COLUMN|FILE|FOLDER|VALUE)")
"""A word that leaves something for the user to fill in."""

SWEEP = "-m"
"""The flag of a sweep."""


@dataclass(frozen=True)
class _Word:
    """A word of the command line.

    Attributes:
        text: The word, or what was meant by it.
        flag: The setting that a flag of other programs was first taken for, if it was given as one.
        is_guess: Whether it is what was meant.
    """

    text: str
    flag: str = ""
    is_guess: bool = False

    @property
    def key(self) -> str:
        """What it sets."""
        return key_of(self.text)

    @property
    def is_open(self) -> bool:
        """Whether it leaves something for the user to fill in."""
        return self.is_guess and _PLACEHOLDER.fullmatch(self.text) is not None

    def mended(self, meant: Mapping[str, Sequence[str]]) -> list["_Word"]:
        """The words that take its place; itself where nothing is wrong with it."""
        if self.text not in meant:
            return [self]
        return [_Word(text, self.flag, is_guess=True) for text in meant[self.text]]


class Mending:
    """The words of a command line, in which those that were meant take the place of wrong ones.

    Args:
        words: Those that are no flags of Hydra's.
        flags: The flags of other programs as which some of them were given.
        sweep: Whether they are those of a sweep.

    Attributes:
        sweep: Whether they are so by now.
    """

    def __init__(self, words: Sequence[str], flags: Mapping[str, str], *, sweep: bool) -> None:
        self.sweep = sweep
        self._words = [
            _Word(word, word, is_guess=True) if word in flags else _Word(word) for word in words
        ]
        self._flags = flags
        self._wrong: dict[str, str] = {}  # what is wrong with the setting of a flag
        self._texts: list[str] = []
        self._is_known = True  # what was meant by each

    @property
    def words(self) -> list[str]:
        """Those that can be looked at, for what else may be wrong."""
        return [word.text for word in self._words if not self._has_no_value(word)]

    @staticmethod
    def _has_no_value(word: _Word) -> bool:
        """Whether all values are wrong for a word; `COLUMN` and the like are as good as others."""
        return word.is_open and word.text.endswith("VALUE")

    def take(self, problems: Sequence[Problem]) -> bool:
        """Note what is wrong with the words, and mend them; returns whether any word changed."""
        flag_of = {word.text: word.flag for word in self._words}
        left_open = {word.key for word in self._words if self._has_no_value(word)}
        of_words = [each.meant for each in problems if each.word in flag_of]
        settled = {key_of(word) for meant in of_words for word in meant}  # so they are not missing
        new = [
            each
            for each in problems
            if key_of(each.word) not in left_open
            and (each.word in flag_of or each.word not in settled)
        ]
        for each in new:
            flag = flag_of.get(each.word)
            if not flag:
                self._texts.append(each.text)
            elif not each.meant:
                self._wrong[flag] = each.text
        self._is_known &= all(each.meant and each.word in flag_of for each in new)
        meant = {each.word: each.meant for each in new}
        before = self._words, self.sweep
        mended = [each for word in self._words for each in word.mended(meant)]
        swept = [word for word in mended if word.is_guess and word.text == SWEEP]
        self.sweep |= bool(swept)
        self._words = [word for word in mended if word not in swept]
        return before != (self._words, self.sweep)

    def text(self, command: str, options: Sequence[str]) -> str:
        """All that is wrong; if each of several problems has an answer, the whole command is last.

        Args:
            command: `train`, for example.
            options: Hydra's flags.
        """
        lines = [self._of_flag(flag) for flag in self._flags] + [*dict.fromkeys(self._texts)]
        last: dict[str, _Word] = {}  # that of each key that holds
        for word in self._words:
            if word.key not in last or not word.is_open:
                last[word.key] = word
        is_whole = self._is_known and not any(word.is_open for word in last.values())
        if len(lines) > 1 and is_whole:
            flags = [SWEEP] * (self.sweep and SWEEP not in options) + [*options]
            whole = mask_overrides([word.text for word in last.values()])
            words = ["multilayer", command, *flags, *whole]
            lines.append(f"the whole command: {for_shell(words)}")
        return "\n".join(lines)

    def _of_flag(self, flag: str) -> str:
        """What is wrong with a flag, by the setting that it was first taken for."""
        name = mask_overrides([self._flags[flag]])[0]
        problem = f"{name}: no such flag; a setting is KEY=VALUE, without dashes"
        if flag in self._wrong:
            return f"{problem}; {self._wrong[flag]}"
        meant = mask_overrides([word.text for word in self._words if word.flag == flag])
        return f"{problem}: did you mean {for_shell(meant)}?" if meant else problem


def key_of(word: str) -> str:
    """What a word sets, adds or deletes.

    >>> key_of("+model.d_hidden=[4]"), key_of("x.csv")
    ('+model.d_hidden', 'x.csv')
    """
    return word.partition("=")[0]
