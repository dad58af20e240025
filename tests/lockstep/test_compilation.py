"""From which step on a stack uses what another process has compiled meanwhile."""

import signal
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
import torch

from multilayer.composing.job_configs import Job
from multilayer.lockstep.compilation import compiling_ahead
from multilayer.lockstep.member import build_member
from multilayer.lockstep.plan import make_plan
from multilayer.lockstep.stack import Stack
from multilayer.runs.folder import RunFolder
from multilayer.stacking.library_build import LibraryBuild
from multilayer.stacking.runner import StepRunner
from multilayer.training.runtime import can_compile

from ..trained import weights_of
from .conftest import MakeJobs, train_plan, train_stacked
from .test_in_place import in_place

pytestmark = pytest.mark.skipif(
    not can_compile(torch.device("cpu")), reason="there is no C++ compiler"
)

SHARED = [
    "data=iris", "data.batch_size=16", "model.d_hidden=[8]", "model.dropout=0.3",
    "trainer.max_epochs=10", "callbacks.checkpoint.every_seconds=0", "compile=true",
]  # fmt: skip
OWN = [["seed=1"], ["seed=2"]]
N_BATCHES = 7
"""Minibatches of an epoch; a smaller last one is not compiled."""

COMPILED = [n >= 3 and n % N_BATCHES < N_BATCHES - 1 for n in range(10 * N_BATCHES)]
"""Of each step, whether it is compiled: 70 / 32 are not, and a call has three minibatches."""


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bool]:
    """Of each step that is taken, whether it is compiled."""
    monkeypatch.setattr("multilayer.stacking.chunks._MINIBATCHES_A_CALL", 3)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    one, found = StepRunner.one, list[bool]()

    def note(self: StepRunner, step: Any, key: Any, *arguments: Any) -> Any:
        found.append(key in self.compiled)
        return one(self, step, key, *arguments)

    monkeypatch.setattr(StepRunner, "one", note)
    return found


def interrupt(jobs: list[Job], n_calls: int) -> None:
    """Train jobs as a stack, with Ctrl-C after some calls."""
    train, n = Stack._train, 0

    def train_or_interrupt(self: Stack, first: int, end: int) -> None:
        nonlocal n
        train(self, first, end)
        n += 1
        if n == n_calls:
            signal.raise_signal(signal.SIGINT)

    (plan,) = make_plan(jobs).stacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "_train", train_or_interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_plan(plan)


def test_the_step_of_the_switch_is_fixed_by_counts(
    jobs: MakeJobs, tmp_path: Path, compiled: list[bool]
) -> None:
    """Whether the library is there already or not, and in a stack that goes on; to the last bit."""
    made = jobs(SHARED, OWN)
    results = train_stacked(made)
    assert compiled == COMPILED
    assert [each.manifest["compiled"] for each in results] == [True, True]
    assert len([*(tmp_path / "cache" / "multilayer").glob("*.so")]) == 1

    compiled.clear()
    again = [replace(job, folder=tmp_path / "again" / str(job.number)) for job in made]
    train_stacked(again)
    assert compiled == COMPILED
    check_equal(again, made)

    for n_calls in (1, 2, 7):
        compiled.clear()
        folder = tmp_path / f"interrupted {n_calls}"
        parts = [replace(job, folder=folder / str(job.number)) for job in made]
        interrupt(parts, n_calls)
        train_stacked([in_place(job, job.folder) for job in parts])
        assert compiled == COMPILED
        check_equal(parts, made)


def check_equal(jobs: list[Job], others: list[Job]) -> None:
    """Raise unless runs ended with the same weights, to the last bit."""
    for job, other in zip(jobs, others, strict=True):
        assert RunFolder(job.folder).read_manifest()["steps"] == 10 * N_BATCHES
        for name in ("best.ckpt", "last.ckpt"):
            mine, its = (weights_of(each.folder, name) for each in (job, other))
            assert all(torch.equal(mine[key], its[key]) for key in its)


