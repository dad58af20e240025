"""Trials as stacks: all of a stack take each step together."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from multilayer.data.batches import Minibatch
from multilayer.lr_sweep.trials import Trial, TrialLosses, TrialSpec, concat
from multilayer.stacking.block import Block, Step, make_block
from multilayer.stacking.chunks import calls, rows_of_call
from multilayer.stacking.model import Template, draw_keys, key_generator
from multilayer.stacking.optimizers import group_of, stack_optimizer
from multilayer.stacking.runner import Runner

_MAX_ROWS_PER_STEP = 2**18
"""Rows of all trials of a block together: the memory of a step grows with them."""


def run_stacked(
    trials: Sequence[Trial], spec: TrialSpec, advance: Callable[[int], None]
) -> TrialLosses:
    """Train trials whose networks have the same shape, block by block.

    Args:
        trials: of a rate and a seed each; their modules are left as they are.
        spec: what they train on.
        advance: called with the number of trials that have just ended.
    """
    template = Template([trial.module for trial in trials])
    optimizer = stack_optimizer([trial.optimizer for trial in trials])
    names = optimizer.number_names() + ("clip",) * (spec.max_norm is not None)
    step = Step(template, optimizer, names)
    blocks = _equal_parts(
        len(trials), min(step.most_members(), max(1, _MAX_ROWS_PER_STEP // spec.batch_size))
    )
    device = trials[0].module.device
    runner = Runner(step, choice=spec.compile, threads=spec.num_threads, device=device)
    parts = []
    for number, members in enumerate(blocks):
        n_steps_left = (len(blocks) - number) * spec.n_steps
        own = [trials[k] for k in members]
        parts.append(_run_block(own, members, step, runner, spec, n_steps_left))
        advance(len(set(members)))
    return concat(parts, len(trials))


def _run_block(
    trials: Sequence[Trial],
    members: Sequence[int],
    step: Step,
    runner: Runner,
    spec: TrialSpec,
    n_steps_left: int,
) -> TrialLosses:
    """The losses of the trials of a block, which are these members of the stack."""
    groups = [group_of(trial.optimizer) for trial in trials]
    modules = [trial.module for trial in trials]
    block = make_block(step.template, modules, members, step.optimizer, groups)
    generators = [key_generator(trial.seed) for trial in trials]
    clips = None if spec.max_norm is None else [spec.max_norm] * len(trials)
    device = spec.features.device
    before = _losses(step, block, spec.train)
    n_done, validation = 0, []
    for order in spec.epochs([trial.seed for trial in trials]):
        for first, end in calls(order.shape[1], spec.batch_size):
            n = end - first
            keys = torch.stack([draw_keys(each, n) for each in generators], dim=1)
            inputs = (
                spec.features,
                spec.target,
                rows_of_call(order, first, end, spec.batch_size).to(device),
                step.numbers([groups], clips, n_done, n).to(block.weights),
                keys.to(device),
            )
            runner.run(block, inputs, n_steps_left - n_done)
            n_done += n
        validation.append(_losses(step, block, spec.validation))
    return TrialLosses(before, _losses(step, block, spec.train), torch.stack(validation, dim=1))


def _losses(step: Step, block: Block, rows: Minibatch) -> Tensor:
    """The losses `(K,)` of rows, on the CPU; NaN for members whose loss is not finite."""
    loss, _ = step.evaluate(block, *rows)
    return torch.where(block.alive, loss, torch.nan).float().cpu()


def _equal_parts(n: int, max_size: int) -> list[list[int]]:
    """The numbers below `n` in parts of equal size; the last number fills up the last part.

    >>> _equal_parts(5, max_size=2)
    [[0, 1], [2, 3], [4, 4]]
    """
    n_parts = -(-n // max_size)
    numbers = np.arange(n_parts * -(-n // n_parts)).clip(max=n - 1)
    parts: list[list[int]] = numbers.reshape(n_parts, -1).tolist()
    return parts
