"""Training jobs as stacks, from their configs to their run folders."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from multilayer.composing.job_configs import Job
from multilayer.core.errors import UserError
from multilayer.core.files import explain_write_error
from multilayer.lockstep.compilation import compiling_ahead
from multilayer.lockstep.member import Member, build_member
from multilayer.lockstep.plan import StackPlan, describe_stacks, why_not_stackable
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.stack import Stack
from multilayer.lockstep.writer import Writer
from multilayer.runs.folder import Result, as_begun
from multilayer.runs.manifest import describe_failure
from multilayer.stacking.compat import (
    CannotStackError,
    check_stackable,
    difference,
    freeze,
    freeze_unused_parameters,
    group_compatible,
)
from multilayer.stacking.runner import Builds
from multilayer.training.components import check_components
from multilayer.training.interrupts import interrupts_deferred, raise_interrupts
from multilayer.training.runtime import ready_memory
from multilayer.training.steps import epochs_to_train

log = logging.getLogger(__name__)

Outcome: TypeAlias = Result | Exception


@dataclass
class Hooks:
    """Whom to tell what while jobs train.

    Attributes:
        end: called with jobs, and how each ended.
        alone: called with jobs that do not stack after all, and why.
        say: a line for the user.
        take: called with jobs whose turn it is; returns those that are to be trained.
        begin: called with a job before anything of it is written.
        written: called by the thread that has written the last file of a job, with its result.
    """

    end: Callable[[Sequence[tuple[Job, Outcome]]], None]
    alone: Callable[[Sequence[Job], str], None]
    say: Callable[[str], None]
    take: Callable[[Sequence[Job]], list[Job]] = list
    begin: Callable[[Job], None] = lambda _: None
    written: Callable[[Job, Result], None] = lambda *_: None


def train_stack_of_one(
    config: dict[str, Any], folder: str | Path, overrides: Sequence[str], *, quiet: bool
) -> Result:
    """Train a single run through the stack's engine; the arguments are those of `run.train`.

    Raises:
        UserError: It cannot be.
    """
    data, begun = None, as_begun(config, folder)
    if begun["resume"] is None:
        data = check_components(begun)  # what is wrong is said before what does not stack
    reason = why_not_stackable(begun)
    if reason:
        raise UserError(f"engine=lockstep: {reason}; use engine=lightning")
    assert data is not None, "resume is a reason"
    data.setup()
    ended: list[tuple[Job, Outcome]] = []

    def refuse(jobs: Sequence[Job], reason: str) -> None:
        raise UserError(f"engine=lockstep: {reason}; use engine=lightning")

    with SweepProgress(1, shown=not quiet) as progress:
        hooks = Hooks(
            begin=lambda _: log.info(f"data: {data.describe()}"),
            end=ended.extend,
            alone=refuse,
            say=log.info,
        )
        job = Job(0, config, Path(folder), overrides)
        train_jobs(StackPlan([job], data, 1), progress, hooks)
    ((_, outcome),) = ended
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def train_jobs(plan: StackPlan, progress: SweepProgress, hooks: Hooks) -> None:
    """Train jobs that share their data, as one stack or, where their networks differ, as several.

    A stack has as many slots as the plan says. A job takes the slot of one that ends, at the end
    of an epoch; its network is built then.
    """
    waiting = deque(plan.jobs)
    with interrupts_deferred(), ready_memory(), compiling_ahead(plan) as ahead:
        while waiting:
            built = _build_next(waiting, plan, plan.n_slots, progress, hooks)
            if not built:
                continue
            groups, unlike = group_compatible([member.task_model for member in built])
            if unlike:
                words = describe_stacks([len(group) for group in groups])
                hooks.say(f"the networks differ in {unlike}: {words}")
            for members in _in_step([built[i] for i in group] for group in groups):
                task_models = [member.task_model for member in members]
                try:
                    check_stackable(task_models, plan.data)
                except CannotStackError as error:
                    hooks.alone([member.job for member in members], str(error))
                    continue
                _StackTraining(members, waiting, plan, progress, hooks, ahead).run()


def _build_next(
    waiting: deque[Job], plan: StackPlan, n: int, progress: SweepProgress, hooks: Hooks
) -> list[Member]:
    """Build at most n members, of the first jobs that wait; those that cannot be built end."""
    built: list[Member] = []
    while waiting and len(built) < n:
        next_ones = [waiting.popleft() for _ in range(min(n - len(built), len(waiting)))]
        taken = hooks.take(next_ones)
        broken: list[tuple[Job, Outcome]] = []
        for job in taken:
            try:
                built.append(build_member(job, plan.data))
            except Exception as error:  # a network of the user's own may raise anything
                broken.append((job, error))
            raise_interrupts()
        hooks.end(broken)
        progress.end_runs(len(next_ones) - len(taken) + len(broken))
    return built


def _in_step(groups: Iterable[Sequence[Member]]) -> list[list[Member]]:
    """The groups, those apart that go on within an epoch, at another minibatch than others."""
    found: list[list[Member]] = []
    for group in groups:
        places: dict[tuple[int, int], list[Member]] = {}
        for member in group:
            places.setdefault((member.n_within, member.n_unmeasured), []).append(member)
        found += places.values()
    return found


@dataclass
class _StackTraining:
    """One stack, from its first epoch to its last member's end.

    Attributes:
        members: those that it begins with.
        waiting: jobs that take the slots of members that end.
        ahead: what is being compiled for such a stack.
        begun: those whose run folder was begun, which will all have an outcome.
        outcomes: how members have ended.
        told: members of which it was told how they ended.
        unused: the names of parameters that get no gradient.
        aside: jobs whose networks are not like the others': they train in a later stack.
    """

    members: list[Member]
    waiting: deque[Job]
    plan: StackPlan
    progress: SweepProgress
    hooks: Hooks
    ahead: Builds
    begun: list[Member] = field(default_factory=list)
    outcomes: dict[Member, Outcome] = field(default_factory=dict)
    told: set[Member] = field(default_factory=set)
    unused: list[str] = field(default_factory=list)
    aside: list[Job] = field(default_factory=list)

    def run(self) -> None:
        """Train, and tell how each job ended; an interrupt ends all jobs, an error the stack's."""
        stack: Stack | None = None
        with Writer() as writer:
            try:
                self.unused = freeze_unused_parameters(
                    [member.task_model for member in self.members], self.plan.data
                )
                started = self._start(self.members, writer)
                if started:
                    stack = self._make_stack(started, writer)
                    self._train(stack)
            except BaseException as error:
                self._fail(stack, writer, error)
                if not isinstance(error, Exception):
                    self._tell()
                    raise
            finally:
                if stack is not None:
                    stack.runner.close()
            for member, raised in writer.finish().items():
                self._note_failure(member, raised)
        if stack is not None and (reason := stack.runner.skip_reason()):
            self.progress.say(reason)
        self.waiting.extend(self.aside)
        self._tell()

    def _tell(self) -> None:
        """Tell how jobs have ended of which it was not told before."""
        new = [member for member in self.outcomes if member not in self.told]
        self.told.update(new)
        self.hooks.end([(member.job, self.outcomes[member]) for member in new])

    def _start(self, members: Sequence[Member], writer: Writer) -> list[Member]:
        """Write what is known of runs that begin; returns those of which that could be done."""
        self.begun += members
        for member in members:
            self.hooks.begin(member.job)
            run, manifest = member.run, member.manifest
            if member.resumed is None:
                writer.submit(member, partial(run.begin, member.config, manifest))
            else:
                writer.submit(member, partial(run.begin_again, manifest))
        failures = writer.finish()
        self.outcomes |= {member: failures.pop(member) for member in members if member in failures}
        for other, error in failures.items():
            self._note_failure(other, error)
        return [member for member in members if member not in self.outcomes]

    def _make_stack(self, members: Sequence[Member], writer: Writer) -> Stack:
        """The stack, whose step is compiled for all the work that is planned."""
        config = members[0].config
        first = "/".join(members[0].run.path.parts[-2:])
        stack = Stack(
            members,
            writer,
            name=first,
            compile_mode=config["compile"],
            threads=config["num_threads"],
            n_epochs_waiting=sum(epochs_to_train(job.config) for job in self.waiting),
            ahead=self.ahead,
            say=self.progress.say,
        )
        self._end_before_epoch(stack)
        return stack

    def _train(self, stack: Stack) -> None:
        """Train until the last member has left, and no job waits that the stack can take."""
        config = self.members[0].config
        judged_by = config["monitor"], config["mode"]
        while stack.members():
            stack.begin_epoch()
            self._end_before_epoch(stack)
            if not stack.members():
                break
            stack.train_epoch()
            stack.end_epoch()
            for member, error in stack.writer.failures().items():
                self._note_failure(member, error)
            self.progress.end_epoch(stack, *judged_by)
            self._end([member for member in stack.members() if member.is_done()], stack)
            self._refill(stack)
            raise_interrupts()

    def _refill(self, stack: Stack) -> None:
        """Give free slots to jobs that wait, as far as their networks are like the stack's."""
        first = self.members[0].task_model
        while self.waiting and (n := stack.n_free()):
            built = _build_next(self.waiting, self.plan, n, self.progress, self.hooks)
            if not built:
                break
            for member in built:
                freeze(member.task_model, self.unused)
            alike = [
                member
                for member in built
                if not member.n_within
                and not difference(first, member.task_model)
                and stack.takes(member)
            ]
            self.aside += [member.job for member in built if member not in alike]
            for member in self._start(alike, stack.writer):
                stack.join(member)
            self._end_before_epoch(stack)
        if not self.waiting and stack.members():
            stack.compact()

    def _end_before_epoch(self, stack: Stack) -> None:
        """Have members leave that have failed, or have nothing left to train."""
        self._end([each for each in stack.members() if each.failure or each.has_ended], stack)

    def _end(self, leaving: Sequence[Member], stack: Stack) -> None:
        """Have members leave, and write what their runs leave at their end."""
        if not leaving:
            return
        for member, metrics in zip(leaving, stack.leave(leaving), strict=True):
            if member.failure is not None:
                self._write_failure(member, member.failure)
                self.outcomes[member] = member.failure
                self.told.add(member)
                self.hooks.end([(member.job, member.failure)])
            else:
                member.manifest["compiled"] = bool(stack.runner.compiled)
                result = self.outcomes[member] = member.result(metrics)
                stack.writer.submit(member, partial(self._write_end, stack.writer, member, result))
        self.progress.end_runs(len(leaving))

    def _note_failure(self, member: Member, raised: Exception) -> None:
        """Let a run fail whose files cannot be written."""
        error = explain_write_error(raised, member.run.path)
        if isinstance(self.outcomes.get(member), Result):
            self.outcomes[member] = error
            self._write_failure(member, error)
        elif member not in self.outcomes:
            member.failure = member.failure or error

    def _fail(self, stack: Stack | None, writer: Writer, error: BaseException) -> None:
        """End all that still train with an error, and save what there is."""
        told = _explain_out_of_memory(error, len(stack.members() if stack else self.members))
        if stack is not None:
            try:
                stack.fail(error)
            except Exception as raised:  # a device that is lost fails again
                log.error("after an error, not all could be saved", exc_info=raised)
        writer.finish()
        for member in {**dict.fromkeys(self.members), **dict.fromkeys(self.begun)}:
            if member in self.outcomes:
                continue
            self._write_failure(member, told)
            if isinstance(told, Exception):
                self.outcomes[member] = told

    def _write_end(self, writer: Writer, member: Member, result: Result) -> None:
        """Write what a run leaves at its end, unless another file of it could not be written."""
        if member not in writer.failed:
            member.run.write_metrics(result.metrics)
            member.run.write_manifest(member.manifest)
            self.hooks.written(member.job, result)

    def _write_failure(self, member: Member, error: BaseException) -> None:
        """Write the manifest of a run that did not come to its end."""
        with suppress(UserError):  # what it failed of, perhaps
            member.run.write_manifest(member.manifest | describe_failure(error))


def _explain_out_of_memory(error: BaseException, n_members: int) -> BaseException:
    """What to do where a stack does not fit into the memory of the device; else the error."""
    if isinstance(error, torch.OutOfMemoryError) and n_members > 1:
        return UserError(
            f"a stack of {n_members} does not fit into the memory of the device: bound it with "
            f"hydra.launcher.max_members={n_members // 2}"
        )
    return error