def test_nothing_is_compiled_any_more_when_a_stack_has_ended(
    jobs: MakeJobs, tmp_path: Path, compiled: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an interrupt, or since its members ended before the step of the switch."""
    begun: list[Any] = []
    prepare = StepRunner.prepare

    def note(self: StepRunner, *arguments: Any) -> None:
        prepare(self, *arguments)
        begun.extend(build.process for _, build in self.pending.values())

    monkeypatch.setattr(StepRunner, "prepare", note)
    made = jobs(SHARED, OWN)
    interrupt(made, 1)
    monkeypatch.setattr("multilayer.stacking.runner._SHARE_NOT_COMPILED", 1)
    ended = [replace(job, folder=tmp_path / "ended" / str(job.number)) for job in made]
    results = train_stacked(ended)
    assert [each.manifest["compiled"] for each in results] == [False, False]
    assert len({*begun}) == 2
    assert all(process.returncode is not None for process in begun)
    assert not [*(tmp_path / "cache" / "multilayer").iterdir()]
    assert not any(compiled)


@pytest.mark.parametrize(
    "own",
    [
        OWN,
        [["model.dropout=0"], ["model.dropout=0.2"]],
        [["loss.label_smoothing=0"], ["loss.label_smoothing=0.1"]],
        [["optimizer.weight_decay=0"], ["optimizer.weight_decay=0.1"]],
        [["optimizer=sgd", f"optimizer.momentum={each}"] for each in (0, 0.9)],
    ],
    ids=lambda own: own[1][-1],
)
def test_compiling_begins_before_members_are_built(
    jobs: MakeJobs, own: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that is compiled is the one that the stack has then, which begins no other."""
    built: list[Any] = []
    begun: list[tuple[int, Popen[str]]] = []

    def begin(*_: Any) -> Popen[str]:
        process = Popen(["cat"], stdin=PIPE, stdout=PIPE, text=True)
        begun.append((len(built), process))
        return process

    def build(*arguments: Any) -> Any:
        built.append(arguments)
        return build_member(*arguments)

    monkeypatch.setattr("multilayer.stacking.library_build._start_compiling", begin)
    monkeypatch.setattr("multilayer.lockstep.train.build_member", build)
    interrupt(jobs(SHARED, own), 1)
    assert len(built) == 2
    ((n_built, process),) = begun
    assert n_built == 0
    assert process.returncode is not None


def test_what_was_begun_for_another_step_ends(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch, compiled: list[bool]
) -> None:
    """A network that is frozen after it was built has another step than the plan could know."""
    ended, close = list[Path](), LibraryBuild.close

    def freeze_one(*arguments: Any) -> Any:
        member = build_member(*arguments)
        next(member.task_model.network.parameters()).requires_grad_(False)
        return member

    def note(self: LibraryBuild) -> None:
        ended.append(self.path)
        close(self)

    monkeypatch.setattr("multilayer.lockstep.train.build_member", freeze_one)
    monkeypatch.setattr(LibraryBuild, "close", note)
    train_stacked(jobs(SHARED, OWN))
    assert compiled == COMPILED
    assert len(ended) == len({*ended}) == 2


@pytest.mark.parametrize(
    ("change", "is_begun"),
    [({}, True), ({"compile": False}, False), ({"model": {"_target_": "mine.Net"}}, False)],
)
def test_what_a_network_of_ones_own_does_happens_to_a_job_that_has_begun(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], is_begun: bool
) -> None:
    """It may end the process: nothing of it is built ahead, nor where nothing is compiled."""
    begun: list[Any] = []
    monkeypatch.setattr("multilayer.lockstep.compilation._begin", lambda *_: begun.append(change))
    (plan,) = make_plan(jobs(SHARED, OWN)).stacks
    own = [replace(job, config=job.config | change) for job in plan.jobs]
    with compiling_ahead(replace(plan, jobs=own)):
        assert bool(begun) == is_begun
