"""Runs the short trainings: as stacks, or one after the other where networks do not stack."""

import logging
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import chain, takewhile
from math import ceil, isfinite, nan

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from multilayer.data import Dataset
from multilayer.data.batches import Minibatch
from multilayer.lr_sweep.trials import Trial, TrialLosses, TrialSpec
from multilayer.stacking.block import Block, make_block
from multilayer.stacking.chunks import chunk_rows, epoch_chunks, in_blocks
from multilayer.stacking.compat import CannotStackError, check_stackable, group_compatible
from multilayer.stacking.dropout import draw_keys, key_generator
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import group_of, has_stacked_form, stack_optimizer
from multilayer.stacking.runner import StepRunner
from multilayer.stacking.step import Step
from multilayer.training.components import optimizer_class
from multilayer.training.interrupts import raise_interrupts

log = logging.getLogger(__name__)

_MAX_ROWS_PER_STEP = 2**18
"""Rows of all trials of a block together: the memory of a step grows with them."""


def run_trials(trials: Sequence[Trial], spec: TrialSpec, data: Dataset) -> Iterator[TrialLosses]:
    """Train the trials, stacked if possible; their networks are left as they are.

    Args:
        trials: of a rate and a seed each.
        spec: what they train on.
        data: two of its rows show whether the networks stack.

    Yields:
        The losses of each trial.
    """
    reason = _why_sequential(trials, spec, data)
    if reason is None:
        return _run_stacked(trials, spec)
    log.info(
        f"lr_sweep: one after the other, because {reason}; "
        "callbacks.lr_sweep.method=range is quicker"
    )
    return _run_sequential(trials, spec)


def _why_sequential(trials: Sequence[Trial], spec: TrialSpec, data: Dataset) -> str | None:
    """Why the networks cannot be a stack; None where they can."""
    optimizer = optimizer_class(spec.optimizer_of(trials[0]))
    if not has_stacked_form(optimizer):
        return f"{optimizer.__name__} has no stacked form"
    task_models = list(dict.fromkeys(trial.task_model for trial in trials))  # one for each seed
    _, difference = group_compatible(task_models)
    if difference:
        return f"the networks of the seeds differ in {difference}"
    try:
        check_stackable(task_models, data)
    except CannotStackError as error:
        return str(error)
    return None


