"""Short trainings one after the other, for what does not stack."""

from collections.abc import Sequence
from math import isfinite, nan

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from multilayer.lr_sweep.trials import Lesson, Losses, Pupil


def train_alone(pupil: Pupil, lesson: Lesson) -> Losses:
    """Train one pupil with autograd and torch's own optimizer."""
    torch.manual_seed(pupil.seed)
    before = pupil.module.evaluate([lesson.train])["loss"]
    is_alive, validation = True, []
    for (rows,) in lesson.epochs([pupil.seed]):
        for minibatch in torch.split(rows, lesson.batch_size):
            is_alive = is_alive and isfinite(take_step(pupil, lesson, minibatch))
        validation.append(pupil.module.evaluate([lesson.validation])["loss"] if is_alive else nan)
    after = pupil.module.evaluate([lesson.train])["loss"] if is_alive else nan
    return Losses(torch.tensor([before]), torch.tensor([after]), torch.tensor([validation]))


def ramp(pupil: Pupil, lesson: Lesson, rates: Sequence[float]) -> list[float]:
    """Train one pupil with another rate in each step; returns the losses of the minibatches.

    It ends before the last rate where a loss is not finite.
    """
    torch.manual_seed(pupil.seed)
    minibatches = (
        minibatch
        for (rows,) in lesson.epochs([pupil.seed])
        for minibatch in torch.split(rows, lesson.batch_size)
    )
    losses: list[float] = []
    for rate, minibatch in zip(rates, minibatches, strict=True):
        for group in pupil.optimizer.param_groups:
            group["lr"] = rate
        loss = take_step(pupil, lesson, minibatch)
        if not isfinite(loss):
            break
        losses.append(loss)
    return losses


def take_step(pupil: Pupil, lesson: Lesson, minibatch: Tensor) -> float:
    """One step on some rows, but where their loss is not finite; returns the loss before it."""
    rows = minibatch.to(lesson.features.device)
    loss = pupil.module.loss_of(pupil.module.output(lesson.features[rows]), lesson.target[rows])
    value = float(loss.detach())
    if isfinite(value):
        pupil.optimizer.zero_grad()
        torch.autograd.backward(loss)
        if lesson.clip is not None:
            clip_grad_norm_(pupil.module.parameters(), lesson.clip)
        pupil.optimizer.step()
    return value
