"""Blocks, slots and compaction."""

import gc
import json
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch

from multilayer.cli.tasks import train
from multilayer.lockstep.member import Member, build_member
from multilayer.lockstep.plan import make_plan
from multilayer.lockstep.stack import Stack
from multilayer.lockstep.writer import Writer
from multilayer.stacking.dropout import draw_keys
from multilayer.stacking.runner import StepRunner

from .conftest import MakeJobs, train_stacked

REVEALS = ["model=sequential", "~model._args_", "model._target_=tests.lockstep.networks.Reveals"]
REVEALS += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]


@pytest.fixture
def writer() -> Iterator[Writer]:
    """Writes what the members of a test leave."""
    with Writer() as made:
        yield made


def make_stack(jobs: MakeJobs, writer: Writer, shared: list[str], n_members: int) -> Stack:
    """A stack that is ready for its first epoch; each member has its own order of the rows."""
    own = [[f"data.shuffle_seed={number}"] for number in range(n_members)]
    (plan,) = make_plan(jobs(shared, own)).stacks
    members = [build_member(job, plan.data) for job in plan.jobs]
    for member in members:
        member.run.begin(member.config, member.manifest)
    return Stack(members, writer, compile_mode=False)


@pytest.fixture
def stack(jobs: MakeJobs, writer: Writer) -> Stack:
    """Forty members on iris, one step an epoch."""
    shared = ["data=iris", "data.batch_size=full", "trainer.max_epochs=100"]
    return make_stack(jobs, writer, shared, 40)


def epoch(stack: Stack) -> None:
    """Train and validate once."""
    stack.begin_epoch()
    stack.train_epoch()
    stack.end_epoch()


def weights_of(member: Member) -> torch.Tensor:
    """A copy of what its network holds."""
    return torch.cat([each.detach().flatten() for each in member.task_model.network.parameters()])


def let_leave(stack: Stack, members: list[Member]) -> None:
    """As if these were to stop after an epoch."""
    epoch(stack)
    stack.leave(members)
    stack.compact() if stack.members() else None


def test_members_are_cut_into_blocks_of_one_size(stack: Stack) -> None:
    """The last one is filled up."""
    assert [len(slots.block) for slots in stack.slots] == [14, 14, 14]
    assert [len(slots.occupied()) for slots in stack.slots] == [14, 14, 12]


def test_a_members_weights_are_its_slot_in_the_block(stack: Stack) -> None:
    """No copy: its callbacks see what was trained."""
    for slots in stack.slots:
        for k, member in slots.occupied():
            first = next(member.task_model.network.parameters())
            assert first.data_ptr() == slots.block.weights[k].data_ptr()


def test_those_that_stay_move_together(stack: Stack) -> None:
    """The work of an epoch follows the number of members, and they keep their weights."""
    members = stack.members()
    sizes = []
    while members:
        sizes.append(sum(len(slots.block) for slots in stack.blocks()))
        leaving, members = members[::2], members[1::2]
        before = {member: weights_of(member) for member in members}
        epoch(stack)
        trained = {member: weights_of(member) for member in members}
        stack.leave(leaving)
        if members:
            stack.compact()
        for member in members:
            assert torch.equal(weights_of(member), trained[member])
            assert not torch.equal(weights_of(member), before[member])
    assert sizes[0] == 42
    assert all(after <= before for before, after in pairwise(sizes))
    assert sizes[-1] == 1
    assert stack.members() == []


def test_without_compaction_slots_stay(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a test of independence wants it."""
    monkeypatch.setattr(Stack, "compact", lambda self: None)
    let_leave(stack, stack.members()[:20])
    assert sum(len(slots.block) for slots in stack.blocks()) == 28  # of an empty one there is none


def test_a_member_that_joins_later_trains_as_one_of_the_first(
    jobs: MakeJobs, writer: Writer
) -> None:
    """In the slot of one that has left, with its own steps, masks of dropout and numbers."""
    shared = ["data=iris", "scheduler=cosine", "trainer.max_epochs=4", "model.dropout=0.3"]
    stack = make_stack(jobs, writer, shared, 2)
    epoch(stack)
    stack.leave(stack.members()[:1])
    own = ["seed=7", "model.dropout=0.1", "optimizer.lr=0.01", "data.shuffle_seed=5"]
    (plan,) = make_plan(jobs(shared, [own, own], "later")).stacks
    late, alone = (build_member(job, plan.data) for job in plan.jobs)
    stack.join(late)
    other = Stack([alone], writer, compile_mode=False)
    for _ in range(3):
        epoch(stack)
        epoch(other)
    assert (late.epoch, late.step) == (3, alone.step)
    torch.testing.assert_close(weights_of(late), weights_of(alone), rtol=1e-4, atol=1e-6)


def storages() -> dict[int, int]:
    """The bytes of each storage that a tensor lives in."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)  # no fake ones, left by what was compiled before
    tensors = [item for item in gc.get_objects() if type(item) in kinds]
    found = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def test_members_take_the_memory_of_their_state_and_the_data_once(
    jobs: MakeJobs, writer: Writer
) -> None:
    """Weights and Adam's two moments for each; between epochs little else is there."""
    before = storages()
    shared = ["data=iris", "callbacks=none", "model.d_hidden=[128,128]"]
    stack = make_stack(jobs, writer, shared, 40)
    epoch(stack)
    writer.finish()
    taken = sum(size for place, size in storages().items() if before.get(place) != size)
    first = stack.members()[0]
    own = (first.data.features, first.data.targets, *first.data.rows.values())
    state = 3 * 4 * first.n_weights
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
    (plan,) = make_plan(made).stacks
    members = [build_member(job, plan.data) for job in plan.jobs]
    keys = [draw_keys(member.dropout_keys, 3) for member in members]
    assert torch.equal(keys[0], keys[1])
    assert not torch.equal(keys[0], keys[2])
