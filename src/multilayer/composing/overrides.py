"""The overrides of a sweep's jobs, and which of them set a plain value."""

import re
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType

DOTTED_KEY = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
"""A pattern of keys that lead through dicts alone."""

_INT = r"[+-]?(?:0|[1-9]\d{0,17})"

_SETS_NUMBER = re.compile(
    rf"({DOTTED_KEY})=(?:({_INT})|({_INT}\.\d*(?:[eE][+-]?\d+)?|{_INT}[eE][+-]?\d+))", re.ASCII
)
"""An override that sets an integer or a float: the most frequent, and Hydra's parser is slow."""

_READ_WHEN_COMPOSED = ("resume",)
"""Keys whose values decide what else is in the config."""


def parse_override(line: str) -> Override:
    """An override as Hydra's grammar has it."""
    number = _SETS_NUMBER.fullmatch(line)
    if number is None:
        return OverridesParser.create().parse_overrides([line])[0]
    key, whole, other = number.groups()
    value = float(other) if whole is None else int(whole)
    return Override(OverrideType.CHANGE, key, ValueType.ELEMENT, value, input_line=line)


@dataclass(frozen=True)
class Word:
    """An override of a job.

    Attributes:
        override: As Hydra parses it.
        is_group: Whether it makes a choice from a group.
        in_common: What is the same for all jobs of a kind: all of it, or where it only sets a plain
            value the key, and whether that is a list.
    """

    override: Override
    is_group: bool
    in_common: Any = field(init=False)

    def __post_init__(self) -> None:
        common: Any = self.override.input_line
        if self._sets_plain_value():
            common = (self.key, isinstance(self.override.value(), list))
        object.__setattr__(self, "in_common", common)

    @property
    def key(self) -> str:
        """The key that it changes, or the group."""
        return str(self.override.key_or_group)

    @property
    def is_plain(self) -> bool:
        """Whether jobs of one kind may have different values of it."""
        return isinstance(self.in_common, tuple)

    @property
    def changes_config(self) -> bool:
        """Whether it changes a key of the config that is not Hydra's own."""
        return not (self.is_group or self.override.is_hydra_override())

    def _sets_plain_value(self) -> bool:
        """Whether it sets a key to a value that refers to nothing."""
        value = self.override.value()
        values = value if isinstance(value, list) else [value]
        return (
            self.changes_config
            and self.override.type == OverrideType.CHANGE
            and self.override.value_type == ValueType.ELEMENT
            and self.override.package is None
            and re.fullmatch(DOTTED_KEY, self.key, re.ASCII) is not None
            and self.key not in _READ_WHEN_COMPOSED
            and all(type(each) in (bool, int, float, str) for each in values)
            and not any(part in str(values) for part in ("${", "???", "oc.env:"))
        )
