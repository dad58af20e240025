"""Text is made safe to show in a terminal, and words of the command line to be pasted there."""

import re
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from multilayer.core.text import as_override, sanitize, sanitize_data

from ..conftest import Run

CODES = "\x1b[2J \x9b31m \u202e \x07 \x00 \u2028 \ud800"
SHOWN = r"\x1b[2J \x9b31m \u202e \x07 \x00 \u2028 \ud800"


def test_letters_that_act_are_shown_as_python_writes_them() -> None:
    """All others stay, of whatever script; so do lines, but in a name."""
    assert sanitize(CODES) == SHOWN
    assert sanitize("é 中文 🙂\n\tπ") == "é 中文 🙂\n\tπ"
    assert sanitize("a\nb", keep="") == r"a\nb"
    assert sanitize_data({CODES: [CODES, 1, None, True]}) == {SHOWN: [SHOWN, 1, None, True]}


def test_a_number_that_is_too_long_to_write_is_text() -> None:
    """Python refuses to write it in decimal, as a YAML file may hold it in hexadecimal."""
    assert sanitize_data([16**9000 - 1]) == ["0x" + "f" * 9000]


def pasted(words: list[str]) -> list[dict[str, object]]:
    """What an interactive shell, Hydra and OmegaConf make of words of the command line."""
    command = "set -o history -o histexpand\nprintf '%s\\0' " + " ".join(words)
    done = subprocess.run(["bash"], input=command, check=True, capture_output=True, text=True)
    parser = OverridesParser.create()
    overrides = [parser.parse_override(each) for each in done.stdout.split("\0")[:-1]]
    found = [{o.key_or_group.removeprefix("data."): o.value()} for o in overrides]
    return [OmegaConf.to_container(OmegaConf.create(each), resolve=True) for each in found]  # type: ignore[misc]


LETTERS = "a1 .,'\"!$`{}[]()=#%&*?~\\:;<>|@ßé-_+"
WORDS = ["true", "Null", "NaN", "1", "1e5", "${a}", "-", "#VALUE!"]
ODD = st.text(st.sampled_from(LETTERS), min_size=1, max_size=9) | st.sampled_from(WORDS)
ODD = ODD.filter(lambda name: not ("${" in name and "\\" in name))  # OmegaConf is not one-to-one


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(ODD, min_size=1, max_size=5))
def test_a_list_of_odd_names_is_the_same_when_it_is_pasted(columns: list[str]) -> None:
    """In a list, and each by itself."""
    words = [as_override("data.drop_columns", columns), as_override("data.target", columns[0])]
    assert pasted(words) == [{"drop_columns": columns}, {"target": columns[0]}]


def test_a_path_is_in_quotes_only_where_it_must_be() -> None:
    """A number, a blank or a sign that means something would be taken for something else."""
    paths = [
        "runs/2026-11-26/12-00-00",
        "../a/b+1.ckpt",
        "/a_b/c",
        "2026/1",
        "my run",
        "a=b",
        "~/é",
    ]
    words = [as_override("resume", path) for path in paths]
    assert [word.startswith('"') for word in words] == [False] * 3 + [True] * 4
    assert pasted(words) == [{"resume": path} for path in paths]


@pytest.mark.parametrize(
    ("word", "value"),
    [("drop_columns=[1]", ["1"]), ("group_column=true", "true"), ("target=1", "1")],
)
def test_a_name_that_hydra_takes_for_another_type_is_answered_with_a_hint(
    multilayer: Run, word: str, value: object
) -> None:
    """The hint is taken as it stands."""
    outcome = multilayer("train", "data=table", "data.path=t.csv", "data.target=y", f"data.{word}")
    assert outcome.code == 2
    (hint,) = re.findall(r'goes in quotes: (".*")', outcome.err)
    assert pasted([hint]) == [{word.partition("=")[0]: value}]
