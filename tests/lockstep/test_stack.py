"""Blocks, places and compaction."""

import gc
import json
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch

from multilayer.cli.main import train
from multilayer.data.datamodule import DataModule
from multilayer.lockstep.member import Member
from multilayer.lockstep.plan import Job
from multilayer.lockstep.seats import in_blocks
from multilayer.lockstep.stack import Stack
from multilayer.stacking.block import Layout
from multilayer.stacking.dropout import draw_keys
from multilayer.stacking.runner import StepRunner
from multilayer.training.components import make_data
from multilayer.training.run import Training, prepare

from .conftest import MakeJobs, train_stacked

REVEALS = ["model=sequential", "~model._args_", "model._target_=tests.lockstep.networks.Reveals"]
REVEALS += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]


def prepared(made: list[Job]) -> list[Training]:
    """Runs that share their data, each with its own order of the rows."""
    data: DataModule = make_data(made[0].config)
    data.setup()
    return [
        prepare(job.config, job.folder, (), data.with_shuffle_seed(job.number), quiet=True)
        for job in made
    ]


def make_stack(jobs: MakeJobs, shared: list[str], n_members: int) -> Stack:
    """A stack that is ready for its first epoch."""
    members = [Member(training) for training in prepared(jobs(shared, [[]] * n_members))]
    for member in members:
        member.start()
    return Stack(members, choice=False)


@pytest.fixture
def stack(jobs: MakeJobs) -> Stack:
    """Forty members on iris, one step an epoch."""
    return make_stack(jobs, ["data=iris", "data.batch_size=full", "trainer.max_epochs=100"], 40)


def epoch(stack: Stack) -> None:
    """Train and validate once."""
    stack.begin_epoch()
    for call in stack.epoch_chunks():
        stack.train(*call)
    stack.validate(*stack.validation_rows)
    stack.end_validation()


def let_leave(stack: Stack, members: list[Member]) -> None:
    """As if these were to stop after an epoch."""
    epoch(stack)
    for member in members:
        member.trainer.should_stop = True
    assert set(stack.end_epoch()) == set(members)


def test_members_are_cut_into_blocks_of_one_size(stack: Stack) -> None:
    """The last one is filled up."""
    assert [len(seats.block) for seats in stack.seats] == [14, 14, 14]
    assert [len(seats.taken()) for seats in stack.seats] == [14, 14, 12]


def test_a_members_weights_are_its_place_in_the_block(stack: Stack) -> None:
    """No copy: its callbacks see what was trained."""
    for seats in stack.seats:
        for k, member in seats.taken():
            first = next(member.module.network.parameters())
            assert first.data_ptr() == seats.block.weights[k].data_ptr()


def test_those_that_stay_move_together(stack: Stack) -> None:
    """The work of an epoch follows the number of members, and they keep their weights."""
    members = list(stack.members)
    places = []
    while members:
        places.append(sum(len(seats.block) for seats in stack.seats))
        leaving, members = members[::2], members[1::2]
        before = {
            member: Layout(member.module).join(dict(member.module.named_parameters()))
            for member in members
        }
        epoch(stack)
        trained = {
            member: Layout(member.module).join(dict(member.module.named_parameters()))
            for member in members
        }
        for member in leaving:
            member.trainer.should_stop = True
        assert set(stack.end_epoch()) == set(leaving)
        for member in members:
            kept = Layout(member.module).join(dict(member.module.named_parameters()))
            assert torch.equal(kept, trained[member])
            assert not torch.equal(kept, before[member])
    assert places[0] == 42
    assert all(after <= before for before, after in pairwise(places))
    assert places[-1] == 1
    assert stack.alive() == []


