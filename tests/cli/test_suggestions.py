"""What was meant by a wrong word is said as a word that can be pasted."""

import re
import subprocess
from pathlib import Path

import pytest

from multilayer.cli.check import check_command_line
from multilayer.core.errors import UserError
from multilayer.core.text import quote_for_shell

from ..conftest import Run

TABLE = ["data=table", "data.path=t.csv"]


def problem(*words: str, command: str = "train", sweep: bool = False) -> str:
    """What is said of a command line."""
    with pytest.raises(UserError) as error:
        check_command_line(command, words, sweep=sweep)
    return str(error.value)


def pasted(word: str) -> list[str]:
    """What a shell makes of words."""
    shell = ["bash", "-c", f"printf '%s\\0' {word}"]
    return subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


ODD = [
    "größe",
    "y (kg)",
    "a=b",
    "~home",
    "a;b",
    "#1",
    "it's",
    'say "so"',
    "a`b",
    "x!",
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_hydra_cannot_read_is_quoted_for_the_user(name: str) -> None:
    """The word in the message is pasted into a shell, and is the name that was meant."""
    message = problem(*TABLE, f"data.target={name}")
    written = re.search("without quotes; write (.*)", message)
    assert written is not None, message
    config = check_command_line("train", [*TABLE, *pasted(written[1])])
    assert config is not None
    assert config["data"]["target"] == name


@pytest.mark.parametrize("name", ["1", "1e3", "7.50", "TRUE", "1_000"])
def test_a_name_that_hydra_takes_for_a_number_keeps_its_spelling(name: str) -> None:
    """`1e3` is no `1000.0`; in a list the other names stay, too."""
    message = problem(*TABLE, "data.target=y", f"data.drop_columns=['a,b',c,{name}]")
    (hint,) = re.findall(r"goes in quotes: (.*)", message)
    config = check_command_line("train", [*TABLE, "data.target=y", *pasted(hint)])
    assert config is not None
    assert config["data"]["drop_columns"] == ["a,b", "c", name]


def test_in_a_list_and_in_a_sweep_each_value_has_its_quotes() -> None:
    """A comma separates them."""
    message = problem(*TABLE, "data.target=y", "data.drop_columns=[größe,a]")
    assert message.endswith("write \"data.drop_columns=['größe','a']\"")
    swept = problem(*TABLE[:1], "data.target=y", "data.path=a=b.csv,c d.csv", sweep=True)
    assert swept.endswith("write \"data.path='a=b.csv','c d.csv'\"")


def test_a_home_folder_is_written_out() -> None:
    """No shell expands it within quotes."""
    message = problem("data=table", "data.target=y", "data.path=~/my.csv")
    assert message.endswith(f"write data.path={Path.home()}/my.csv")


@pytest.mark.parametrize("written", ["data.target=y1,y2", "data.target=[y1,y2]"])
def test_several_targets_are_several_runs(written: str) -> None:
    """Neither form sends the user to the other one."""
    message = problem(*TABLE, written)
    assert 'train one for each, as data.target=y1 "data.drop_columns=[y2]"' in message
    assert "a list is" not in message
    assert quote_for_shell(f"data.target='{written.partition('=')[2]}'") in message
    assert problem(*TABLE, "data.target=[]").startswith("data.target=[]: a network has one target;")


MEANT = [
    ("epochs=5", "did you mean trainer.max_epochs=5?"),
    ("learning_rate=0.1", "did you mean optimizer.lr=0.1?"),
    ("hidden_size=64", 'did you mean "model.d_hidden=[64]"?'),
    ("droput=0.1", "did you mean model.dropout=0.1?"),
    ("max_member=3", "did you mean hydra.launcher.max_members=3?"),
    ("data=csv", "a file is data=table data.path=FILE data.target=COLUMN"),
    ("iris", "did you mean data=iris?"),
    ("optimizer.learning_rate=0.1", "did you mean optimizer.lr=0.1?"),
    ("model.layers=3", 'did you mean "model.d_hidden=[128,128,128]"?'),
    ("n_layers=2", 'did you mean "model.d_hidden=[128,128]"?'),
    ("optimizer.betas=[0.9]", "must have 2 values"),
    ("optimizer.betas=0.9", "must be a valid list"),
    ("help", "did you mean multilayer train --help?"),
    ("+debug=profile", "+debug: it has a choice already; leave out the +"),
    ("~trainer.max_epoch", "did you mean ~trainer.max_epochs?"),
    ("größe=1", "größe: unknown key; only values may have such letters"),
    ("path=x.csv", "did you mean data=table data.path=x.csv data.target=COLUMN?"),
    ("x.csv", "a file is data=table data.path=x.csv data.target=COLUMN"),
    ("data=x.csv", "a file is data=table data.path=x.csv data.target=COLUMN"),
    ("data=mnist", "data=idx data.path=FOLDER"),
    ("data.batch_size=all", "must be 'full', 'auto' or a whole number"),
    ("num_threads=x", "must be 'auto' or a whole number"),
    ("trainer.devices=x", "must be 'auto' or a whole number"),
    ("data.folds=none", "nothing is data.folds=null"),
    ("~logger", "did you mean logger=none?"),
    ("~scheduler", "did you mean scheduler=constant?"),
    ("scheduler=none", "did you mean constant?"),
    ("device=cuda", "did you mean trainer=gpu?"),
    ("trainer=cuda", "did you mean gpu?"),
    ("model.d_hidden=128", 'a list is "model.d_hidden=[128]"'),
    ("refit=yes", "must be true or false"),
]


@pytest.mark.parametrize(
    ("command", "key"),
    [("train", "resume"), ("evaluate", "run"), ("predict", "run"), ("report", "sweep")],
)
def test_a_folder_goes_with_its_key(
    command: str, key: str, multilayer: Run, tmp_path: Path
) -> None:
    """As most programs take it without."""
    (tmp_path / "my run").mkdir()
    outcome = multilayer(command, "my run")
    assert outcome.code == 2
    assert f"did you mean \"{key}='my run'\"?" in outcome.err


def test_a_single_value_of_a_list_is_shown_as_one() -> None:
    message = problem(*TABLE, "data.target=y", "data.missing=?")
    assert message.endswith("must be a valid list; a list is \"data.missing=['?']\"")


@pytest.mark.parametrize(("word", "meant"), MEANT)
def test_what_was_meant_is_named(word: str, meant: str) -> None:
    """As other programs call it, or as it is nearly called."""
    assert problem(word).endswith(meant)


WHOLE = [
    ("epochs=5 lr=0.1", "trainer.max_epochs=5 optimizer.lr=0.1"),
    ("--epochs=5 --lr 0.1", "trainer.max_epochs=5 optimizer.lr=0.1"),
    ("--refit --hidden 64,32 seed=1", "refit=true 'model.d_hidden=[64,32]' seed=1"),
    ("-m --lr 0.1,0.2 optimizer=adm", "-m optimizer.lr=0.1,0.2 optimizer=adam"),
    ("-m lr=0.1,0.2 epochs=5", "-m optimizer.lr=0.1,0.2 trainer.max_epochs=5"),
    ("--seed 3 --data irs", "seed=3 data=iris"),
    ("--iris --gpu", "data=iris trainer=gpu"),
    ("iris epochs=3", "data=iris trainer.max_epochs=3"),
    ("optimizer.lr = 0.1 epochs= 5", "optimizer.lr=0.1 trainer.max_epochs=5"),
    ("path=my.csv target=y", "data=table data.path=my.csv data.target=y"),
    ("data=my.csv data.target=y lr=1", "data=table data.path=my.csv data.target=y optimizer.lr=1"),
    (
        "--path my.csv --target 'y (kg)'",
        "data=table data.path=my.csv \"data.target='y (kg)'\"",
    ),
    (
        "data=table data.path=my.csv 'data.target=größe' lr=1",
        "data=table data.path=my.csv \"data.target='größe'\" optimizer.lr=1",
    ),
]


@pytest.mark.parametrize(("given", "meant"), WHOLE)
def test_of_several_wrong_words_the_whole_command_is_said(
    multilayer: Run, given: str, meant: str
) -> None:
    """All are named, each with its value, and what is to be pasted is a command without any."""
    outcome = multilayer("train", *pasted(given))
    assert outcome.code == 2
    (line,) = re.findall("the whole command: multilayer train (.*)", outcome.err)
    assert pasted(line) == pasted(meant)
    words = [word for word in pasted(line) if word != "-m"]
    assert check_command_line("train", words, sweep="-m" in pasted(line)) is not None


def test_words_without_keys_are_named_by_what_they_are(multilayer: Run, tmp_path: Path) -> None:
    """A run, the table that is there, and the one that is to be written."""
    (tmp_path / "my.csv").write_text("x\n1\n")
    message = multilayer("predict", "r", "my.csv", "out.csv").err
    assert "the whole command: multilayer predict run=r input=my.csv output=out.csv\n" in message
    message = multilayer("evaluate", "runs/r", "my.csv").err
    assert "the whole command: multilayer evaluate run=runs/r data.path=my.csv\n" in message
    assert "lr: not of the form key=value" in multilayer("train", "lr", "0.1").err
    assert "did you mean trainer.max_epochs=VALUE?" in multilayer("train", "epochs", "5").err


def test_what_nobody_can_guess_leaves_the_command_to_the_user(multilayer: Run) -> None:
    """And all is named still, once."""
    message = multilayer("train", "--epochs=5", "--nothing", "optimizer=adm", "seed=x").err
    assert "the whole command" not in message
    for part in ("trainer.max_epochs=5", "--nothing: no such flag", "mean adam?", "seed=x: must"):
        assert message.count(part) == 1
    assert "VALUE" not in multilayer("train", "--lr", "seed=x").err.partition("lr=VALUE")[2]


@pytest.mark.parametrize("word", ["seed=range(3)", "seed=0,1", "optimizer=adam,sgd"])
def test_several_values_are_a_list_only_where_there_may_be_one(word: str) -> None:
    """A seed is none, nor is an optimizer."""
    assert problem(word) == f"{word}: several values are a sweep, add -m"


@pytest.mark.parametrize(
    ("command", "word", "meant"),
    [
        ("evaluate", "input=x.csv", "data.path=x.csv? It is multilayer predict that has input."),
        ("evaluate", "data=x.csv", "no choice of evaluate, did you mean data.path=x.csv?"),
        ("predict", "data.path=x.csv", "did you mean input=x.csv?"),
    ],
)
def test_the_key_of_another_command_is_known(command: str, word: str, meant: str) -> None:
    """A file of rows has another name in each."""
    assert meant in problem("run=r", word, command=command)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["train", "--epochs", "5"], "--epochs: no such flag"),
        (["train", "--epochs=5", "seed=1"], "did you mean trainer.max_epochs=5?"),
        (["train", "--batch-size", "5"], "did you mean data.batch_size=5?"),
        (["train", "--nothing"], "multilayer train --help lists them"),
        (["train", "--cfg", "x"], "invalid choice: 'x'"),
        (["seed=1", "optimizer=sgd"], "did you mean multilayer train seed=1 optimizer=sgd?"),
    ],
)
def test_a_flag_of_other_programs_is_one_message(
    multilayer: Run, words: list[str], meant: str
) -> None:
    """And not the usage of Hydra's parser."""
    outcome = multilayer(*words)
    assert outcome.code == 2
    assert outcome.err.count("multilayer: error:") == len(outcome.err.splitlines()) == 1
    assert meant in outcome.err


