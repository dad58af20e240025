"""From a module that is about to be trained to a learning rate for it."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from multilayer.data import DataModule
from multilayer.lr_sweep.analysis import LRSweepResult, analyze_sweep
from multilayer.lr_sweep.range_test import RangeTestResult, analyze_ramps
from multilayer.lr_sweep.sequential import run_ramp, run_sequential
from multilayer.lr_sweep.stacked import run_stacked
from multilayer.lr_sweep.trials import Trial, TrialSpec
from multilayer.stacking.compat import alike
from multilayer.stacking.optimizers import STACKED
from multilayer.stacking.trial import CannotStackError, try_step

log = logging.getLogger(__name__)


def run_sweep(
    trials: Sequence[Trial],
    rates: Sequence[float],
    spec: TrialSpec,
    data: DataModule,
    advance: Callable[[int], None],
) -> LRSweepResult:
    """Run the trials, stacked if possible, and analyze their losses.

    Args:
        trials: for each learning rate those of all seeds; their modules are left as they are.
        rates: the learning rates, ascending.
        spec: what the trials train on.
        data: two of its rows show whether the networks stack.
        advance: called with the number of trials that have just ended.
    """
    reason = _why_sequential(trials, data)
    if reason is None:
        return analyze_sweep(rates, run_stacked(trials, spec, advance))
    log.info(
        f"lr_sweep: one after the other, because {reason}; "
        "callbacks.lr_sweep.method=range is quicker"
    )
    return analyze_sweep(rates, run_sequential(trials, spec, advance))


def _why_sequential(trials: Sequence[Trial], data: DataModule) -> str | None:
    """Why the networks cannot be a stack; None where they can."""
    optimizer = type(trials[0].optimizer)
    if optimizer not in STACKED:
        return f"{optimizer.__name__} has no stacked form"
    modules = list(dict.fromkeys(trial.module for trial in trials))  # one for each seed
    _, difference = alike(modules)
    if difference:
        return f"the networks of the seeds differ in {difference}"
    try:
        try_step(modules, data)
    except CannotStackError as error:
        return str(error)
    return None


def run_range_test(
    trials: Sequence[Trial],
    rates: Sequence[float],
    spec: TrialSpec,
    advance: Callable[[int], None],
) -> RangeTestResult:
    """Run the trials one after the other, with rising learning rates, and analyze their losses.

    Args:
        trials: one for each seed; they are trained in place.
        rates: the rates rise from the first of these to the last, log-spaced over the steps.
        spec: what the trials train on.
        advance: called with 1 after each trial.
    """
    rising = np.geomspace(rates[0], rates[-1], spec.n_steps).tolist()
    ramps = []
    for trial in trials:
        ramps.append(run_ramp(trial, spec, rising))
        advance(1)
    return analyze_ramps(rising, ramps)
