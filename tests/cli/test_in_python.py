"""`multilayer.compose` and `multilayer.train`: the command line's own config and run, in Python."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from omegaconf import OmegaConf

import multilayer
from multilayer.core.errors import UserError

from ..conftest import Run, only_folder
from ..trained import same, weights_of

WORDS = ["data=iris", "trainer.max_epochs=2", "optimizer.lr=0.02", "seed=3"]


def test_the_run_is_that_of_the_command(multilayer: Run, tmp_path: Path) -> None:
    """The same config, the same weights to the last bit, the same metrics."""
    from multilayer import compose, train

    assert multilayer("train", *WORDS).code == 0
    ran = only_folder(tmp_path)
    config = compose("train", WORDS)
    before = deepcopy(config)
    result = train(config, tmp_path / "own", quiet=True)
    assert config == before
    assert same(weights_of(tmp_path / "own"), weights_of(ran))
    assert (tmp_path / "own" / "config.yaml").read_text() == (ran / "config.yaml").read_text()
    assert result.metrics == json.loads((ran / "metrics.json").read_text())
    assert result.manifest["status"] == "done"
    assert result.refit is None


def test_a_config_is_plain_data_that_may_be_changed(tmp_path: Path) -> None:
    """Also with what a notebook computes: numpy's numbers, paths and tuples."""
    config = multilayer.compose("train", WORDS)
    assert json.loads(json.dumps(config)) == config
    config["optimizer"]["lr"] = np.float64(0.05)
    config["trainer"]["max_epochs"] = np.int64(1)
    config["model"]["d_hidden"] = (8, np.int32(4))
    multilayer.train(config, tmp_path / "run", quiet=True)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["optimizer"]["lr"], written["model"]["d_hidden"]) == (0.05, [8, 4])
    weights = weights_of(tmp_path / "run").items()
    assert [len(each) for name, each in weights if name.endswith("linear.weight")] == [8, 4]


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_both_engines_train_in_a_running_event_loop(tmp_path: Path, engine: str) -> None:
    """As in a notebook; what is loaded there predicts."""

    async def cell() -> Any:
        config = multilayer.compose("train", [*WORDS, f"engine={engine}"])
        result = multilayer.train(config, tmp_path / "run", quiet=True)
        return result, multilayer.load(tmp_path / "run").metrics()

    result, metrics = asyncio.run(cell())
    assert metrics == pytest.approx(result.metrics["test"], rel=1e-5)


def test_runs_follow_one_another_from_several_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative to the working folder of each call; the threads stay as they were."""
    threads = torch.get_num_threads()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        rows = "".join(f"{row},{row % 2}\n" for row in range(60))
        Path("t.csv").write_text(f"x,{name}\n{rows}")
        words = ["data=table", "data.path=t.csv", f"data.target={name}", "trainer.max_epochs=1"]
        multilayer.train(multilayer.compose("train", words), "run", quiet=True)
        assert torch.get_num_threads() == threads
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        predictor = multilayer.load(f"{name}/run")
        assert predictor.columns.target == name
        assert predictor.metrics()["loss"] > 0  # from anywhere, as the path of its data is absolute


@pytest.fixture
def another_app(tmp_path: Path) -> Iterator[None]:
    """A Hydra app of someone's own, initialized in this process."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "config.yaml").write_text("own: 1\n")
    with initialize_config_dir(str(tmp_path / "app"), version_base="1.2"):
        yield
    GlobalHydra.instance().clear()


def test_another_hydra_app_is_left_as_it_was(another_app: None, tmp_path: Path) -> None:
    """Before and after, and with its config set, it composes its own config."""
    HydraConfig.instance().set_config(hydra_compose("config", return_hydra_config=True))
    before, version = HydraConfig.instance().cfg, VersionBase.instance().getbase()
    try:
        for wrong in (False, True):
            if wrong:
                with pytest.raises(UserError, match=r"optimizer\.lr=fast"):
                    multilayer.compose("train", ["optimizer.lr=fast"])
            else:
                multilayer.train(multilayer.compose("train", WORDS), tmp_path / "run", quiet=True)
            assert HydraConfig.instance().cfg is before
            assert VersionBase.instance().getbase() == version
            assert hydra_compose("config").own == 1
    finally:
        HydraConfig.instance().cfg = None


