"""Learning-rate schedules that torch lacks; the rest are torch's own, by name in the config."""

from math import ceil, cos, pi
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR


def cosine(
    optimizer: Optimizer,
    *,
    n_steps: int,
    warmup_fraction: float = 0.05,
    final_fraction: float = 0.0,
) -> LambdaLR:
    """A linear rise to the optimizer's rate, then half a cosine down; one call a step.

    From Loshchilov and Hutter 2017, equation 5, without restarts. The cosine reaches its end one
    step after the last: a step at rate 0 would be for nothing.

    Args:
        optimizer: whose rate it moves.
        n_steps: the length of the whole schedule, in optimizer steps.
        warmup_fraction: the share of the steps in which the rate rises.
        final_fraction: the rate after the last step, as a share of the optimizer's.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> scheduler = cosine(sgd, n_steps=10, warmup_fraction=0.2)
    >>> rates = []
    >>> for _ in range(11):
    ...     rates.append(round(scheduler.get_last_lr()[0], 3))
    ...     sgd.step()
    ...     scheduler.step()
    >>> rates
    [0.5, 1.0, 0.97, 0.883, 0.75, 0.587, 0.413, 0.25, 0.117, 0.03, 0.0]
    """
    if not 0.0 <= warmup_fraction < 1.0:
        raise ValueError(f"warmup_fraction must be at least 0 and below 1, got {warmup_fraction}")
    if not 0.0 <= final_fraction <= 1.0:
        raise ValueError(f"final_fraction must be from 0 to 1, got {final_fraction}")
    n_warmup = ceil(round(warmup_fraction * n_steps, 6))  # 0.07 * 100 is a little more than 7

    def factor(step: int) -> float:
        if step < n_warmup:
            return (step + 1) / n_warmup
        progress = min(1.0, (step - n_warmup + 1) / (n_steps - n_warmup + 1))
        return final_fraction + (1 - final_fraction) * (1 + cos(pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def one_cycle(optimizer: Optimizer, *, max_lr: float | None = None, **arguments: Any) -> OneCycleLR:
    """The `OneCycleLR` of torch, whose peak is the optimizer's own rate unless another is named.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> scheduler = one_cycle(sgd, total_steps=10, cycle_momentum=False)
    >>> round(scheduler.get_last_lr()[0], 3)
    0.04
    """
    peaks = [group["lr"] if max_lr is None else max_lr for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, **arguments)
