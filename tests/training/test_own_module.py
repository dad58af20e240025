"""A module of a user's own from the config: mixup, as docs/guides/extending.md has it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from multilayer import load

from ..conftest import Run
from ..guide_files import files_of_extending

TRAIN = ["train", "--config-dir", "mine", "module=mixup", "data=iris", "trainer.max_epochs=4"]

SHIFTED = """
from multilayer import RegressionModule

class Shifted(RegressionModule):
    def predictions(self, output, /):
        return super().predictions(output) + 1000
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> Iterator[None]:
    """Those of the guide, and other modules."""
    with files_of_extending(["my_package/mixup.py", "mine/module/mixup.yaml"], tmp_path):
        (tmp_path / "my_package" / "shifted.py").write_text(SHIFTED)
        (tmp_path / "mine/module/relu.yaml").write_text("_target_: torch.nn.ReLU")
        (tmp_path / "mine/module/shifted.yaml").write_text("_target_: my_package.shifted.Shifted")
        yield


def test_the_guides_module_trains(multilayer: Run) -> None:
    """By its own step: the losses are others than those of the task's module, of the same seed."""
    for name, words in {"own": TRAIN, "plain": [TRAIN[0], *TRAIN[4:]]}.items():
        done = multilayer(*words, f"hydra.run.dir={name}")
        assert done.code == 0, done.err
    own, plain = (pl.read_csv(f"{name}/history.csv") for name in ("own", "plain"))
    assert own.columns == plain.columns
    assert not set(own["train/loss"]) & set(plain["train/loss"])
    assert own["train/loss"][-1] < own["train/loss"][0]


def test_evaluation_and_prediction_are_the_modules(multilayer: Run) -> None:
    """If its package is trusted: they give what was recorded at the training's end."""
    words = ["--config-dir", "mine", "module=shifted", "data=diabetes", "trainer.max_epochs=2"]
    assert multilayer("train", *words, "hydra.run.dir=r").code == 0
    recorded = json.loads(Path("r/metrics.json").read_text())["test"]
    assert recorded["mae"] > 500
    done = multilayer("evaluate", "run=r")
    assert done.code == 2
    assert "trusted_packages=[my_package.shifted]" in done.err
    done = multilayer("evaluate", "run=r", "trusted_packages=[my_package]")
    assert done.code == 0, done.err
    assert f"{recorded['mae']:.6g}" in done.out
    header = ",".join(["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"])
    Path("rows.csv").write_text(f"{header}\n{','.join(['0'] * 10)}\n")
    trusted = ["input=rows.csv", "output=out.csv", "trusted_packages=[my_package]"]
    assert multilayer("predict", "run=r", *trusted).code == 0
    assert pl.read_csv("out.csv")["prediction"][0] > 900
    predictor = load("r", trusted_packages=["my_package"])
    assert type(predictor.module).__name__ == "Shifted"
    assert predictor.module.network is predictor.network
    assert predictor.predict(np.zeros((1, 10)))[0] > 900


def test_in_a_sweep_it_trains_alone(multilayer: Run) -> None:
    """The plan says why."""
    done = multilayer(TRAIN[0], "-m", *TRAIN[1:], "hydra/launcher=lockstep", "seed=0,1")
    assert done.code == 0, done.err
    said = "jobs 0 to 1 alone: module my_package.mixup.Mixup may train in its own way"
    assert said in done.out + done.err


def test_a_run_with_it_goes_on(multilayer: Run) -> None:
    """With the module that it began with."""
    assert multilayer(*TRAIN, "hydra.run.dir=r").code == 0
    more = ["trainer.max_epochs=6", "hydra.run.dir=on"]
    done = multilayer("train", "--config-dir", "mine", "resume=r", *more)
    assert done.code == 2
    assert "trusted_packages" in done.err
    done = multilayer("train", "resume=r", *more, "trusted_packages=[my_package]")
    assert done.code == 0, done.err
    assert pl.read_csv("on/history.csv").height == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["module.alhpa=1"], "module.alhpa: unknown key, did you mean module.alpha=1?"),
        (["data=diabetes"], "it is for the task multiclass, and the data's is regression"),
        (["module=relu"], "module._target_=torch.nn.ReLU: it must be a subclass of Supervised"),
        (["module=mixpu"], "module=mixpu: no such choice, did you mean mixup?"),
    ],
)
def test_what_is_wrong_is_one_message(words: list[str], message: str, multilayer: Run) -> None:
    """And nothing is written."""
    done = multilayer(*TRAIN, *words)
    assert done.code == 2
    assert message in done.err


def test_without_the_folder_there_is_no_such_choice(multilayer: Run) -> None:
    """It is said where choices of one's own are."""
    done = multilayer("train", "module=mixup")
    assert done.code == 2
    assert done.err.strip() == (
        "multilayer: error: module=mixup: no such choice; those of your own are in "
        "--config-dir FOLDER, in module/"
    )
