"""Overrides are what Hydra's parser makes of them."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from multilayer.composing.overrides import Word, parse_override

NUMBERS = r"[a-c](\.[a-c_])?=[+-]?[0-2_]{0,3}(\.[0-2]{0,2})?([eE][+-]?[0-2]{0,2})?"


@given(st.from_regex(NUMBERS, fullmatch=True))
def test_a_number_is_what_hydra_reads(line: str) -> None:
    """The words that only look like one too."""
    (expected,) = OverridesParser.create().parse_overrides([line])
    override = parse_override(line)
    assert override == expected
    assert repr(override.value()) == repr(expected.value())


@pytest.mark.parametrize(
    ("line", "is_plain"),
    [
        ("a.b=1", True),
        ("a.b=x", True),
        ("a.b=[1,x]", True),
        ("a.b='${c'", False),
        ("a.b=${c}", False),
        ("a.b=[${c}]", False),
        ("a.b='???'", False),
        ("a.b=null", False),
        ("a.b={c: 1}", False),
        ("a.0=1", False),
        ("a@b=1", False),
        ("+a.b=1", False),
        ("++a.b=1", False),
        ("~a.b", False),
        ("a=1,2", False),
        ("a='oc.env:X'", False),
        ("hydra.a=1", False),
        ("resume=x", False),
    ],
)
def test_a_plain_value_refers_to_nothing(line: str, is_plain: bool) -> None:
    """And its key leads through dicts; a choice from a group is none."""
    assert Word(parse_override(line), is_group=False).is_plain == is_plain
    assert not Word(parse_override(line), is_group=True).is_plain
