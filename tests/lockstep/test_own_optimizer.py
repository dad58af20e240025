"""An optimizer of a user's own in a stack: Lion, as docs/guides/extending.md has it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from multilayer import stacked_form_of
from multilayer.runs.checkpoint import read_checkpoint

from ..conftest import Run
from ..guide_files import files_of_extending
from .test_equivalence import check_same

SWEPT = ["optimizer.lr=1e-3,3e-4", "optimizer.weight_decay=0.1,0", "+optimizer.betas=[0.5,0.9]"]
TRAIN = ["data=iris", "optimizer=lion", "trainer.max_epochs=4", "trainer.precision=64-true"]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path) -> Iterator[list[str]]:
    """The words by which a command takes the files of the guide, which are written here."""
    with files_of_extending(["my_package/lion.py", "mine/optimizer/lion.yaml"], tmp_path):
        yield ["--config-dir", "mine"]


def test_each_is_the_job_trained_alone(mine: list[str], multilayer: Run, tmp_path: Path) -> None:
    """Metrics and checkpoints, of members with other rates, decay and seeds."""
    for launcher in ("basic", "lockstep"):
        folder = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}"]
        done = multilayer("train", "-m", *mine, *TRAIN, *SWEPT, "seed=0,1", *folder)
        assert done.code == 0, done.err
    assert "lockstep: 1 stack of 8 runs" in done.out + done.err
    for number in range(8):
        basic, stacked = (tmp_path / name / str(number) for name in ("basic", "lockstep"))
        found = [json.loads((each / "metrics.json").read_text()) for each in (basic, stacked)]
        for split, metrics in found[0].items():
            assert found[1][split] == pytest.approx(metrics, rel=1e-9, abs=1e-9)
        ours, theirs = (
            read_checkpoint(each / "checkpoints" / "last.ckpt") for each in (stacked, basic)
        )
        check_same(ours["optimizer_states"], theirs["optimizer_states"], "optimizer_states")


def test_a_trainer_goes_on_from_a_stacks_checkpoint(mine: list[str], multilayer: Run) -> None:
    """With the momentum of before: as from that of the run trained alone."""
    stack = ["hydra/launcher=lockstep", "hydra.sweep.dir=sweep", "seed=0,1"]
    assert multilayer("train", "-m", *mine, *TRAIN, *stack).code == 0
    assert multilayer("train", *mine, *TRAIN, "hydra.run.dir=alone").code == 0
    found = []
    for start in ("sweep/0", "alone"):
        words = [f"resume={start}", f"hydra.run.dir=on/{start}", "trusted_packages=[my_package]"]
        done = multilayer("train", *mine, *words, "trainer.max_epochs=8")
        assert done.code == 0, done.err
        found.append(json.loads(Path("on", start, "metrics.json").read_text())["train"])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_without_its_stacked_form_jobs_train_alone(mine: list[str], multilayer: Run) -> None:
    """As before; the plan says so."""
    module = Path("my_package/lion.py")
    module.write_text(module.read_text().replace("@stacked_form_of(Lion)\n", ""))
    stack = ["hydra/launcher=lockstep", "seed=0,1", "trainer.max_epochs=1"]
    done = multilayer("train", "-m", *mine, *TRAIN, *stack)
    assert done.code == 0
    assert "optimizer my_package.lion.Lion has no stacked form" in done.out + done.err


def test_only_an_optimizer_has_a_stacked_form() -> None:
    """What was given in its place is named."""
    with pytest.raises(TypeError, match=r"takes the class of an optimizer, got .*Linear"):
        stacked_form_of(nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a StackedOptimizer, got .*Linear"):
        stacked_form_of(torch.optim.SGD)(nn.Linear)  # type: ignore[type-var]
