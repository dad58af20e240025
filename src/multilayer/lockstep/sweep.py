"""Training the jobs of a stack together, from their configs to their run folders."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, get_args

from multilayer.data import DataModule
from multilayer.data.datamodule import in_words
from multilayer.data.split import Split
from multilayer.errors import UserError
from multilayer.lockstep.engine import fit_stack
from multilayer.lockstep.member import Member
from multilayer.lockstep.plan import Job, reason_to_be_alone
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.stack import Stack
from multilayer.lockstep.trial import CannotStackError, try_to_stack
from multilayer.runs.folder import Metrics
from multilayer.runs.manifest import record_failure
from multilayer.train import (
    Result,
    Training,
    describe_end,
    describe_failure,
    describe_fit,
    prepare,
)

log = logging.getLogger(__name__)

Outcome = Result | UserError


def train_stack_of_one(training: Training) -> Result:
    """Train a single run through the stack's engine, with `engine=lockstep`.

    Raises `UserError` where it cannot be.
    """
    reason = reason_to_be_alone(training.config)
    if reason:
        raise UserError(f"engine=lockstep: {reason}; use engine=lightning")
    try:
        try_to_stack([training])
    except CannotStackError as error:
        raise UserError(f"engine=lockstep: {error}; use engine=lightning") from error
    log.info(f"data: {in_words(training.data)}")
    with SweepProgress(1) as progress:
        (result,) = train_together([training], progress)
    return result


def train_jobs(
    jobs: Sequence[Job], data: DataModule, progress: SweepProgress
) -> dict[int, Outcome]:
    """Train jobs that stack; returns the outcome of each by its number.

    Raises `CannotStackError`, with nothing written, where they do not after all.
    """
    outcomes: dict[int, Outcome] = {}
    ready: dict[int, Training] = {}
    for job in jobs:
        own = data.in_another_order(job.config["data"]["shuffle_seed"])
        try:
            ready[job.number] = prepare(job.config, job.folder, job.overrides, own, quiet=True)
        except UserError as error:
            outcomes[job.number] = error
    if ready:
        try_to_stack(list(ready.values()))
    for job in jobs:
        problem = outcomes.get(job.number)
        if isinstance(problem, UserError):
            record_failure(job.folder, job.config, job.overrides, problem)
    if ready:
        results = train_together(list(ready.values()), progress)
        outcomes |= dict(zip(ready, results, strict=True))
    return outcomes


def train_together(trainings: Sequence[Training], progress: SweepProgress) -> list[Result]:
    """Train runs that are ready as one stack, and leave their run folders."""
    members = [Member(training) for training in trainings]
    results: dict[Member, Result] = {}
    for training in trainings:
        training.run.write_config(training.config)
    with recorded(members, results):
        for member in members:
            member.start()
        config = trainings[0].config
        stack = Stack(members, choice=config["compile"], threads=config["threads"])

        def leave(leaving: list[Member]) -> None:
            facts = [describe_training(member) for member in leaving]
            metrics = evaluate_members(stack, leaving)
            for member, fit, own in zip(leaving, facts, metrics, strict=True):
                member.training.manifest.update(fit, compiled=bool(stack.runner.compiled))
                results[member] = end(member, own)

        fit_stack(stack, config["trainer"], leave, progress)
    return [results[member] for member in members]


@contextmanager
def recorded(members: Sequence[Member], results: dict[Member, Result]) -> Iterator[None]:
    """Write the manifests at the start; at an end before time, those of the unfinished runs."""
    for member in members:
        training = member.training
        training.manifest["members"] = len(members)
        training.run.write_manifest(training.manifest)
    try:
        yield
    except BaseException as error:
        for member in members:
            if member not in results:
                member.fail(error)
                facts = describe_training(member) | describe_failure(error)
                member.training.run.write_manifest(member.training.manifest | facts)
        raise


def evaluate_members(stack: Stack, members: Sequence[Member]) -> list[Metrics]:
    """The loss and metrics of each split, for each member as it is now."""
    found: list[Metrics] = [{} for _ in members]
    for split in get_args(Split):
        minibatches = members[0].training.data.minibatches(split, stack.device)
        for metrics, values in zip(found, stack.evaluate(members, minibatches), strict=True):
            metrics[split] = values
    return found


def describe_training(member: Member) -> dict[str, Any]:
    """What the manifest says of a member's training up to now, or until it diverged."""
    diverged_at = member.left_at_step
    n_steps = member.trainer.global_step if diverged_at is None else diverged_at
    return describe_fit(member.trainer, perf_counter() - member.started, n_steps)


def end(member: Member, metrics: Metrics) -> Result:
    """Write what a run leaves at its end."""
    manifest = member.training.manifest
    manifest |= describe_end(member.trainer, metrics)
    if member.left_at_step is not None:
        manifest["status"] = "diverged"
        if not manifest["stop_reason"].startswith("diverged"):
            n_steps = member.left_at_step
            manifest["stop_reason"] = f"diverged: the loss was not finite after step {n_steps}"
    member.training.run.write_metrics(metrics)
    member.training.run.write_manifest(manifest)
    return Result(metrics, manifest)
