"""What a message advises is pasted as it stands, and mends tables with odd column names, too."""

import csv
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from multilayer.cli.check import check_command_line
from multilayer.core.errors import UserError
from multilayer.core.text import as_override
from multilayer.training.components import make_data

NAMES = ["", "c,d", "a=b", " y", "größe (cm)", "it's", "1e3", "null", "[x]"]
HINT = r'(?:"data\.[^"]*"|data\.\w+=[\w./-]+)'


def pasted(words: str) -> list[str]:
    """What a shell makes of words; no other program has to."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {words}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == shlex.split(words)
    return done.stdout.splitlines()


def set_up(words: list[str]) -> str | None:
    """The message of a table that cannot be used; None if it can."""
    try:
        config = check_command_line("train", ["data=table", *words])
        assert config is not None
        make_data(config).setup()
    except UserError as error:
        return str(error)
    return None


def write_table(path: Path, columns: dict[str, list[object]]) -> None:
    """A CSV file in which all is quoted that may have to be."""
    lines = [columns, *zip(*columns.values(), strict=True)]
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_NONNUMERIC).writerows(lines)


@pytest.mark.parametrize("name", NAMES)
def test_hints_about_odd_columns_are_followed_until_the_table_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each adds to what the one before has said: the values of its list stay."""
    monkeypatch.chdir(tmp_path)
    numbers: list[object] = [value / 7 for value in range(60)]
    first = [*numbers[:7], "oops", *numbers[8:]]
    second = [*numbers[:9], "hm", *numbers[10:]]
    target: list[object] = [row % 2 for row in range(60)]
    write_table(Path("t.csv"), {name: first, f"{name}2": second, "target": target})
    words, n_hints = ["data.path=t.csv", "data.target=target"], 0
    while message := set_up(words):
        (hint, *_) = re.findall(HINT, message) or pytest.fail(message)
        words = [*words, *pasted(hint)]
        n_hints += 1
        assert n_hints <= 2, message
    assert n_hints == 2
    assert "oops" in words[-1]


@pytest.mark.parametrize("key", ["drop_columns", "categorical_columns"])
@pytest.mark.parametrize(
    ("columns", "given", "meant"),
    [
        (["id", "c,d"], "[id,c,d]", ["id", "c,d"]),
        (["id", "c, d", "c"], "[c,d,id]", ["c, d", "id"]),
        (["a", "b,c", "c,d,e"], "[a,c,d,e,b,c]", ["a", "c,d,e", "b,c"]),
        (["colour", "height"], "[colur,heigt]", ["colour", "height"]),
    ],
)
def test_names_with_commas_in_a_list_are_joined_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    columns: list[str],
    given: str,
    meant: list[str],
) -> None:
    """The shell takes quotes away that Hydra needs; one hint mends all names of the list."""
    monkeypatch.chdir(tmp_path)
    numbers = {name: [row % (n + 3) / 7 for row in range(60)] for n, name in enumerate(columns)}
    write_table(Path("t.csv"), {**numbers, "z": [*range(60)], "y": [row % 2 for row in range(60)]})
    words = ["data.path=t.csv", "data.target=y"]
    message = set_up([*words, f"data.{key}={given}"])
    assert message is not None
    (hint,) = re.findall(rf"did you mean ({HINT})\?", message)
    config = check_command_line("train", ["data=table", *words, *pasted(hint)])
    assert config is not None
    assert config["data"][key] == meant
    assert set_up([*words, *pasted(hint)]) is None


def test_names_that_could_be_two_are_in_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys with a wrong name are in one message; where none is near, all columns are."""
    monkeypatch.chdir(tmp_path)
    rows = [row % 2 for row in range(60)]
    write_table(Path("t.csv"), {"c,d": [*range(60)], "": [*range(60)], "y": [*rows]})
    names = ["data.group_column=nix", "data.drop_columns=[who,knows]"]
    message = set_up(["data.path=t.csv", "data.target=y", *names])
    assert message is not None
    of_list, of_group = message.splitlines()
    assert of_list.startswith("t.csv has no columns 'who', 'knows' for data.drop_columns: ")
    assert of_group.startswith("t.csv has no column 'nix' for data.group_column: ")
    assert of_group.endswith("choose from '', 'c,d', 'y'")


def test_a_name_in_another_case_is_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short it is."""
    monkeypatch.chdir(tmp_path)
    write_table(Path("t.csv"), {"x": [*range(60)], "y": [row % 2 for row in range(60)]})
    message = set_up(["data.path=t.csv", "data.target=Y"])
    assert message is not None
    assert message.endswith("did you mean data.target=y?")


@pytest.mark.parametrize("name", NAMES)
def test_a_target_that_is_misspelt_is_named_by_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The nearest column, as the command line takes it."""
    monkeypatch.chdir(tmp_path)
    own = f"{name.strip()} of all"
    write_table(Path("t.csv"), {"number": [*range(60)], own: [row % 2 for row in range(60)]})
    wrong = pasted(as_override("data.target", own[:-1]))
    message = set_up(["data.path=t.csv", *wrong])
    assert message is not None
    (hint,) = re.findall(rf"did you mean ({HINT})\?", message)
    assert set_up(["data.path=t.csv", *pasted(hint)]) is None


@pytest.mark.parametrize("name", ["people", "two words", "c,d", "a=b", "größe (cm)", "it's"])
@pytest.mark.parametrize("key", ["data.path", "data.test_path"])
def test_a_file_that_is_misspelt_is_named_by_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    """From where the command runs, however its name or its folder's is written."""
    monkeypatch.chdir(tmp_path)
    Path("my tables").mkdir()
    columns: dict[str, list[object]] = {"x": [*range(60)], "y": [row % 2 for row in range(60)]}
    write_table(Path("t.csv"), columns)
    write_table(Path("my tables") / f"{name}.csv", columns)
    words = ["data.path=t.csv", "data.target=y"]
    message = set_up([*words, *pasted(as_override(key, f"my tables/{name}s.csv"))])
    assert message is not None
    (hint,) = re.findall(rf"no such file, did you mean ({HINT})\?", message)
    assert set_up([*words, *pasted(hint)]) is None


@pytest.mark.parametrize(
    ("there", "near"),
    [
        (["out.csv", "log.csv"], None),  # endings are alike everywhere
        (["out.csv", "data.parquet"], "data.parquet"),
        (["dta.csv", "data.tsv", "data.csv.gz"], "data.csv.gz"),
        (["datas.csv", "data.txt"], "datas.csv"),
    ],
)
def test_the_nearest_file_is_near_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], near: str | None
) -> None:
    """It is a table; its ending counts where several are called the same."""
    monkeypatch.chdir(tmp_path)
    for name in there:
        Path(name).touch()
    message = set_up(["data.path=data.csv", "data.target=y"])
    assert message is not None
    expected = "no such file" + (f", did you mean data.path={near}?" if near else "")
    assert message.endswith(expected)