def test_a_run_in_another_folder_goes_on(tmp_path: Path) -> None:
    """`resume` as in the command."""
    multilayer.train(multilayer.compose("train", WORDS), tmp_path / "run", quiet=True)
    words = [f"resume={tmp_path / 'run'}", "trainer.max_epochs=4"]
    multilayer.train(multilayer.compose("train", words), tmp_path / "more", quiet=True)
    assert multilayer.load(tmp_path / "more").history["epoch"].to_list() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("train", ["optimizer.lr=fast", "seed=-1"], "optimizer.lr=fast: .*\n.*seed=-1"),
        ("train", ["dat=iris"], "dat: unknown key, did you mean data=iris"),
        ("train", ["data=irs"], "data=irs: no such choice, did you mean iris"),
        ("train", ["data=table"], "data.path: missing"),
        ("train", ["seed=0,1"], "several values are a sweep"),
        ("train", ["experiment=batch_sizes"], "are of a sweep; compose the config of each run"),
        ("train", ["-m"], "-m: not of the form key=value"),
        ("train", ["resume=no/such"], "no/such: no such folder"),
        ("train", "data=iris", r"overrides must be a list of words, as \['data=iris'\]"),
        ("trian", [], "unknown command 'trian': did you mean train"),
        ("evaluate", [], "run: missing"),
    ],
)
def test_a_wrong_command_line_is_one_error(command: str, words: Any, message: str) -> None:
    """With every problem; never an exit, nothing is printed."""
    with pytest.raises(UserError, match=f"(?s){message}"):
        multilayer.compose(command, words)


def test_choices_of_ones_own_are_found(tmp_path: Path) -> None:
    """In a folder such as `--config-dir` names; one that is not there is one error."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text(
        '_target_: multilayer.MLP\nn_features: "@n_features"\nn_outputs: "@n_outputs"\n'
        "d_hidden: [2]\n"
    )
    config = multilayer.compose("train", ["model=tiny"], config_dir=tmp_path)
    assert config["model"]["d_hidden"] == [2]
    with pytest.raises(UserError, match="no/such: no such folder"):
        multilayer.compose("train", ["model=tiny"], config_dir="no/such")


def change(*keys: str, to: Any) -> Callable[[dict[str, Any]], Any]:
    """A function that sets one value of a config."""

    def set_value(config: dict[str, Any]) -> Any:
        node = config
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = to
        return config

    return set_value


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (list, "config must be a dict, .* got list"),
        (OmegaConf.create, "config must be a dict, as multilayer.compose gives it, got DictConfig"),
        (lambda config: {}, "data: it cannot be left out"),
        (change("optimizer", "lr", to="fast"), "optimizer.lr=fast: must be a valid number"),
        (change("optimizer", "lr", to=torch.tensor(0.1)), "optimizer.lr: must be plain .* Tensor"),
        (change("optimiser", to={}), "optimiser: unknown key"),
        (change("model", "d_hidden", to=[-3]), "model.d_hidden.0=-3: must be greater"),
        (change("model", "depth", to=3), "depth"),
        (change("model", "_target_", to="multilayer.NoSuch"), "model._target_=multilayer.NoSuch"),
        (change("data", "name", to="roses"), "roses"),
        (change("engine", to="warp"), "engine=warp"),
    ],
)
def test_a_wrong_config_trains_nothing(
    tmp_path: Path, changed: Callable[[dict[str, Any]], Any], message: str
) -> None:
    """One error, and no folder."""
    config = changed(multilayer.compose("train", WORDS))
    with pytest.raises(UserError, match=message):
        multilayer.train(config, tmp_path / "run", quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_any_wrong_value_of_a_config_is_one_error_or_trains(tmp_path: Path) -> None:
    """Each of its values missing, of another type, huge or nested, one at a time."""
    whole = multilayer.compose("train", [*WORDS, "trainer.max_epochs=1", "callbacks=none"])
    keys = [(key,) for key in whole]
    keys += [(key, name) for key in whole if isinstance(whole[key], dict) for name in whole[key]]
    wrong: list[Any] = [None, "x", -1, [], {}, [[]], object(), float("nan"), {"_target_": "os.x"}]
    cases = random.Random(1).sample([(key, value) for key in keys for value in wrong], 60)
    n_refused = 0
    for number, (key, value) in enumerate(cases):
        config = change(*key, to=value)(deepcopy(whole))
        try:
            multilayer.train(config, tmp_path / str(number), quiet=True)
        except UserError:
            n_refused += 1
            assert not (tmp_path / str(number)).exists(), (key, value)
    assert n_refused > 40


def test_a_folder_that_holds_a_run_keeps_it(finished_run: Path, tmp_path: Path) -> None:
    """Nothing in it changes; a file in the way is one error too."""
    before = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    config = multilayer.compose("train", WORDS)
    with pytest.raises(UserError, match="holds a run already: choose another folder"):
        multilayer.train(config, finished_run, quiet=True)
    assert {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()} == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        multilayer.train(config, tmp_path / "file", quiet=True)


def test_composing_imports_no_torch() -> None:
    """And importing the package imports nothing at all of what is heavy."""
    program = """
import sys, multilayer
heavy = "torch numpy polars hydra pydantic pytorch_lightning".split()
print([name for name in heavy if name in sys.modules])
multilayer.compose("train", ["data=iris"])
print([name for name in ("torch", "pytorch_lightning", "matplotlib") if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.stdout == "[]\n[]\n", found.stderr
