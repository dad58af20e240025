"""Last checkpoints from strangers: what Lightning would take up is compared before it does."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.cli.check import check_command_line
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.components import make_data
from multilayer.training.resume_state import _training_misfits
from multilayer.training.run import Training, prepare

LOOP = ("loops", "fit_loop")
STATE = ("optimizer_states", 0, "state")
BEST = ("callbacks", "BestWeights")

CRAFTED: list[tuple[tuple[Any, ...], Any]] = [
    (LOOP, "x"),
    ((*LOOP, "epoch_progress"), None),
    ((*LOOP, "epoch_progress", "total"), [10**9]),
    ((*LOOP, "epoch_progress", "current", "completed"), "x"),
    ((*LOOP, "epoch_progress", "current", "completed"), -1),
    ((*LOOP, "epoch_loop.batch_progress", "is_last_batch"), "x"),
    # A fused optimizer would write past the end of these.
    ((*STATE, 0, "exp_avg"), torch.zeros(3)),
    ((*STATE, 0, "exp_avg_sq"), torch.zeros(1, 4)),
    ((*STATE, 0, "exp_avg"), torch.zeros(64, 4).to_sparse()),
    ((*STATE, 0, "step"), torch.zeros(0)),
    ((*STATE, 0), {"step": torch.tensor(1.0)}),
    ((*STATE, 99), {"step": torch.tensor(1.0)}),
    (STATE, []),
    (("optimizer_states",), []),
    (("optimizer_states", 0, "param_groups"), []),
    (("optimizer_states", 0, "param_groups", 0, "lr"), "x"),
    (("optimizer_states", 0, "param_groups", 0, "params"), [0]),
    (("lr_schedulers",), None),
    (("lr_schedulers", 0, "last_epoch"), {}),
    (("lr_schedulers", 0, "step"), 1),
    ((*BEST, "epoch"), "x"),
    ((*BEST, "weights"), {"network.0.linear.weight": torch.zeros(2)}),
    (("callbacks", "EarlyStopping"), "x"),
    (("callbacks", "Checkpoint", "cpu"), torch.zeros(3, dtype=torch.uint8)),
    (("state_dict", "network.0.linear.weight"), torch.zeros(3)),
    (("state_dict",), {}),
]


def misfits_of(checkpoint: dict[str, Any], training: Training) -> str | None:
    """The first reason why the training could not take it up."""
    module, trainer = training.module, training.trainer
    assert module.make_scheduler is not None
    return next(_training_misfits(checkpoint, module, trainer, module.make_scheduler), None)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The finished run, ready to go on; nothing is trained."""
    words = ["data=iris", "trainer.max_epochs=30", "trainer=cpu"]
    config = check_command_line("train", words)
    assert config is not None
    data = make_data(config)
    data.setup()
    return prepare(config, tmp_path_factory.mktemp("on"), words, data, quiet=True)


def test_a_sound_checkpoint_passes(training: Training, finished_run: Path) -> None:
    """Nothing is changed in module and trainer by looking."""
    before = copy.deepcopy(training.module.state_dict())
    checkpoint = read_checkpoint(finished_run / "checkpoints" / "last.ckpt")
    assert misfits_of(checkpoint, training) is None
    assert all(
        torch.equal(value, before[name]) for name, value in training.module.state_dict().items()
    )


@pytest.mark.parametrize(("where", "value"), CRAFTED, ids=lambda it: str(it)[:60])
def test_a_crafted_training_is_refused(
    training: Training, finished_run: Path, where: tuple[Any, ...], value: Any
) -> None:
    """Before Lightning or a fused optimizer meets it."""
    checkpoint = read_checkpoint(finished_run / "checkpoints" / "last.ckpt")
    parent: Any = checkpoint
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    assert misfits_of(checkpoint, training)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adadelta", "adagrad", "rmsprop"])
def test_the_state_of_every_optimizer_fits_itself(tmp_path: Path, optimizer: str) -> None:
    """After a few real steps, also of a network with a layer that nothing trains."""
    from multilayer.cli.tasks import train

    words = ["data=iris", "trainer=cpu", "trainer.max_epochs=1", f"optimizer={optimizer}"]
    words.append("optimizer.lr=0")  # which is 0.0 after a step of the schedule
    config = check_command_line("train", words)
    assert config is not None
    train(config, tmp_path / "run", words, quiet=True)
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    data = make_data(config)
    data.setup()
    again = prepare(config, tmp_path / "on", words, data, quiet=True)
    checkpoint["optimizer_states"][0]["state"].pop(1, None)  # as one that had no gradient
    assert misfits_of(checkpoint, again) is None
