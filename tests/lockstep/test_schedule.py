"""Schedules of a stack against torch's own optimizers and schedules, step by step."""

import math
from typing import Any

import pytest
import torch

from multilayer.core.config_folder import conf_dir
from multilayer.lockstep.schedule import Schedule
from multilayer.training.components import make_optimizer, make_scheduler

from ..trained import config_of
from .conftest import MakeJobs, train_stacked

OPTIMIZERS = sorted(path.stem for path in conf_dir().glob("optimizer/*.yaml"))
SCHEDULES = sorted(path.stem for path in conf_dir().glob("scheduler/*.yaml"))
N_EPOCHS, N_BATCHES = 12, 7
N_STEPS = N_EPOCHS * N_BATCHES


def numbers(group: Any) -> dict[str, Any]:
    """What of a parameter group an update multiplies with."""
    left_out = ("params", "beta1", "beta2", "fused", "foreach")
    return {name: value for name, value in group.items() if name not in left_out}


def losses(epoch: int) -> float:
    """Of a training that improves, and then does not."""
    return max(1.0, 2.0 - 0.3 * epoch)


@pytest.mark.parametrize("scheduler", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_numbers_of_each_step_are_torchs(optimizer: str, scheduler: str) -> None:
    """All of the parameter group, through a whole training, in calls of several steps."""
    words = [f"optimizer={optimizer}", f"scheduler={scheduler}", f"trainer.max_epochs={N_EPOCHS}"]
    if scheduler == "plateau":
        words.append("scheduler.scheduler.patience=1")
    if scheduler == "step":
        words.append("scheduler.scheduler.step_size=5")
    if scheduler == "one_cycle" and optimizer == "adam":
        words.append("scheduler.scheduler.cycle_momentum=true")  # which moves a beta
    config = config_of(*words)
    weight = torch.zeros(1, requires_grad=True)
    theirs = make_optimizer(config)([weight])
    their_schedule = make_scheduler(config, n_steps=N_STEPS)(theirs)
    ours = Schedule(config, N_STEPS)
    interval = config["scheduler"]["interval"]
    assert ours.moves == ("metric" if scheduler == "plateau" else interval)
    seen = set()
    for epoch in range(N_EPOCHS):
        groups = [
            group
            for n in (4, 3)
            for group in [*ours.advance(n)] * (1 + (n - 1) * (interval == "epoch"))
        ]
        for group in groups:
            assert numbers(group) == numbers(theirs.param_groups[0])
            betas = theirs.param_groups[0].get("betas", ())
            assert [group[name] for name in ("beta1", "beta2")[: len(betas)]] == list(betas)
            seen.add(group["lr"])
            weight.grad = torch.ones(1)
            theirs.step()
            if interval == "step":
                their_schedule.step()
        ours.end_epoch()
        ours.follow(losses(epoch))
        if scheduler == "plateau":
            their_schedule.step(losses(epoch))
        elif interval == "epoch":
            their_schedule.step()
    assert len(seen) > (scheduler != "constant")
    assert ours.n_moved == (N_STEPS if interval == "step" else N_EPOCHS)
    assert ours.scheduler.state_dict().keys() == their_schedule.state_dict().keys()
    for name, value in their_schedule.state_dict().items():
        if name not in ("_step_count", "lr_lambdas", "best") and not callable(value):
            assert ours.scheduler.state_dict()[name] == value, name


def test_equal_schedules_have_equal_keys() -> None:
    """Those of another optimizer, schedule or length do not."""
    words = ["scheduler=cosine", "optimizer.lr=0.1"]
    first = Schedule(config_of(*words, "seed=1"), 100)
    assert first.key == Schedule(config_of(*words, "seed=2", "model.dropout=0.5"), 100).key
    others = [["optimizer.lr=0.2"], ["scheduler.scheduler.final_fraction=0.1"], ["optimizer=sgd"]]
    keys = {Schedule(config_of(*words, *own), 100).key for own in others}
    assert len({first.key, Schedule(config_of(*words), 101).key, *keys}) == 5


@pytest.mark.parametrize("scheduler", ["cosine", "plateau"])
def test_equal_jobs_are_two_jobs(scheduler: str, jobs: MakeJobs) -> None:
    """A schedule that they share moves once a step; one that follows a metric is each one's own."""
    shared = ["data=iris", f"scheduler={scheduler}", "trainer.max_epochs=4", "optimizer=sgd"]
    shared += ["callbacks=checkpoint", "logger=none"]
    if scheduler == "plateau":  # nothing is better than the first
        shared += ["scheduler.scheduler.patience=0", "+scheduler.scheduler.threshold=0.9"]
    (one,) = train_stacked(jobs(shared, [[]], "one"))
    made = jobs(shared, [[], []], "two")
    for result in train_stacked(made):
        assert result.metrics["train"]["loss"] == pytest.approx(one.metrics["train"]["loss"])
    last = torch.load(made[0].folder / "checkpoints" / "last.ckpt", weights_only=True)
    rate = last["optimizer_states"][0]["param_groups"][0]["lr"]
    expected = 0.01 * 0.5**3 if scheduler == "plateau" else 0.0
    lr = made[0].config["optimizer"]["lr"]
    assert rate == pytest.approx(expected * lr / 0.01, abs=1e-12)
    assert math.isfinite(rate)
