"""Text that is safe to show in a terminal, and values that can be pasted into a command line."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_MOST_BITS = 10_000
"""Bits of the largest integer shown in decimal; Python refuses to print longer ones."""

_UNQUOTED = r"(?!(?:true|false|null|nan|inf)$)(?:\.\./|/)*[a-z_][\w./+-]*"
"""A name or path that neither Hydra nor a shell reads as anything else, in any case."""

_NEEDS_NO_QUOTES = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""A word that a shell leaves as it is, as `shlex` has it."""


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


def as_override(key: str, value: str | Sequence[str]) -> str:
    r"""An override that sets `key` to a string or a list of strings, quoted where necessary.

    Hydra reads the same value from it when it is pasted into a shell. A list is always quoted:
    zsh would look for files that match its brackets.

    >>> print(as_override("data.drop_columns", ["a"]), as_override("data.drop_columns", ["my col"]))
    "data.drop_columns=[a]" "data.drop_columns=['my col']"
    >>> print(as_override("data.target", "1"), as_override("data.decimal", ","))
    "data.target='1'" "data.decimal=','"
    """
    return for_shell([override_word(key, value)])


def override_word(key: str, value: str | Sequence[str] | float | None) -> str:
    """An override as a program is given it, which no shell has read; see `as_override`.

    >>> print(override_word("sweep", "a $b"), override_word("trusted_packages", ["a"]))
    sweep='a $b' trusted_packages=[a]
    >>> print(override_word("n", 3), override_word("stack", True), override_word("limit", None))
    n=3 stack=true limit=null
    """
    if not isinstance(value, Sequence):
        return f"{key}={json.dumps(value)}"
    texts = [value] if isinstance(value, str) else value
    listed = ",".join(texts if all(map(_is_plain, texts)) else map(quote_for_hydra, texts))
    return f"{key}={listed}" if isinstance(value, str) else f"{key}=[{listed}]"


def _is_plain(text: str) -> bool:
    """Whether neither Hydra nor a shell reads a string as anything else."""
    return re.fullmatch(_UNQUOTED, text, re.ASCII | re.IGNORECASE) is not None


def split_list(text: str) -> list[str]:
    """The items of a list as it is written on a command line, without their quotes.

    >>> split_list("[a b,'c,d',1e3]")
    ['a b', 'c,d', '1e3']
    """
    items = re.findall(
        r"""\s*('[^']*'|"[^"]*"|[^,]+)\s*(?:,|$)""", text.removeprefix("[").removesuffix("]")
    )
    return [without_quotes(item.strip()) for item in items]


def without_quotes(text: str) -> str:
    """A text without the pair of quotes around it, if there is one."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if is_quoted else text


def quote_for_hydra(text: str) -> str:
    """A string that Hydra reads literally."""
    doubled = re.sub(r"(\\*)(?='|$)", r"\1\1", text.replace("${", r"\${"))
    return "'" + doubled.replace("'", r"\'") + "'"


def for_shell(words: Iterable[str]) -> str:
    """Words as they are written in a shell.

    >>> print(for_shell(["seed=1", "model.d_hidden=[64]"]))
    seed=1 "model.d_hidden=[64]"
    """
    safe = [sign if _NEEDS_NO_QUOTES.fullmatch(sign) else quote_for_shell(sign) for sign in words]
    return " ".join(safe)


def quote_for_shell(word: str) -> str:
    """A word in quotes, in which a shell, including an interactive one, reads it literally."""
    return '"' + re.sub(r'(["$`\\])', r"\\\1", word).replace("!", "\"'!'\"") + '"'


def consecutive(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers, cut wherever one does not follow the one before.

    >>> consecutive([0, 1, 2, 5])
    [[0, 1, 2], [5]]
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def in_numbers(numbers: Iterable[int]) -> str:
    """Whole numbers in words, runs of them shortened.

    >>> in_numbers([0, 1, 2, 5])
    '0 to 2, 5'
    >>> in_numbers([64, 64])
    '64, 64'
    """
    runs = consecutive(numbers)
    return ", ".join(f"{run[0]} to {run[-1]}" if run[1:] else str(run[0]) for run in runs)


def counted(n: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "job"), counted(0, "run"), counted(2, "class"), counted(1234, "epoch")
    ('1 job', '0 runs', '2 classes', '1,234 epochs')
    """
    return f"{n:,} {plural(noun, n)}"


def plural(noun: str, n: float) -> str:
    """What `n` things are called.

    >>> plural("column", 2), plural("column", 1), plural("epoch", 0.5)
    ('columns', 'column', 'epochs')
    """
    ending = "es" if noun.endswith(("s", "tch")) else "s"
    return noun + ending * (n != 1)


def name_jobs(numbers: Iterable[int]) -> str:
    """The jobs of a sweep, by their numbers.

    >>> name_jobs([3]), name_jobs([0, 1, 5])
    ('job 3', 'jobs 0 to 1, 5')
    """
    listed = list(numbers)
    return f"{plural('job', len(listed))} {in_numbers(listed)}"
