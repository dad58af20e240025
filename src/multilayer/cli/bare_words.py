"""Words of the command line without `=`, and what of others they may be."""

import re
from collections.abc import Sequence
from pathlib import Path

from multilayer.cli.other_names import TABLE, WORDS, groups_with, is_key, of_file
from multilayer.cli.problems import key_of
from multilayer.core.errors import Problem, listed
from multilayer.core.text import for_shell, override_word
from multilayer.core.value_problems import any_value, knows, takes

_FOLDERS = {
    "train": "resume",
    "evaluate": "run",
    "predict": "run",
    "report": "sweep",
    "sweeps": "folder",
    "work": "sweep",
}
"""The key of a command that takes a folder of ours."""

_TABLES = {"evaluate": ("data.path",), "predict": ("input", "output")}
"""The keys of a command that take tables, in the order in which they are given."""

_NUMBER = re.compile(r"[+-]?\.?\d[\d.,e+-]*", re.IGNORECASE)


def joined_words(command: str, words: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Words that are one with those before them: around `=` and commas, and in brackets.

    >>> joined_words("train", ["optimizer.lr", "=", "0.1", "seed=1,", "2", "n", "3"])[0]
    ['optimizer.lr=0.1', 'seed=1,2', 'n=3']

    Args:
        command: `train`, for example.
        words: Those of its command line.

    Returns:
        The words, and the problems with those that were joined.
    """
    joined: list[str] = []
    shown: dict[str, str] = {}
    for word in words:
        before = joined[-1] if joined else ""
        between = _between(command, before, word)
        if between is None:
            joined.append(word)
        else:
            joined[-1] = f"{before}{between}{word}"
            shown[joined[-1]] = f"{shown.pop(before, before)} {word}"
    problems = []
    for one, parts in shown.items():
        said = "one word, in quotes" if " " in one else "one word, without blanks"
        said = said if "=" in parts else "a setting is KEY=VALUE"
        problems.append(Problem(f"{parts}: {said}: {for_shell([one])}", one, [one]))
    return joined, problems


def _between(command: str, before: str, word: str) -> str | None:
    """What is between a word and what continues it, in one word; None if it is another."""
    if not before or ("=" in word and not word.startswith("=")):
        return None
    if "=" not in before:
        if word.startswith("="):
            return ""
        is_name = re.fullmatch(r"[a-z]\w*(\.\w+)*", before, re.ASCII) is not None
        is_setting = _NUMBER.fullmatch(word) or is_key(before, command)
        return "=" if is_name and is_setting else None
    is_open = before.count("[") > before.count("]")
    if before.endswith(("=", ",", "[")) or word.startswith(("=", ",")):
        return ""
    return " " if is_open else None


class BareWords:
    """What words without `=` are, by what the others leave to be said.

    Args:
        command: `train`, for example.
        words: Those of its command line.
    """

    def __init__(self, command: str, words: Sequence[str]) -> None:
        self._command = command
        self._words = list(words)
        self._given = {key_of(word) for word in words if "=" in word}

    def problem(self, text: str) -> Problem:
        """The problem with one of the words; those before it have been asked for."""
        said = f"{text}: not of the form key=value"
        if text == "help":
            return Problem(f"{said}, did you mean multilayer {self._command} --help?", text)
        if keys := self._keys_for(text):
            return self._for_one_of(keys, text, said)
        groups = groups_with(text) if self._command == "train" else []
        own = text if is_key(text, self._command) else None
        known = WORDS.get(self._command, {}).get(text, own)
        if groups or known:
            word = f"{groups[0]}={text}" if groups else f"{known}={any_value(str(known))}"
            return Problem(f"{said}, did you mean {word}?", text, [word])
        if TABLE.fullmatch(text) and "data.path" not in self._given:
            self._given.add("data.path")
            return Problem(f"{said}; a file is {for_shell(of_file(text))}", text, of_file(text))
        key, colon, value = text.partition(":")
        if colon and is_key(key, self._command):
            word = f"{key}={value.strip() or any_value(key, self._command)}"
            return Problem(f"{said}, did you mean {for_shell([word])}?", text, [word])
        return Problem(said + self._as_continuation(text), text)

    def _keys_for(self, text: str) -> tuple[str, ...]:
        """The keys that take what a command is given by its name alone."""
        path, folder = Path(text), _FOLDERS[self._command]
        if self._command == "train":
            return (folder,) if path.is_dir() or path.suffix == ".ckpt" else ()
        is_table = text == "-" or (TABLE.fullmatch(path.name) is not None and not path.is_dir())
        tables = _TABLES.get(self._command, ())
        return tables if is_table else (folder, *tables)

    def _for_one_of(self, keys: Sequence[str], text: str, said: str) -> Problem:
        """The problem with a word that is the value of the first key without one."""
        key = next((each for each in keys if each not in self._given), None)
        if key is None:
            are = "are" if keys[1:] else "is"
            return Problem(f"{said}, and {listed(keys)} {are} given already", text)
        self._given.add(key)
        word = override_word(key, text)
        is_lost = key == "output" and Path(text).exists()
        note = " This file exists, and would be replaced." if is_lost else ""
        return Problem(f"{said}, did you mean {for_shell([word])}?{note}", text, [word])

    def _as_continuation(self, text: str) -> str:
        """A hint at a name with a blank, whose first part is the word before."""
        index = self._words.index(text)
        key, sign, start = self._words[index - 1].partition("=") if index else ("", "", "")
        name = f"{start} {text}"
        if not (sign and knows(key, self._command) and takes(key, name, self._command)):
            return ""
        return f"; a name with a blank goes in quotes: {for_shell([override_word(key, name)])}"
