"""From a module that is about to be trained to a learning rate for it."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from multilayer.data import DataModule
from multilayer.lr_sweep.analysis import Judgement, judge
from multilayer.lr_sweep.networks import make_pupils, optimizer_at, own_copy
from multilayer.lr_sweep.range_test import RangeTest, judge_ramps
from multilayer.lr_sweep.sequential import ramp, train_alone
from multilayer.lr_sweep.stacked import train_together
from multilayer.lr_sweep.trials import Lesson, Losses, Pupil, joined
from multilayer.stacking.compat import alike
from multilayer.stacking.optimizers import STACKED
from multilayer.stacking.trial import CannotStackError, try_step
from multilayer.training.module import SupervisedModule

log = logging.getLogger(__name__)

Advance = Callable[[int], None]


def sweep_rates(
    modules: Sequence[SupervisedModule],
    seeds: Sequence[int],
    rates: Sequence[float],
    lesson: Lesson,
    data: DataModule,
    *,
    choice: bool | str,
    threads: int | str,
    advance: Advance,
) -> Judgement:
    """Train for a while at every rate with every seed, as a stack where that can be.

    modules: one for each seed; they are not changed.
    choice, threads, advance: see `train_together`.
    """
    pupils = make_pupils(modules, seeds, rates)
    reason = why_alone(pupils[0], modules, data)
    if reason is None:
        losses = train_together(pupils, lesson, choice=choice, threads=threads, advance=advance)
    else:
        log.info(f"lr_sweep: one by one, for {reason}; callbacks.lr_sweep.method=range is quicker")
        losses = train_one_by_one(pupils, lesson, advance)
    return judge(rates, losses)


def why_alone(pupil: Pupil, modules: Sequence[SupervisedModule], data: DataModule) -> str | None:
    """Why the networks cannot be a stack; None where they can."""
    if type(pupil.optimizer) not in STACKED:
        return f"{type(pupil.optimizer).__name__} has no stacked form"
    _, difference = alike(modules)
    if difference:
        return f"the networks of the seeds differ in {difference}"
    try:
        try_step(modules, data)
    except CannotStackError as error:
        return str(error)
    return None


def train_one_by_one(pupils: Sequence[Pupil], lesson: Lesson, advance: Advance) -> Losses:
    """Train each pupil by itself."""
    parts = []
    for pupil in pupils:
        parts.append(train_alone(own_copy(pupil), lesson))
        advance(1)
    return joined(parts, len(pupils))


def ramp_rates(
    modules: Sequence[SupervisedModule],
    seeds: Sequence[int],
    rates: Sequence[float],
    lesson: Lesson,
    *,
    advance: Advance,
) -> RangeTest:
    """One range test for each seed, with a rate a step from the first to the last of `rates`.

    It changes the modules.
    """
    ramped = [float(rate) for rate in np.geomspace(rates[0], rates[-1], lesson.n_steps)]
    ramps = []
    for module, seed in zip(modules, seeds, strict=True):
        pupil = Pupil(module, optimizer_at(module, ramped[0]), seed)
        ramps.append(ramp(pupil, lesson, ramped))
        advance(1)
    return judge_ramps(ramped, ramps)
