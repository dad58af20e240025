"""Every file below conf/ is found, composed and built."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.cli.check import check_command_line
from multilayer.core.config_folder import conf_dir
from multilayer.core.config_problems import _EXTRAS
from multilayer.runs.folder import RunFolder
from multilayer.training.components import check_components, make_data
from multilayer.training.run import _make_trainer

COMMANDS = ("train", "evaluate", "predict", "report", "sweeps", "work")
# What a choice needs in addition to its name to be composed, or for the task that it is for.
NEEDS = {
    "data=table": ["data.path=my.csv", "data.target=y"],
    "data=idx": ["data.path=mnist"],
    "loss=binary_cross_entropy": ["data=breast_cancer"],
    "loss=mse": ["data=diabetes"],
    "loss=l1": ["data=diabetes"],
    "loss=huber": ["data=diabetes"],
    "loss=quantile": ["data=diabetes"],
}
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in conf_dir().glob("*/[!_]*.yaml")
    if path.parent.name != "hydra"
)


def compose(choice: str) -> dict[str, Any]:
    """The config with a choice, and what the choice needs."""
    config = check_command_line("train", [choice, *NEEDS.get(choice, [])])
    assert config is not None
    return config


def test_every_file_is_a_command_a_choice_or_shared() -> None:
    """None is left out of the tests below."""
    found = {path for path in conf_dir().rglob("*") if path.is_file()}
    known = {conf_dir() / f"{command}.yaml" for command in COMMANDS}
    known |= {conf_dir() / f"{choice.replace('=', '/')}.yaml" for choice in CHOICES}
    others = {"data/_base.yaml", "hydra/default.yaml", "hydra/launcher/lockstep.yaml"}
    others |= {"hydra/sweeper/grid.yaml", "hydra/sweeper/ledger.yaml"}
    assert found - known == {conf_dir() / name for name in others}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each component is instantiated, as far as this machine has what it needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("multilayer.core.config_problems.find_spec", lambda name: True)
    config = compose(choice)
    absent = choice in ("trainer=gpu", "trainer=mps") and not has_device(choice)
    if absent:
        config["trainer"]["accelerator"] = "cpu"
    check_components(config)
    make_data(config)
    run = RunFolder(tmp_path)
    missing = [extra for extra in _EXTRAS.values() if find_spec(extra) is None]
    config["logger"] = {k: node for k, node in config["logger"].items() if k not in missing}
    _make_trainer(config, run)
    if absent:
        pytest.skip(f"built without its device, which this machine lacks: {choice}")
    if choice.removeprefix("logger=") in missing:
        pytest.skip(f"composed, but not built: the extra is not installed: {choice}")


def has_device(choice: str) -> bool:
    """Whether the GPU that a trainer is for is there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    return cuda if choice == "trainer=gpu" else mps


def test_groups_that_hold_several_combine() -> None:
    """`callbacks=[a,b]` and `logger=[a,b]` hold both."""
    config = check_command_line(
        "train", ["callbacks=[default,learning_curves]", "logger=[tensorboard,csv]"]
    )
    assert config is not None
    assert {"early_stopping", "learning_curves"} <= set(config["callbacks"])
    assert set(config["logger"]) == {"tensorboard", "csv"}
