"""What names in files of others do to the terminal: nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from multilayer.core.errors import UserError, print_failure
from multilayer.runs.console import console

from ..conftest import Run
from .test_text import CODES, SHOWN


def test_the_console_prints_them_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Also in the cells of a table."""
    table = Table(CODES)
    table.add_row(f"cell {CODES}")
    console().print(table)
    console().print(f"line {CODES}")
    out = capsys.readouterr().out
    assert r"cell \x1b[2J" in out
    assert r"line \x1b[2J \x9b31m \u202e" in out
    assert all(each.isprintable() or each == "\n" for each in out)


def test_errors_print_them_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The message, and the traceback of what nobody expected."""
    print_failure(UserError(CODES))
    print_failure(RuntimeError(CODES))
    err = capsys.readouterr().err
    assert err.count(SHOWN) == 2
    assert all(each.isprintable() or each == "\n" for each in err)


def test_a_column_and_a_file_of_a_stranger_print_nothing_that_acts(
    multilayer: Run, iris_csv: Path, tmp_path: Path
) -> None:
    """In a training's log, in an error, and in the table of `evaluate`."""
    name = "\x1b]0;mine\x07.csv"
    lines = iris_csv.read_text().splitlines()
    header = lines[0].replace("sepal length (cm)", "\x1b[31mred")
    text = "\n".join([f"{header},\x1b[32mconstant", *(f"{line},1" for line in lines[1:])])
    (tmp_path / name).write_text(text)
    words = ["data=table", "data.path=mine/*.csv", "data.target=species", "trainer.max_epochs=1"]
    (tmp_path / "mine").mkdir()
    (tmp_path / name).rename(tmp_path / "mine" / name)
    trained = multilayer("train", *words, "hydra.run.dir=run")
    assert trained.code == 0, trained.err
    (tmp_path / "mine" / name).rename(tmp_path / "\x1b[33m.csv")
    evaluated = multilayer("evaluate", "run=run", "data.path='\x1b[33m.csv'")
    refused = multilayer("train", *words, "data.target=x")
    printed = "".join(each.out + each.err for each in (trained, evaluated, refused))
    assert evaluated.code == 0, evaluated.err
    assert refused.code == 2
    assert not {each for each in printed if not (each.isprintable() or each in "\n\t")}


def test_the_log_of_a_command_is_harmless(tmp_path: Path) -> None:
    """As it is configured for all commands."""
    program = (
        "import logging, logging.config, yaml, sys, pathlib\n"
        "from hydra import compose, initialize_config_dir\n"
        "from multilayer.core.config_folder import conf_dir\n"
        "for name in ('train', 'evaluate', 'predict', 'report'):\n"
        "    with initialize_config_dir(str(conf_dir()), version_base='1.3'):\n"
        "        config = compose(name, return_hydra_config=True)\n"
        "    from omegaconf import OmegaConf\n"
        "    words = OmegaConf.to_container(config.hydra.job_logging, resolve=True)\n"
        "    logging.config.dictConfig(words)\n"
        "    logging.getLogger('multilayer.x').warning(chr(27) + name)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        f"\\x1b{name}" for name in ("train", "evaluate", "predict", "report")
    ]
