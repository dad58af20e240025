"""Trials one after the other, for networks and optimizers that do not stack."""

from collections.abc import Callable, Sequence
from math import isfinite, nan

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from multilayer.lr_sweep.trials import Trial, TrialLosses, TrialSpec, concat


def run_sequential(
    trials: Sequence[Trial], spec: TrialSpec, advance: Callable[[int], None]
) -> TrialLosses:
    """Train copies of the trials, with autograd and torch's own optimizer.

    Args:
        trials: of a rate and a seed each; their modules are left as they are.
        spec: what they train on.
        advance: called with 1 after each trial.
    """
    parts = []
    for trial in trials:
        parts.append(_run_alone(trial.copied(), spec))
        advance(1)
    return concat(parts, len(trials))


def _run_alone(trial: Trial, spec: TrialSpec) -> TrialLosses:
    """Train one trial in place."""
    torch.manual_seed(trial.seed)
    before = trial.module.evaluate([spec.train])["loss"]
    is_alive, validation = True, []
    for (rows,) in spec.epochs([trial.seed]):
        for minibatch in torch.split(rows, spec.batch_size):
            is_alive = is_alive and isfinite(_take_step(trial, spec, minibatch))
        validation.append(trial.module.evaluate([spec.validation])["loss"] if is_alive else nan)
    after = trial.module.evaluate([spec.train])["loss"] if is_alive else nan
    return TrialLosses(torch.tensor([before]), torch.tensor([after]), torch.tensor([validation]))


def run_ramp(trial: Trial, spec: TrialSpec, rates: Sequence[float]) -> list[float]:
    """Train one trial in place, with another learning rate in each step.

    Returns:
        The loss of each minibatch. There are fewer than rates where a loss was not finite.
    """
    torch.manual_seed(trial.seed)
    minibatches = (
        minibatch
        for (rows,) in spec.epochs([trial.seed])
        for minibatch in torch.split(rows, spec.batch_size)
    )
    losses: list[float] = []
    for rate, minibatch in zip(rates, minibatches, strict=True):
        for group in trial.optimizer.param_groups:
            group["lr"] = rate
        loss = _take_step(trial, spec, minibatch)
        if not isfinite(loss):
            break
        losses.append(loss)
    return losses


def _take_step(trial: Trial, spec: TrialSpec, minibatch: Tensor) -> float:
    """Take a step on some rows unless their loss is not finite; returns the loss before it."""
    rows = minibatch.to(spec.features.device)
    loss = trial.module.loss_of(trial.module.output(spec.features[rows]), spec.target[rows])
    value = float(loss.detach())
    if isfinite(value):
        trial.optimizer.zero_grad()
        torch.autograd.backward(loss)
        if spec.max_norm is not None:
            clip_grad_norm_(trial.module.parameters(), spec.max_norm)
        trial.optimizer.step()
    return value
