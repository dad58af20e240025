"""Reading the small files of a run or a sweep, which may be a stranger's, within bounds."""

from pathlib import Path
from typing import Any

import yaml

# The same in C, where PyYAML was built with it.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MOST_BYTES = 2**20
"""Of a file: one of a run has some thousands."""

MOST_DEPTH = 50
"""Of YAML; libyaml goes down in the stack of C, and ends the process where that is full."""

MOST_LETTERS = 10_000
"""Of a word in YAML; a number of a million digits would take hours."""


def read_small(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError: It cannot be read, is no plain file (a pipe never ends), or is too large.
        ValueError: It is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no plain file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(f"{path.name} is larger than {MOST_BYTES // 2**20} MiB")
    return content.decode()


def load_yaml(text: str) -> Any:
    """Plain data from YAML.

    Raises:
        yaml.YAMLError: It is none, or is what no command of ours writes: nested deeper than
            `MOST_DEPTH`, or with names for parts that may hold themselves.
    """
    try:
        check_events(text)
        return yaml.load(text, Loader)  # noqa: S506 - it is safe
    except Exception as error:  # a tag with a wrong value raises whatever Python then does
        raise yaml.YAMLError(str(error)) from error


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
