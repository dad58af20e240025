"""In a sweep over choices, a key of one of them applies to its jobs alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Run

QUICK = ["train", "-m", "data=iris", "trainer.max_epochs=1"]


def configs(sweep: Path) -> list[dict[str, Any]]:
    """The optimizer of each run, in the order of their numbers, as its overrides say."""
    folders = sorted(path.parent for path in sweep.glob("*/manifest.json"))
    return [json.loads((folder / "manifest.json").read_text()) for folder in folders]


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
@pytest.mark.parametrize("order", ["sgd,adam", "adam,sgd"])
def test_a_key_of_one_choice_is_left_out_of_the_jobs_of_the_other(
    multilayer: Run, tmp_path: Path, launcher: str, order: str
) -> None:
    """Which is said; jobs that are then the same are one."""
    words = [*QUICK, f"optimizer={order}", "optimizer.momentum=0.5,0.9", "hydra.sweep.dir=s"]
    outcome = multilayer(*words, f"hydra/launcher={launcher}")
    assert outcome.code == 0, outcome.err
    assert "optimizer.momentum is for optimizer=sgd; optimizer=adam: without it" in outcome.out
    assert "4 jobs are 3" in outcome.out
    own = [" ".join(each["overrides"][2:]) for each in configs(tmp_path / "s")]
    sgd = ["optimizer=sgd optimizer.momentum=0.5", "optimizer=sgd optimizer.momentum=0.9"]
    assert own == ([*sgd, "optimizer=adam"] if order == "sgd,adam" else ["optimizer=adam", *sgd])


def test_each_choice_may_have_a_key_that_the_other_lacks(multilayer: Run) -> None:
    """No job has both; of several groups the one is named that decides."""
    words = ["optimizer=sgd,adam", "optimizer.momentum=0.9", "optimizer.amsgrad=true"]
    outcome = multilayer(*QUICK, "model=mlp,perceptron", *words, "sweep.dry_run=true")
    assert outcome.code == 0, outcome.err
    assert "optimizer.momentum is for optimizer=sgd; optimizer=adam: without it" in outcome.out
    assert "optimizer.amsgrad is for optimizer=adam; optimizer=sgd: without it" in outcome.out
    assert outcome.out.count("to train") == 4


def test_a_key_that_no_choice_has_is_a_mistake(multilayer: Run) -> None:
    """As in a single run; and a single run has to have the key."""
    wrong = multilayer(*QUICK, "optimizer=sgd,adam", "optimizer.momentun=0.9")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean optimizer.momentum=0.9?" in wrong.err
    alone = multilayer(*QUICK, "optimizer=adam", "optimizer.momentum=0.9", "seed=0,1")
    assert alone.code == 2
    assert "optimizer=sgd have it" in alone.err
