"""Training the jobs of a stack together, from their configs to their run folders."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import torch

from multilayer.core.errors import UserError
from multilayer.data import Dataset
from multilayer.data.split import Split
from multilayer.lockstep.engine import fit_stack
from multilayer.lockstep.member import Member
from multilayer.lockstep.plan import Job, reason_to_be_alone
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.stack import Stack
from multilayer.runs.folder import Metrics, describe_failure
from multilayer.stacking.compat import (
    CannotStackError,
    check_stackable,
    freeze_unused_parameters,
    group_compatible,
)
from multilayer.training.components import check_components
from multilayer.training.result import Result
from multilayer.training.run import Training, load_and_build, prepare

log = logging.getLogger(__name__)

Outcome = Result | Exception


def train_stack_of_one(
    config: dict[str, Any], folder: str | Path, overrides: Sequence[str], *, quiet: bool
) -> Result:
    """Train a single run through the stack's engine, with `engine=lockstep`.

    overrides: what the config was composed from, for the manifest.
    quiet: whether to show no progress.

    Raises `UserError` where it cannot be.
    """
    if config["resume"] is None:
        check_components(config)  # what is wrong is said before what does not stack
    reason = reason_to_be_alone(config)
    if reason:
        raise UserError(f"engine=lockstep: {reason}; use engine=lightning")
    training = load_and_build(config, folder, overrides, quiet=quiet)
    try:
        check_stackable([training.module], training.data)
    except CannotStackError as error:
        raise UserError(f"engine=lockstep: {error}; use engine=lightning") from error
    log.info(f"data: {training.data.describe()}")
    with SweepProgress(1, shown=not quiet) as progress:
        (outcome,) = train_together([training], progress)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def prepare_jobs(
    jobs: Sequence[Job], data: Dataset
) -> tuple[list[tuple[Job, Training]], list[tuple[Job, Exception]]]:
    """Build what each job needs, with nothing written; returns those that are ready, and others.

    data: what they share; each has its own order of the rows.
    """
    ready, broken = [], []
    for job in jobs:
        try:
            own = data.with_shuffle_seed(job.config["data"].get("shuffle_seed", data.shuffle_seed))
            training = prepare(job.config, job.folder, job.overrides, own, quiet=True)
        except Exception as error:  # a network of the user's own may raise anything
            broken.append((job, error))
        else:
            ready.append((job, training))
    return ready, broken


def train_together(trainings: Sequence[Training], progress: SweepProgress) -> list[Outcome]:
    """Train runs that are ready as one stack, and leave their run folders.

    One that fails, in a callback of its own say, leaves the others untouched. Where callbacks have
    changed the networks of some, by freezing weights say, they are several stacks.
    """
    members = [Member(training) for training in trainings]
    outcomes: dict[Member, Outcome] = {}
    try:
        for member in members:
            member.start()
        _note_failures(members, outcomes)
        started = [member for member in members if member not in outcomes]
        groups, _ = group_compatible([member.module for member in started])
        for group in groups:
            stacked = [started[i] for i in group]
            try:
                freeze_unused_parameters(
                    [member.module for member in stacked], stacked[0].training.data
                )
                _train_started(stacked, outcomes, progress)
            except Exception as error:
                _fail_all(stacked, outcomes, _in_words_of_memory(error, len(stacked)))
    except BaseException as error:
        _fail_all(members, outcomes, error)
        if not isinstance(error, Exception):
            raise
    return [outcomes[member] for member in members]


def _train_started(
    members: Sequence[Member], outcomes: dict[Member, Outcome], progress: SweepProgress
) -> None:
    """Train members that have started until all have left; notes the outcome of each."""
    config = members[0].training.config
    first = "/".join(members[0].training.run.path.parts[-2:])
    for member in members:
        member.training.manifest.update(members=len(members), stack=first)
    stack = Stack(
        members, choice=config["compile"], threads=config["num_threads"], say=progress.say
    )

    def leave(leaving: list[Member]) -> None:
        _note_failures(leaving, outcomes)
        outcomes.update(_end_together(stack, leaving))

    fit_stack(stack, config["trainer"], leave, progress)
    if stack.alive():
        raise RuntimeError(f"the training ended before {len(stack.alive())} of its members")
    if reason := stack.runner.skip_reason():
        progress.say(reason)


def _fail_all(
    members: Sequence[Member], outcomes: dict[Member, Outcome], error: BaseException
) -> None:
    """Write the manifests of all that still train, and note the error as their outcome."""
    for member in members:
        if member not in outcomes:
            member.fail(error)
            _write_failure(member, error)
            if isinstance(error, Exception):
                outcomes[member] = error


def _in_words_of_memory(error: Exception, n_members: int) -> Exception:
    """What to do where a stack does not fit into the memory of the device; else the error."""
    if isinstance(error, torch.OutOfMemoryError) and n_members > 1:
        return UserError(
            f"a stack of {n_members} does not fit into the memory of the device: bound it with "
            f"hydra.launcher.max_members={n_members // 2}"
        )
    return error


def _note_failures(members: Sequence[Member], outcomes: dict[Member, Outcome]) -> None:
    """Write what those leave that failed by themselves."""
    for member in members:
        if member.failure is not None:
            _write_failure(member, member.failure)
            outcomes[member] = member.failure


def _write_failure(member: Member, error: BaseException) -> None:
    """Write the manifest of a run that did not come to its end."""
    facts = _describe_training(member) | describe_failure(error)
    with suppress(UserError):  # what it failed of, perhaps
        member.training.run.write_manifest(member.training.manifest | facts)


def _end_together(stack: Stack, leaving: Sequence[Member]) -> dict[Member, Outcome]:
    """Evaluate the members that leave a stack, and write what their runs leave."""
    ended = [member for member in leaving if member.failure is None]
    if not ended:
        return {}
    facts = [_describe_training(member) for member in ended]
    outcomes: dict[Member, Outcome] = {}
    for member, fit, metrics in zip(ended, facts, _evaluate_members(stack, ended), strict=True):
        member.training.manifest.update(fit, compiled=bool(stack.runner.compiled))
        try:
            outcomes[member] = end(member, metrics)
        except UserError as error:  # its folder; those of the others may be sound
            outcomes[member] = error
    return outcomes


def _evaluate_members(stack: Stack, members: Sequence[Member]) -> list[Metrics]:
    """The loss and metrics of each split, for each member as it is now."""
    found: list[Metrics] = [{} for _ in members]
    for split in get_args(Split):
        minibatches = members[0].training.data.minibatches(split, stack.device)
        for metrics, values in zip(found, stack.evaluate(members, minibatches), strict=True):
            metrics[split] = values
    return found


def _describe_training(member: Member) -> dict[str, Any]:
    """What the manifest says of a member's training up to now, or until it diverged."""
    return {
        **member.training.describe_fit(member.seconds),
        "stack_seconds": round(member.stack_seconds, 3),
    }


def end(member: Member, metrics: Metrics) -> Result:
    """Write what a run leaves at its end."""
    manifest = member.training.manifest
    manifest |= member.training.describe_end(metrics)
    if member.left_at_step is not None:
        manifest["status"] = "diverged"
        if not manifest["stop_reason"].startswith("diverged"):
            n_steps = member.left_at_step
            manifest["stop_reason"] = f"diverged: the loss was not finite after step {n_steps}"
    member.training.run.write_metrics(metrics)
    member.training.run.write_manifest(manifest)
    return Result(metrics, manifest)
