"""A stack on a GPU against the same stack on the CPU, to the rounding of sums in another order."""

from pathlib import Path

import pytest
import torch

from multilayer.cli.tasks import train
from multilayer.composing.job_configs import Job
from multilayer.lockstep.plan import make_plan
from multilayer.runs.folder import Result

from .conftest import MakeJobs, train_plan, train_stacked

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU"),
]

GPU = "trainer=gpu"
QUICK = ["data=wine", "trainer.max_epochs=3", "data.batch_size=16"]
TWO = [["seed=3", "optimizer.lr=0.01"], ["seed=4", "optimizer.lr=0.03"]]
OWN = ["model=sequential", "~model._args_", "model._target_=tests.lockstep.networks.Residual"]
OWN += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]

CASES = {
    "adam": [],
    "dropout": ["model.dropout=0.3"],  # whose masks are hashed, and so the same
    "dropout, compiled": ["model.dropout=0.3", "compile=true"],
    "momentum and clipping": [
        "optimizer=sgd", "optimizer.momentum=0.9", "trainer.gradient_clip_val=0.1",
    ],
    "batch normalization": ["optimizer=sgd", "model.normalization=batch"],
    "schedule by metric": ["scheduler=plateau", "scheduler.scheduler.patience=0"],
    "class weights": ["loss=cross_entropy", "loss.class_weights=[1,2,3]"],
    "a network of one's own": OWN,
    "double precision": ["trainer.precision=64-true"],
}  # fmt: skip


def metrics_of(results: list[Result]) -> list[dict[str, float]]:
    """The losses of every run, which do not jump where a row is on an edge."""
    return [{split: own["loss"] for split, own in result.metrics.items()} for result in results]


def check_losses(ours: list[Result], theirs: list[Result]) -> None:
    """The same steps and losses, run by run."""
    assert [each.manifest["steps"] for each in ours] == [each.manifest["steps"] for each in theirs]
    for found, expected in zip(metrics_of(ours), metrics_of(theirs), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


def last_weights(job: Job) -> dict[str, torch.Tensor]:
    """What `last.ckpt` holds, on the CPU."""
    path = job.folder / "checkpoints" / "last.ckpt"
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    weights: dict[str, torch.Tensor] = loaded["state_dict"]
    return weights


@pytest.mark.parametrize("case", CASES)
def test_a_stack_on_the_gpu_is_that_of_the_cpu(case: str, jobs: MakeJobs) -> None:
    """Losses and last weights of every member."""
    shared = [*QUICK, *CASES[case]]
    there = jobs([*shared, GPU], TWO, "gpu")
    here = jobs([*shared, "trainer=cpu", "compile=false"], TWO, "cpu")
    check_losses(train_stacked(there), train_stacked(here))
    for ours, theirs in zip(there, here, strict=True):
        torch.testing.assert_close(last_weights(ours), last_weights(theirs), rtol=1e-2, atol=1e-3)


def test_members_that_leave_and_join_on_the_gpu_train_as_on_the_cpu(jobs: MakeJobs) -> None:
    """Five jobs in two slots; each of another length, with its best weights at the end."""
    own = [[f"seed={k}", f"trainer.max_epochs={2 + k % 3}", "model.dropout=0.2"] for k in range(5)]
    ended = {}
    for device in (GPU, "trainer=cpu"):
        made = jobs(["data=wine", "data.batch_size=16", device], own, device)
        (plan,) = make_plan(made, max_members=2).stacks
        ended[device] = train_plan(plan)
    check_losses(ended[GPU], ended["trainer=cpu"])  # type: ignore[arg-type]


def test_a_member_that_diverges_on_the_gpu_leaves_the_other_alone(jobs: MakeJobs) -> None:
    """With its last finite weights."""
    shared = [*QUICK, "optimizer=sgd", GPU]
    stack = jobs(shared, [["optimizer.lr=0.01"], ["optimizer.lr=1e30"]])
    results = train_stacked(stack)
    assert [each.manifest["status"] for each in results] == ["done", "diverged"]
    assert all(each.isfinite().all() for each in last_weights(stack[1]).values())


def test_a_member_trained_on_the_gpu_is_resumed(jobs: MakeJobs, tmp_path: Path) -> None:
    """By Lightning's engine, as one training of as many epochs."""
    stack = jobs([*QUICK, GPU], TWO)
    train_stacked(stack)
    (resumed,) = jobs([f"resume={stack[0].folder}", "trainer.max_epochs=5"], [[]], "resumed")
    (whole,) = jobs([*QUICK, GPU, *TWO[0], "trainer.max_epochs=5"], [[]], "whole")
    results = [train(each.config, each.folder, quiet=True) for each in (resumed, whole)]
    check_losses(results[:1], results[1:])
