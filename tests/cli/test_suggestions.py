"""What was meant by a wrong word is said as a word that can be pasted."""

import re
import subprocess
from pathlib import Path

import pytest

from multilayer.cli.check import check_command_line
from multilayer.cli.flags import CommandLine
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
    ("data=csv", "a file is data=table data.path=FILE data.target=COLUMN"),
    ("iris", "did you mean data=iris?"),
    ("optimizer.learning_rate=0.1", "did you mean optimizer.lr=0.1?"),
    ("model.layers=3", 'did you mean "model.d_hidden=[128,128,128]"?'),
    ("n_layers=2", 'did you mean "model.d_hidden=[128,128]"?'),
    ("optimizer.betas=[0.9]", "must have 2 values"),
    ("optimizer.betas=0.9", "must be a valid list"),
    ("help", "did you mean multilayer train --help?"),
    ("+debug=profile", "what is there already goes without the +, did you mean debug=profile?"),
    ("+experiment=pass_class", "did you mean experiment=pass_class?"),
    ("+optimizer.amsgrad=true", "did you mean optimizer.amsgrad=true?"),
    ("~callbacks.lerning_rate", "did you mean ~callbacks.learning_rate?"),
    ("hidden_size=64,128", 'did you mean "model.d_hidden=[64,128]"?'),
    ("n_jobs=2", "did you mean num_threads=2?"),
    ("no_refit=true", "did you mean refit=false?"),
    ("nesterov=true", "did you mean optimizer=sgd optimizer.nesterov=true?"),
    ("optimizer.foo=1", "choose from amsgrad, betas, eps, fused, lr, weight_decay"),
    ("~optimizer.nesterov", "optimizer.nesterov: not a key here; optimizer=sgd has it"),
    ("momentum=0.9", "not a key here; optimizer=rmsprop, optimizer=sgd have optimizer.momentum"),
    ("seed=0..3", 'all from 0 to 3 are a sweep: -m "seed=range(0,4)"'),
    ("seed=1,", "seed=1,: a sign too many, did you mean seed=1?"),
    ("model.d_hidden=(8,4)", 'a list has square brackets: "model.d_hidden=[8,4]"'),
    ("model.d_hidden=[8", "its brackets do not match"),
    ("optimizer.lr=0,01", "add -m; a decimal is optimizer.lr=0.01"),
    ("optimizer.lr=[1,0.1]", "several values are a sweep: -m optimizer.lr=1,0.1"),
    ("gpu=1", "did you mean trainer=gpu?"),
    ("optimizer.lr=logspace(1,2)", "optimizer.lr=logspace(1,2): Unknown function 'logspace'"),
    ("optimizer.lr={1", "optimizer.lr={1: not of the form key=value"),
    ("~model", "~model: a group cannot be left out"),
    ("seed={0..3}", 'did you mean -m "seed=range(0,4)"?'),
    ("optimizer.lr==0.1", "did you mean optimizer.lr=0.1?"),
    ("optimizer.lr:0.1", "did you mean optimizer.lr=0.1?"),
    ("optimizer/lr=0.1", "did you mean optimizer.lr=0.1?"),
    ("OPTIMIZER=adam", "did you mean optimizer=adam?"),
    ("random_state=1", "did you mean seed=1?"),
    ("callbacks.early_stopping=false", "nothing is callbacks.early_stopping=null"),
    ("callbacks.early_stopping.patience=none", "patience=none: must be a valid integer"),
    ("resume", "resume: not of the form key=value, did you mean resume=VALUE?"),
    ("trainer.accelerator=cuda:0", "did you mean trainer.accelerator=gpu?"),
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
    ("lr=0.1,0.2 epochs=5", "-m optimizer.lr=0.1,0.2 trainer.max_epochs=5"),
    ("epochs=5 lr=1 --cfg job", "--cfg job trainer.max_epochs=5 optimizer.lr=1"),
    ("epochs=5 --config-dir . lr=1", "--config-dir . trainer.max_epochs=5 optimizer.lr=1"),
    ("epochs=5 epochs=10", "trainer.max_epochs=10"),
    ("-m epochs=5 epochs=10,20", "-m trainer.max_epochs=10,20"),
    ("--lr 0.1 --lr 0.2 epochs=1", "optimizer.lr=0.2 trainer.max_epochs=1"),
    ("seed=1, 2", "-m seed=1,2"),
    ("lr=1 model.d_hidden=[8, 4]", "optimizer.lr=1 'model.d_hidden=[8,4]'"),
    ("-m hidden_size=64,128 lr=1", "-m 'model.d_hidden=[64],[128]' optimizer.lr=1"),
    ("-m optimizer=adm,sgdd", "-m optimizer=adam,sgd"),
    ("max_member=3", "-m hydra.launcher.max_members=3 hydra/launcher=lockstep"),
    ("data=table --data.path=a.csv target=y", "data=table data.path=a.csv data.target=y"),
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
    again = CommandLine("train", pasted(line))
    assert check_command_line("train", again.words, sweep=again.flags.multirun) is not None