@pytest.fixture
def own_choices(tmp_path: Path) -> Path:
    """A folder with an optimizer and a group of the user's own."""
    folder = tmp_path / "own conf"
    for group in ("optimizer", "mine"):
        (folder / group).mkdir(parents=True)
    text = "_target_: torch.optim.SGD\n_partial_: true\nlr: 0.05\nmomentum: 0.5\n"
    (folder / "optimizer" / "own.yaml").write_text(text)
    (folder / "mine" / "slow.yaml").write_text("# @package _global_\noptimizer:\n  lr: 0.001\n")
    return folder


@pytest.mark.parametrize("how", ["path", "url", "environment", "flag"])
def test_own_choices_are_choices_however_their_folder_is_named(
    multilayer: Run, own_choices: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Groups of the user's own, too, and `glob`; the command composes what the check has."""
    monkeypatch.setenv("OWN", str(own_choices))
    words = {
        "path": ["hydra.searchpath=['own conf']"],
        "url": [f"hydra.searchpath=['file://{own_choices}']"],
        "environment": ["hydra.searchpath=['file://${oc.env:OWN}']"],
        "flag": ["--config-dir", "own conf"],
    }[how]
    outcome = multilayer("train", *words, "+mine=slow", "optimizer=own", "--cfg", "job")
    assert outcome.code == 0, outcome.err
    assert "lr: 0.001" in outcome.out
    assert "momentum: 0.5" in outcome.out
    words += ["-m", "data=iris", "optimizer=glob(ow*)", "+mine=slow", "sweep.dry_run=true"]
    planned = multilayer("train", *words)
    assert planned.code == 0, planned.err
    assert "optimizer=own" in planned.out
    assert "own " in multilayer("train", *words[:2], "--help").out.replace(",", " ")
    message = multilayer("train", *words[:-5], "optimizer=adam", "optimizer.momentum=1").err
    assert "optimizer=own have it" in message


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("hydra.searchpath=own", 'it is a list: "hydra.searchpath=[own]"'),
        ("+hydra.searchpath=[own]", "leave out the +"),
        ("hydra.searchpath=[nowhere]", "nowhere: no such folder"),
        ("hydra.searchpath=['${oc.env:NOT_SET_AT_ALL}']", "NOT_SET_AT_ALL"),
    ],
)
def test_a_search_path_that_leads_nowhere_is_said(word: str, expected: str) -> None:
    """Hydra would go on without it."""
    assert expected in problem(word)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"lr: [1\n", "own.yaml, line 2, column 1: not YAML"),
        (b"lr: 1\nlr: 2\n", "own.yaml, line 2, column 1: not YAML: found duplicate key lr"),
        (b"lr: \xff\n", "own.yaml: not text in UTF-8"),
        (b"lr: ${foo\n", "'${foo'"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_named(
    multilayer: Run, own_choices: Path, content: bytes, expected: str
) -> None:
    """By its file and line; and those that are not chosen are in nobody's way."""
    (own_choices / "optimizer" / "own.yaml").write_bytes(content)
    outcome = multilayer("train", "--config-dir", str(own_choices), "optimizer=own")
    assert outcome.code == 2
    assert expected in outcome.err
    assert "Traceback" not in outcome.err
    words = ["optimizer=adam", "optimizer.momentum=1"]
    assert "have it" in multilayer("train", "--config-dir", str(own_choices), *words).err


@pytest.mark.parametrize("how", ["searchpath", "flag"])
def test_the_reports_command_for_the_best_names_the_folder_of_own_choices(
    multilayer: Run, own_choices: Path, how: str
) -> None:
    """It works as it stands."""
    words = ["--config-dir", "own conf"]
    if how == "searchpath":
        words = [f"hydra.searchpath=['file://{own_choices}']"]
    quick = ["data=iris", "trainer.max_epochs=1", "logger=none", "callbacks=none"]
    trained = multilayer(
        "train", "-m", *words, *quick, "optimizer=own", "seed=0,1", "hydra.sweep.dir=s"
    )
    assert trained.code == 0, trained.err
    report = multilayer("report", "sweep=s").out
    (line,) = re.findall("^best +multilayer (.*)$", report, re.MULTILINE)
    again = multilayer(*pasted(line), "--cfg", "job")
    assert again.code == 0, again.err
    assert "momentum: 0.5" in again.out
