"""Short trainings one after the other, for what does not stack."""

from collections.abc import Sequence
from math import isfinite, nan

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from multilayer.lr_sweep.lesson import Lesson, Losses, Pupil, Rows
from multilayer.modules import SupervisedModule, squeeze_single


def train_alone(pupil: Pupil, lesson: Lesson) -> Losses:
    """Train one pupil with autograd and torch's own optimizer."""
    torch.manual_seed(pupil.seed)
    before = loss_of(pupil.module, lesson.train)
    is_alive, validation = True, []
    for (rows,) in lesson.epochs([pupil.seed]):
        for minibatch in torch.split(rows, lesson.batch_size):
            is_alive = is_alive and isfinite(take_step(pupil, lesson, minibatch))
        validation.append(loss_of(pupil.module, lesson.validation) if is_alive else nan)
    after = loss_of(pupil.module, lesson.train) if is_alive else nan
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
    loss = loss_on(pupil.module, lesson.features[rows], lesson.target[rows])
    value = loss.item()
    if isfinite(value):
        pupil.optimizer.zero_grad()
        torch.autograd.backward(loss)
        if lesson.clip is not None:
            clip_grad_norm_(pupil.module.parameters(), lesson.clip)
        pupil.optimizer.step()
    return value


def loss_on(module: SupervisedModule, features: Tensor, target: Tensor) -> Tensor:
    """The loss of some rows, a scalar."""
    loss: Tensor = module.loss(squeeze_single(module.network(features)), target)
    return loss


@torch.no_grad()
def loss_of(module: SupervisedModule, rows: Rows) -> float:
    """The loss of rows, without learning from them."""
    module.eval()
    loss = loss_on(module, *rows).item()
    module.train()
    return loss