def _run_stacked(trials: Sequence[Trial], spec: TrialSpec) -> Iterator[TrialLosses]:
    """Train trials whose networks have the same shape, some blocks at a time.

    All trials of a block take each step together.
    """
    model = StackedModel([trial.task_model for trial in trials])
    optimizers = list(map(spec.optimizer_of, trials))
    optimizer = stack_optimizer(optimizer_class(optimizers[0]), list(map(group_of, optimizers)))
    step = Step(model, optimizer, clips=spec.max_norm is not None)
    device = spec.features.device
    runner = StepRunner(step, choice=spec.compile, threads=spec.num_threads, device=device)
    most = max(1, _MAX_ROWS_PER_STEP // spec.batch_size)
    last = len(trials) - 1  # fills up the last block
    parts = in_blocks(range(len(trials)), min(runner.block_size(len(trials)), most))
    blocks = [[last if k is None else k for k in part] for part in parts]
    example = _make_block(trials, blocks[0], step, spec)
    n_rows = len(next(spec.epochs([0]))[0])
    n_full, rest = divmod(n_rows, spec.batch_size)
    n_epochs = ceil(spec.n_steps / (n_full + (rest > 0)))
    runner.share_threads(example, len(blocks), spec.batch_size)
    for size, n_each in ((spec.batch_size, n_full), (rest, 1)):
        if size and n_each:
            n_steps = n_each * n_epochs * len(blocks)
            runner.prepare(example, spec.features, spec.target, size, n_steps)
    del example
    try:
        runner.use_compiled(0)
    finally:
        runner.close()

    def run(step: Step, members: Sequence[int]) -> list[TrialLosses]:
        return _run_block(trials, members, step, runner, spec)[: len(set(members))]

    n_at_once = runner.workers.n_at_once
    for start in range(0, len(blocks), n_at_once):
        raise_interrupts()
        some = blocks[start : start + n_at_once]
        yield from chain.from_iterable(runner.workers.for_each_block(run, some))


def _make_block(
    trials: Sequence[Trial], members: Sequence[int], step: Step, spec: TrialSpec
) -> Block:
    """The block of some of the trials."""
    own = [trials[k] for k in members]
    groups = [group_of(spec.optimizer_of(trial)) for trial in own]
    task_models = [trial.task_model for trial in own]
    return make_block(step.model, task_models, members, step.optimizer, groups)


def _run_block(
    every: Sequence[Trial],
    members: Sequence[int],
    step: Step,
    runner: StepRunner,
    spec: TrialSpec,
) -> list[TrialLosses]:
    """The losses of the trials of a block."""
    block, trials = _make_block(every, members, step, spec), [every[k] for k in members]
    groups = [group_of(spec.optimizer_of(trial)) for trial in trials]
    generators = [key_generator(trial.seed) for trial in trials]
    clips = None if spec.max_norm is None else [spec.max_norm] * len(trials)
    device = spec.features.device
    before = _losses(step, block, spec.train)
    n_done, curves = 0, []
    for order in spec.epochs([trial.seed for trial in trials]):
        for first, end in epoch_chunks(order.shape[1], spec.batch_size):
            n = end - first
            counts = torch.full((len(trials),), n_done)
            keys = torch.stack([draw_keys(each, n) for each in generators], dim=1)
            numbers = step.coefficients([groups], clips, counts, n).to(block.weights)
            keys = keys.to(device)
            for own, rows in chunk_rows(order, first, end, spec.batch_size):
                inputs = spec.features, spec.target, rows.to(device), numbers[own], keys[own]
                runner.run(step, block, inputs)
            n_done += n
        curves.append(_losses(step, block, spec.validation))
    after = _losses(step, block, spec.train)
    return list(map(TrialLosses, before, after, zip(*curves, strict=True)))


def _losses(step: Step, block: Block, rows: Minibatch) -> list[float]:
    """The losses of rows, one for each member; NaN where it is not finite."""
    loss, _ = step.evaluate(block, *rows)
    losses: list[float] = torch.where(block.alive, loss, torch.nan).float().tolist()
    return losses


def _run_sequential(trials: Sequence[Trial], spec: TrialSpec) -> Iterator[TrialLosses]:
    """Train copies of the trials one after the other, with autograd and torch's own optimizer."""
    for trial in trials:
        copied = replace(trial, task_model=deepcopy(trial.task_model))
        task_model, take_step = copied.task_model, _stepper(copied, spec)
        before = task_model.evaluate([spec.train])["loss"]
        is_alive, curve = True, []
        for (rows,) in spec.epochs([trial.seed]):
            losses = map(take_step, torch.split(rows, spec.batch_size))
            is_alive = is_alive and all(map(isfinite, losses))
            curve.append(task_model.evaluate([spec.validation])["loss"] if is_alive else nan)
        after = task_model.evaluate([spec.train])["loss"] if is_alive else nan
        yield TrialLosses(before, after, curve)


def run_ramp(trial: Trial, spec: TrialSpec, rates: Sequence[float]) -> list[float]:
    """Train one trial in place, with another learning rate in each step.

    Returns:
        The loss of each minibatch. There are fewer than rates where a loss was not finite.
    """
    take_step, epochs = _stepper(trial, spec), spec.epochs([trial.seed])
    minibatches = (each for (rows,) in epochs for each in torch.split(rows, spec.batch_size))
    return list(takewhile(isfinite, map(take_step, minibatches, rates)))


def _stepper(trial: Trial, spec: TrialSpec) -> Callable[..., float]:
    """A function that takes a step on some rows, unless their loss is not finite.

    It is given the rows and, where the optimizer's own rates are not to be used, one learning rate
    for all its parameter groups; it returns the loss before the step.
    """
    torch.manual_seed(trial.seed)
    task_model, optimizer = trial.task_model, spec.optimizer_of(trial)

    def take_step(minibatch: Tensor, rate: float | None = None) -> float:
        raise_interrupts()
        rows = minibatch.to(spec.features.device)
        loss = task_model.loss_of(task_model.output(spec.features[rows]), spec.target[rows])
        value = float(loss.detach())
        if isfinite(value):
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            if spec.max_norm is not None:
                clip_grad_norm_(task_model.parameters(), spec.max_norm)
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate
            optimizer.step()
        return value

    return take_step
