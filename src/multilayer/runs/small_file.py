"""Reading the files of a run or a sweep, which may be damaged, or a stranger's: within bounds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from multilayer.core.errors import UserError, first_line

# The same in C, where PyYAML was built with it.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MOST_BYTES = 2**20
"""Of a file: one of a run has some thousands."""

MOST_DEPTH = 50
"""Of YAML; libyaml goes down in the stack of C, and ends the process where that is full."""

MOST_LETTERS = 10_000
"""Of a word in YAML; a number of a million digits would take hours."""


@contextmanager
def refusing(path: Path, problem: str, *faults: type[Exception]) -> Iterator[None]:
    """Say in one line that a file cannot be used.

    Args:
        path: the file.
        problem: what is wrong with it where one of the faults comes up.
        faults: what damage makes a library raise.

    Raises `UserError`, which names the file.
    """
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except faults as error:
        raise UserError(f"{path} {problem}: {first_line(error)}") from error


def read_small(path: Path) -> str:
    """The text of a file.

    Raises `UserError` where it cannot be read, is no plain file (a pipe never ends), is too large
    or not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no plain file")
    with refusing(path, "is damaged", UnicodeDecodeError):
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES // 2**20} MiB")
        return content.decode()


def read_json(path: Path) -> Any:
    """Plain data from a JSON file.

    Raises `UserError`.
    """
    with refusing(path, "is damaged", ValueError, RecursionError):
        return json.loads(read_small(path))


def load_yaml(text: str) -> Any:
    """Plain data from YAML.

    The bounds are checked first: going twice through libyaml takes 1.0 ms for a run's config, and
    once through PyYAML's own composer, which could check them on the way, 1.3 ms.

    Raises:
        ValueError: It is none, or is what no command of ours writes: nested deeper than
            `MOST_DEPTH`, or with names for parts that may hold themselves.
    """
    try:
        check_events(text)
        return yaml.load(text, Loader)  # noqa: S506 - it is safe
    except Exception as error:  # a tag with a wrong value raises whatever Python then does
        raise ValueError(str(error)) from error


def check_events(text: str) -> None:
    """Go through YAML from the first letter to the last, building nothing."""
    depth = 0
    for event in yaml.parse(text, Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MOST_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"*{event.anchor} stands for another part")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MOST_LETTERS:
            raise yaml.YAMLError(f"a word of more than {MOST_LETTERS} letters")