def test_without_compaction_places_stay(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a test of independence wants it."""
    monkeypatch.setattr(Stack, "compact", lambda self: None)
    let_leave(stack, stack.members[:20])
    assert sum(len(seats.block) for seats in stack.seats) == 28  # an empty block is gone


def test_blocks_are_balanced() -> None:
    """No block is much smaller than the others."""
    assert [len(block) for block in in_blocks(range(17), 16)] == [9, 9]  # type: ignore[arg-type]
    assert [len(block) for block in in_blocks(range(16), 16)] == [16]  # type: ignore[arg-type]


def storages() -> dict[int, int]:
    """The bytes of each storage that a tensor lives in."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)  # no fake ones, left by what was compiled before
    tensors = [item for item in gc.get_objects() if type(item) in kinds]
    found = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def test_members_take_the_memory_of_their_state_and_the_data_once(jobs: MakeJobs) -> None:
    """Weights and Adam's two moments for each; between epochs little else is there."""
    before = storages()
    stack = make_stack(jobs, ["data=iris", "callbacks=none", "model.d_hidden=[128,128]"], 40)
    epoch(stack)
    stack.end_epoch()
    taken = sum(size for place, size in storages().items() if before.get(place) != size)
    data = stack.members[0].training.data
    own = (data.features, data.targets, *data.rows.values(), *stack.validation_rows)
    state = 3 * 4 * sum(each.numel() for each in stack.module.network.parameters())
    assert state * 40 <= taken <= 1.15 * state * 40 + sum(each.nbytes for each in own)


def test_the_time_of_a_stack_is_shared_by_those_that_train(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second is counted once: all shares add up to the stack's time."""
    shared = ["data=iris", "callbacks=none", "trainer.log_every_n_steps=100"]
    made = jobs(shared, [[f"trainer.max_epochs={n}"] for n in (1, 1, 3)])
    now = 0.0

    def ten_seconds_a_step(
        runner: StepRunner, *arguments: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal now
        now += 10.0
        return one(runner, *arguments)

    one = StepRunner.one
    monkeypatch.setattr(StepRunner, "one", ten_seconds_a_step)
    monkeypatch.setattr("multilayer.lockstep.stack.perf_counter", lambda: now)
    found = [result.manifest for result in train_stacked(made)]
    assert [each["steps"] for each in found] == [2, 2, 6]
    first = 20.0 / 3  # two steps an epoch, of three members
    assert [each["fit_seconds"] for each in found] == pytest.approx(
        [first, first, first + 40.0], abs=1e-3
    )
    assert [each["stack_seconds"] for each in found] == pytest.approx([20.0, 20.0, 60.0])
    assert [each["steps_per_second"] for each in found] == [0.3, 0.3, 0.1]


def test_the_time_of_an_epoch_that_is_cut_short_is_shared_too(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in its middle, a run says how long it took up to there; so does a single one."""
    (job,) = jobs(["data=iris", "callbacks=none", "engine=lockstep"], [[]])
    now = 0.0

    def one_step(runner: StepRunner, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal now
        if now:
            raise KeyboardInterrupt
        now = 10.0
        return one(runner, *arguments)

    one = StepRunner.one
    monkeypatch.setattr(StepRunner, "one", one_step)
    monkeypatch.setattr("multilayer.lockstep.stack.perf_counter", lambda: now)
    with pytest.raises(KeyboardInterrupt):
        train(job.config, job.folder, quiet=True)
    manifest = json.loads((job.folder / "manifest.json").read_text())
    assert (manifest["fit_seconds"], manifest["stack_seconds"]) == (10.0, 10.0)


def test_masks_of_dropout_have_nothing_in_common(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of members with other seeds, of steps, of layers, and of the uses of a layer."""
    seen: list[torch.Tensor] = []
    run = StepRunner.run

    def looking(runner: StepRunner, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        losses, outputs = run(runner, *arguments)
        seen.append(outputs != 0)
        return losses, outputs

    monkeypatch.setattr(StepRunner, "run", looking)
    words = ["data=iris", "data.batch_size=26", "callbacks=none", "trainer.max_epochs=6"]
    words += ["trainer.log_every_n_steps=100", *REVEALS]
    train_stacked(jobs(words, [["seed=0"], ["seed=1"], ["seed=2"]]))
    masks = torch.stack(seen).double() * 2 - 1  # 6 calls, 4 steps, 3 members, 26 rows, 3 uses
    assert masks.shape == (6, 4, 3, 26, 3)
    for dim in (0, 1, 2, 4):  # rows and columns of one mask: tests/stacking/test_model.py
        pairs = [
            masks.select(dim, i) * masks.select(dim, j)
            for i, j in combinations(range(masks.shape[dim]), 2)
        ]
        for pair in pairs:
            assert abs(pair.mean()) < 5 / pair.numel() ** 0.5, dim


def test_members_of_one_seed_have_the_same_masks(jobs: MakeJobs) -> None:
    """Whatever else differs, so that a sweep over rates compares like with like."""
    made = jobs(["data=iris"], [["seed=4"], ["seed=4", "optimizer.lr=0.5"], ["seed=5"]])
    keys = [draw_keys(Member(each).dropout_keys, 3) for each in prepared(made)]
    assert torch.equal(keys[0], keys[1])
    assert not torch.equal(keys[0], keys[2])
