"""Arguments of Lightning's classes, which are checked without importing it."""

import re
import subprocess
import sys

import pytest

from multilayer.core.config_folder import conf_dir
from multilayer.training.arguments import (
    _RECORDED,
    _is_recorded,
    _parameters_of,
    argument_problems,
)
from multilayer.training.instantiate import resolve_target

from ..trained import config_of


@pytest.mark.parametrize("path", _RECORDED)
def test_recorded_arguments_are_those_of_the_real_ones(path: str) -> None:
    """By the signature of the class and those of its parents."""
    assert _parameters_of(resolve_target("key", path)) == _RECORDED[path]


def test_whatever_conf_names_is_found_without_lightning_or_is_recorded() -> None:
    """A new file of conf/ that names a class of Lightning's needs a record."""
    files = conf_dir().rglob("*.yaml")
    named = {path for file in files for path in re.findall(r"_target_: ([\w.]+)", file.read_text())}
    others = sorted(path for path in named - set(_RECORDED) if not path.startswith("hydra"))
    assert "multilayer.callbacks.EarlyStopping" in others
    program = f"""
import sys
from pkgutil import resolve_name
for path in {others}:
    resolve_name(path)
    assert "pytorch_lightning" not in sys.modules, path
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_an_argument_that_is_not_recorded_is_looked_up() -> None:
    """A later version may have it; the answer names the nearest that there is."""
    config = config_of()
    assert argument_problems(config) == []
    config["trainer"]["max_epoch"] = 3
    (problem,) = argument_problems(config)
    words = "trainer.max_epoch: pytorch_lightning.Trainer takes no argument max_epoch; did you mean"
    assert problem.startswith(words)
    assert "max_epochs" in problem


def test_any_name_is_accepted_where_the_class_passes_it_on() -> None:
    """As Lightning's logger for W&B does."""
    assert _is_recorded("pytorch_lightning.loggers.WandbLogger", {"anything"})
    assert not _is_recorded("multilayer.callbacks.TrainingProgress", {"anything"})
    assert _is_recorded("multilayer.callbacks.TrainingProgress", set())
