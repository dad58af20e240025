"""Training the jobs of a stack together, from their configs to their run folders."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

from multilayer.build import check_components, make_data
from multilayer.callbacks.best_weights import find_best_weights
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
from multilayer.train import Result, Training, describe_end, prepare, with_absolute_path

log = logging.getLogger(__name__)

Outcome = Result | UserError


def train_alone(
    config: dict[str, Any], folder: str | Path, overrides: Sequence[str], *, quiet: bool
) -> Result:
    """Train a single run as a stack of one, with `engine=lockstep`.

    Raises `UserError` where it cannot be.
    """
    reason = reason_to_be_alone(config)
    if reason:
        raise UserError(f"engine=lockstep: {reason}; use engine=lightning")
    config = with_absolute_path(config)
    check_components(config)
    data = make_data(config)
    data.setup()
    job = Job(0, config, Path(folder), overrides)
    training = prepare(config, folder, overrides, data, quiet=quiet)
    try:
        try_to_stack([training])
    except CannotStackError as error:
        raise UserError(f"engine=lockstep: {error}; use engine=lightning") from error
    log.info(f"data: {in_words(data)}")
    with SweepProgress(1) as progress:
        (outcome,) = train_together([(job, training)], progress)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def train_jobs(
    jobs: Sequence[Job], data: DataModule, progress: SweepProgress
) -> dict[int, Outcome]:
    """Train jobs that stack; returns the outcome of each by its number.

    Raises `CannotStackError`, with nothing written, where they do not after all.
    """
    outcomes: dict[int, Outcome] = {}
    broken: list[tuple[Job, UserError]] = []
    ready = []
    for job in jobs:
        own = data.in_another_order(job.config["data"]["shuffle_seed"])
        try:
            ready.append((job, prepare(job.config, job.folder, job.overrides, own, quiet=True)))
        except UserError as error:
            broken.append((job, error))
    if ready:
        try_to_stack([training for _, training in ready])
    for job, problem in broken:
        record_failure(job.folder, job.config, job.overrides, problem)
        outcomes[job.number] = problem
    if ready:
        found = train_together(ready, progress)
        outcomes |= {job.number: outcome for (job, _), outcome in zip(ready, found, strict=True)}
    return outcomes


def train_together(ready: Sequence[tuple[Job, Training]], progress: SweepProgress) -> list[Outcome]:
    """Train runs that are ready as one stack, and leave their run folders."""
    members = [Member(training) for _, training in ready]
    results: dict[Member, Result] = {}
    for member in members:
        member.training.run.write_config(member.training.config)
    with recorded(members, results):
        for member in members:
            member.start()
        config = members[0].training.config
        stack = Stack(members, choice=config["compile"], threads=config["threads"])

        def leave(leaving: list[Member]) -> None:
            facts = [describe_fit(member) for member in leaving]
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
        interrupted = isinstance(error, KeyboardInterrupt)
        ending = {
            "status": "interrupted" if interrupted else "failed",
            "stop_reason": "interrupted by the user"
            if interrupted
            else f"{type(error).__name__}: {error}",
        }
        for member in members:
            if member not in results:
                member.fail(error)
                manifest = member.training.manifest | describe_fit(member) | ending
                member.training.run.write_manifest(manifest)
        raise


def evaluate_members(stack: Stack, members: Sequence[Member]) -> list[Metrics]:
    """The loss and metrics of each split, for each member as it is now."""
    found: list[Metrics] = [{} for _ in members]
    for split in get_args(Split):
        minibatches = members[0].training.data.minibatches(split, stack.device)
        for metrics, values in zip(found, stack.evaluate(members, minibatches), strict=True):
            metrics[split] = values
    return found


def describe_fit(member: Member) -> dict[str, Any]:
    """What the manifest says of the training: how long, how far, and the best epoch."""
    seconds = perf_counter() - member.started
    best = find_best_weights(member.trainer)
    n_steps = member.left_at_step
    n_steps = member.trainer.global_step if n_steps is None else n_steps
    return {
        "fit_seconds": round(seconds, 3),
        "steps": n_steps,
        "steps_per_second": round(n_steps / seconds, 1),
        "best_epoch": best.best_epoch if best else None,
    }


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
