"""Text from files of others, as names of columns, classes and runs, made fit to be shown."""

import logging
from typing import Any

MOST_BITS = 10_000
"""Of a number that Python writes in decimal; it refuses longer ones."""


def harmless(text: str, keep: str = "\n\t") -> str:
    r"""Text without what a terminal would obey, or what turns the order of letters.

    Such letters are shown as Python writes them, except those to `keep`: lines stay lines.

    >>> print(harmless("\x1b[31mred, \u202eder"))
    \x1b[31mred, \u202eder
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else escaped(each) for each in text)


def escaped(letter: str) -> str:
    """A letter as Python writes it."""
    return letter.encode("unicode_escape").decode()


def harmless_data(value: Any) -> Any:
    """Plain data with harmless text in it; what YAML makes beside (dates, bytes, sets) is text."""
    if isinstance(value, dict):
        return {harmless(str(key)): harmless_data(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [harmless_data(each) for each in value]
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return hex(value)
    return value if value is None or isinstance(value, bool | int | float) else harmless(str(value))


class HarmlessFormatter(logging.Formatter):
    """For messages of the log that are shown on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The message as it is shown."""
        return harmless(super().format(record))
