"""Short trainings as a stack: all take each step together."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from multilayer.data.batches import Minibatch
from multilayer.lr_sweep.trials import Lesson, Losses, Pupil, joined
from multilayer.stacking.block import Block, Step, make_block
from multilayer.stacking.chunks import calls, rows_of_call
from multilayer.stacking.model import Template, draw_keys, key_generator
from multilayer.stacking.optimizers import group_of, stack_optimizer
from multilayer.stacking.runner import Runner

Advance = Callable[[int], None]

ROWS_A_STEP = 2**18
"""Of all pupils of a block together: what a step holds beside the weights grows with its rows."""


def train_together(
    pupils: Sequence[Pupil],
    lesson: Lesson,
    *,
    choice: bool | str,
    threads: int | str,
    advance: Advance,
) -> Losses:
    """Train pupils whose networks are alike, block by block.

    choice, threads: see `Runner`.
    advance: told how many pupils have ended.
    """
    template = Template([pupil.module for pupil in pupils])
    optimizer = stack_optimizer([pupil.optimizer for pupil in pupils])
    names = optimizer.number_names() + ("clip",) * (lesson.clip is not None)
    step = Step(template, optimizer, names)
    most = min(step.most_members(), max(1, ROWS_A_STEP // lesson.batch_size))
    blocks = equal_parts(len(pupils), most)
    device = pupils[0].module.device
    runner = Runner(step, choice=choice, threads=threads, device=device)
    parts = []
    for number, places in enumerate(blocks):
        n_ahead = (len(blocks) - number) * lesson.n_steps
        own = [pupils[k] for k in places]
        parts.append(train_block(own, places, step, runner, lesson, n_ahead))
        advance(len(set(places)))
    return joined(parts, len(pupils))


def train_block(
    pupils: Sequence[Pupil],
    places: Sequence[int],
    step: Step,
    runner: Runner,
    lesson: Lesson,
    n_ahead: int,
) -> Losses:
    """The losses of the pupils of a block.

    places: which of the stack they are.
    n_ahead: the steps of blocks until the end.
    """
    groups = [group_of(pupil.optimizer) for pupil in pupils]
    modules = [pupil.module for pupil in pupils]
    block = make_block(step.template, modules, places, step.optimizer, groups)
    generators = [key_generator(pupil.seed) for pupil in pupils]
    clips = None if lesson.clip is None else [lesson.clip] * len(pupils)
    device = lesson.features.device
    before = look(step, block, lesson.train)
    n_done, validation = 0, []
    for order in lesson.epochs([pupil.seed for pupil in pupils]):
        for first, end in calls(order.shape[1], lesson.batch_size):
            n = end - first
            keys = torch.stack([draw_keys(each, n) for each in generators], dim=1)
            inputs = (
                lesson.features,
                lesson.target,
                rows_of_call(order, first, end, lesson.batch_size).to(device),
                step.numbers([groups], clips, n_done, n).to(block.weights),
                keys.to(device),
            )
            runner.run(block, inputs, n_ahead - n_done)
            n_done += n
        validation.append(look(step, block, lesson.validation))
    return Losses(before, look(step, block, lesson.train), torch.stack(validation, dim=1))


def look(step: Step, block: Block, rows: Minibatch) -> Tensor:
    """The losses `(K,)` of rows, on the CPU; NaN for those that have left."""
    loss, _ = step.evaluate(block, *rows)
    return torch.where(block.alive, loss, torch.nan).float().cpu()


def equal_parts(n: int, most: int) -> list[list[int]]:
    """The numbers below `n` in parts of equal size; the last number fills up the last part.

    >>> equal_parts(5, most=2)
    [[0, 1], [2, 3], [4, 4]]
    """
    n_parts = -(-n // most)
    size = -(-n // n_parts)
    return [
        [min(k, n - 1) for k in range(start, start + size)]
        for start in range(0, n_parts * size, size)
    ]
