"""Choices of the user's own, by `--config-dir` and `hydra.searchpath`."""

import re
from pathlib import Path

import pytest

from ..conftest import Run
from .test_suggestions import pasted, problem


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


@pytest.mark.parametrize(
    ("group", "text", "expected"),
    [
        ("optimizer", "_target_: torch.optim.SGD", "add the line _partial_: true, since the param"),
        (
            "optimizer",
            "_target_: torch.optim.SGD\n_partial_: true\nlr: x",
            "optimizer.lr=x: must be",
        ),
        ("optimizer", "_partial_: true", "optimizer._target_: it cannot be left out"),
        (
            "scheduler",
            "interval: step\nscheduler: {_target_: torch.optim.lr_scheduler.StepLR}",
            "scheduler.scheduler._partial_: add the line _partial_: true, since the optimizer is",
        ),
        ("model", "_target_: multilayer.nn.MLP\n_partial_: true", "it must be left out"),
    ],
)
@pytest.mark.parametrize("is_swept", [False, True])
def test_what_a_choice_of_ones_own_lacks_is_said_with_its_file(
    multilayer: Run, own_choices: Path, group: str, text: str, expected: str, is_swept: bool
) -> None:
    """Before torch is imported, and in a sweep before any job trains."""
    file = own_choices / group / "wrong.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    other = {"optimizer": "sgd", "scheduler": "constant", "model": "mlp"}[group]
    words = ["-m", f"{group}={other},wrong"] if is_swept else [f"{group}=wrong"]
    outcome = multilayer("train", "--config-dir", "own conf", *words, "data=iris")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert expected in line
    assert line.endswith(f" (own conf/{group}/wrong.yaml)")
    assert not list(Path().glob("sweeps"))


def test_arguments_that_a_class_lacks_are_said_with_what_is_filled_in(
    multilayer: Run, own_choices: Path
) -> None:
    """As a network of torch's own takes its widths."""
    (own_choices / "model").mkdir()
    (own_choices / "model" / "linear.yaml").write_text("_target_: torch.nn.Linear\n")
    outcome = multilayer("train", "--config-dir", "own conf", "model=linear", "data=iris")
    assert outcome.code == 2
    assert "'in_features' and 'out_features'; give them below its _target_, where" in outcome.err
    assert '"@n_features", "@n_outputs"' in outcome.err


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