def test_words_without_keys_are_named_by_what_they_are(multilayer: Run, tmp_path: Path) -> None:
    """A run, the table that is there, and the one that is to be written."""
    (tmp_path / "my.csv").write_text("x\n1\n")
    message = multilayer("predict", "r", "my.csv", "out.csv").err
    assert "the whole command: multilayer predict run=r input=my.csv output=out.csv\n" in message
    message = multilayer("evaluate", "runs/r", "my.csv").err
    assert "the whole command: multilayer evaluate run=runs/r data.path=my.csv\n" in message
    message = multilayer("train", "lr", "0.1", "iris").err
    assert "the whole command: multilayer train optimizer.lr=0.1 data=iris\n" in message
    assert "did you mean trainer.max_epochs=VALUE?" in multilayer("train", "epochs").err


def test_tables_are_taken_in_order_for_what_is_not_given(multilayer: Run, tmp_path: Path) -> None:
    """Whether they exist or not; what would be lost is said."""
    (tmp_path / "b.csv").write_text("x\n1\n")
    message = multilayer("predict", "run=r", "input=a.csv", "b.csv").err
    assert "did you mean output=b.csv? This file exists, and would be replaced.\n" in message
    assert "input=b.csv" not in message
    message = multilayer("predict", "run=r", "output=o.csv", "misspelt.csv").err
    assert "did you mean input=misspelt.csv?\n" in message
    for words in (["predict", "r", "-", "-"], ["predict", "input=-", "r", "output=-", "x=1"]):
        assert "run=r" in multilayer(*words).err
    both = ["predict", "run=r", "input=a.csv", "output=o.csv", "b.csv"]
    assert "b.csv: not of the form key=value, and input, output are" in multilayer(*both).err
    assert "did you mean resume=r/last.ckpt?\n" in multilayer("train", "r/last.ckpt").err
    again = multilayer("evaluate", "run=r", "data.path=a.csv", "b.csv").err
    assert "and data.path is given already\n" in again
    name = ["data=table", "data.path=b.csv", "data.target=sepal", "length"]
    assert "\"data.target='sepal length'\"" in multilayer("train", *name).err


def test_a_column_may_be_called_as_hints_call_what_is_to_be_filled_in(multilayer: Run) -> None:
    """`VALUE` is a name like any other where the user gives it."""
    words = ["data=table", "data.path=FILE", "data.target=VALUE"]
    config = check_command_line("train", words)
    assert config is not None
    assert config["data"]["target"] == "VALUE"
    message = multilayer("train", *words, "lr=1", "epochs=2").err
    assert "data.target=VALUE optimizer.lr=1 trainer.max_epochs=2\n" in message


def test_the_whole_command_is_said_only_if_nothing_is_missing(multilayer: Run) -> None:
    """Though each wrong word has an answer."""
    message = multilayer("train", "data=table", "--data.path=my.csv", "lr=1").err
    assert "data.target: missing" in message
    assert "the whole command" not in message


def test_what_nobody_can_guess_leaves_the_command_to_the_user(multilayer: Run) -> None:
    """And all is named still, once."""
    message = multilayer("train", "--epochs=5", "--nothing", "optimizer=adm", "seed=x").err
    assert "the whole command" not in message
    for part in ("trainer.max_epochs=5", "--nothing: no such flag", "mean adam?", "seed=x: must"):
        assert message.count(part) == 1
    assert "VALUE" not in multilayer("train", "--lr", "seed=x").err.partition("lr=VALUE")[2]


def test_a_sweep_that_is_written_in_a_way_of_hydras_own_is_left_to_the_user() -> None:
    """What is wrong in it is said all the same."""
    said = problem("optimizer=choice(adm,sgd)", "lr=1", sweep=True)
    assert "optimizer=adm: no such choice, did you mean adam?" in said
    assert "the whole command" not in said


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
        ("evaluate", "split=val", "did you mean split=validation?"),
        ("evaluate", "split=none", "split=none: must be 'train', 'validation' or 'test'"),
        ("evaluate", "device=cuda", "did you mean device=gpu?"),
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
        (["train", "--nothing"], "nothing: unknown key, choose from callbacks, "),
        (["train", "--seed", "x"], "seed=x: must be a valid integer"),
        (["train", "--no-refit"], "did you mean refit=false?"),
        (["train", "--no-scheduler"], "did you mean scheduler=constant?"),
        (["train", "--nesterov"], "did you mean optimizer=sgd optimizer.nesterov=true?"),
        (["train", "--experiment=overfit"], "did you mean experiment=overfit?"),
        (["train", "optimizer=sgd", "--optimizer.momentum=0.9"], "mean optimizer.momentum=0.9?"),
        (["train", "-m", "--seed", "0..3"], 'did you mean "seed=range(0,4)"?'),
        (["train", "--lr", "=", "0.1"], "did you mean optimizer.lr=0.1?"),
        (["train", "-m", "--seed", "0,", "1"], "did you mean seed=0,1?"),
        (["train", "-m", "--n-jobs", "2"], "hydra/launcher=lockstep hydra.launcher.workers=loc"),
        (["predict", "run=r", "input=a", "output=b", "--keep-input-columns"], "columns=true?"),
        (["train", "--cfg", "x"], "invalid choice: 'x'"),
        (["train", "-m", "seed=0,1", "--dry-run"], "did you mean sweep.dry_run=true?"),
        (["evaluate", "--run=r", "split=test"], "did you mean run=r?"),
        (["train", "--mulitrun", "seed=0,1"], "did you mean --multirun?"),
        (["train", "--config_dir=x"], "did you mean --config-dir?"),
        (["fit"], "unknown command 'fit': did you mean train?"),
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
