"""The callback that finds a learning rate before a fit, which then uses it."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from torch.optim import Optimizer

from multilayer.core.errors import UserError
from multilayer.core.files import write_text
from multilayer.core.text import counted
from multilayer.data.dataset import overridden_loader
from multilayer.lr_sweep.analysis import LearningRateResult, analyze_ramps, analyze_sweep
from multilayer.lr_sweep.plot import draw
from multilayer.lr_sweep.run import run_ramp, run_trials
from multilayer.lr_sweep.trials import TrialSpec, make_trials
from multilayer.plotting.style import save_figure
from multilayer.runs.console import progress_bar
from multilayer.runs.folder import RunFolder
from multilayer.training.components import with_lr
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.runtime import autocast_of, ready_memory

log = logging.getLogger(__name__)

_METHODS = ("training_step", "step", "output", "configure_optimizers", "optimizer_step", "backward")
"""What a trial does itself: a module that overrides one of these would train otherwise."""

_RANGE_TEST_STEPS = 200

_PRECISIONS = ("32-true", "32", "16-mixed", "bf16-mixed")


@dataclass(kw_only=True, eq=False)
class LearningRateSweep(EpochCallback):
    """Short trainings at many learning rates, as one stack; the fit then uses the best of them.

    The fit is bit for bit the one with that rate given by hand: the trials have weights, rows and
    random numbers of their own.

    Args:
        folder: where `lr_sweep.csv`, `figures/lr_sweep.png` and the config with the rate go.
        method: "sweep" tries each rate in separate trials; "range" lets the rate rise within one
            trial per seed, which is quicker where networks do not stack.
        min_lr: the smallest learning rate.
        max_lr: the largest one.
        n_rates: how many there are, log-spaced.
        n_seeds: trials of each rate, with other initial weights, order of the rows and dropout.
        fraction: of the steps of the whole training, for each trial.
        max_steps: optimizer steps of a trial.
        compile: "auto", or whether to compile the trials' steps.
        num_threads: "auto", or the number of CPU threads of the trials.

    Attributes:
        suggested: the learning rate; None before the fit.

    Raises:
        ValueError: for arguments out of range.

    >>> from multilayer.training import lightning_callbacks
    >>> sweep = LearningRateSweep(folder="runs/mine", min_lr=1e-4, max_lr=1.0, n_rates=12)
    >>> callbacks = lightning_callbacks(sweep)
    >>> print(sweep.suggested)
    None
    """

    STATE = (("suggested", "suggested"),)

    folder: str | Path
    method: Literal["sweep", "range"] = "sweep"
    min_lr: float = 1e-6
    max_lr: float = 10.0
    n_rates: int = 24
    n_seeds: int = 3
    fraction: float = 0.2
    max_steps: int = 1000
    compile: bool | str = "auto"
    num_threads: int | str = "auto"

    def __post_init__(self) -> None:
        has_threads = self.num_threads == "auto" or _is_count(self.num_threads, 1)
        expectations = [
            ("method", "sweep or range", self.method in ("sweep", "range")),
            ("min_lr", "above 0 and below max_lr", 0 < self.min_lr < self.max_lr),
            ("max_lr", "finite", self.max_lr < inf),
            ("n_rates", "a whole number from 3 on", _is_count(self.n_rates, 3)),
            ("n_seeds", "a whole number from 1 on", _is_count(self.n_seeds, 1)),
            ("fraction", "above 0 and at most 1", 0 < self.fraction <= 1),
            ("max_steps", "a whole number from 1 on", _is_count(self.max_steps, 1)),
            ("compile", "auto, true or false", self.compile in ("auto", True, False)),
            ("num_threads", "auto or a whole number from 1 on", has_threads),
        ]
        problems = [
            f"{name} must be {expected}, got {getattr(self, name)}"
            for name, expected, is_met in expectations
            if not is_met
        ]
        if problems:
            raise ValueError("; ".join(problems))
        self.run = RunFolder(self.folder)
        self.reset()

    def reset(self, n_runs: int = 1) -> None:
        """Begin without a rate."""
        self.suggested: float | None = None
        self.seconds_apart = 0.0
        self.entries: dict[str, Any] = {}

    def on_fit_start(self, record: Record) -> None:
        """Try the rates, and set up the optimizer and the schedule with the suggested one.

        Raises:
            UserError: where trials would not be the beginning of the real training, where the
                optimizer takes no `lr`, and where every rate diverges.
        """
        _check_supported(record)
        start = perf_counter()
        if record.is_resumed:
            log.info("lr_sweep: skipped, since the run is resumed; its config has the rate")
        else:
            self.suggested = self._find_on_rank_zero(record)
            self.apply_lr(record, self.suggested)
        self.seconds_apart = perf_counter() - start
        self.entries["lr_sweep_seconds"] = round(self.seconds_apart, 3)

    def manifest_entries(self, k: int = 0) -> dict[str, Any]:
        """What the manifest says of the sweep."""
        return self.entries

    def _find_on_rank_zero(self, record: Record) -> float:
        """Find the rate in the first of several processes, and send it to the others."""
        found: float | str = ""
        if record.writes_files:
            try:
                result = self.find(record)
                self.write_outputs(record, result)
                found = result.suggested
            except UserError as error:
                found = str(error)
        found = record.agree(found)
        if isinstance(found, str):
            raise UserError(found)
        return found

    def find(self, record: Record) -> LearningRateResult:
        """Run the trials and analyze them; the run is left as it is."""
        start, is_sweep = perf_counter(), self.method == "sweep"
        options: Any = {"compile": self.compile, "num_threads": self.num_threads}
        data, spec, n_rates = record.data, TrialSpec.of(record, **options), self.n_rates
        if is_sweep:
            spec = spec.shortened(self.fraction, self.max_steps)
        else:
            spec, n_rates = replace(spec, n_steps=_RANGE_TEST_STEPS), _RANGE_TEST_STEPS
        rates: list[float] = np.geomspace(self.min_lr, self.max_lr, n_rates).tolist()
        n_trials = self.n_seeds * (n_rates if is_sweep else 1)
        each, steps = " each" * (n_trials > 1), counted(spec.n_steps, "step")
        log.info(f"lr_sweep: {counted(n_trials, 'short training')} of {steps}{each}")
        result: LearningRateResult
        console = Console(stderr=True, markup=False)
        progress = progress_bar("learning rates", console, shown=record.shows_progress)
        with _random_numbers_kept(record.device), ready_memory(), progress as bar:
            track = partial(bar.track, task_id=bar.add_task("", total=n_trials, words=""))
            with record.inspect() as task_model:
                first = rates if is_sweep else rates[:1]
                trials = make_trials(task_model, data, first, self.n_seeds, spec.features.device)
            with autocast_of(record.trainer_config["precision"], record.device):
                if is_sweep:
                    result = analyze_sweep(rates, track(run_trials(trials, spec, data), n_trials))
                else:
                    ramps = [run_ramp(trial, spec, rates) for trial in track(trials)]
                    result = analyze_ramps(rates, ramps)
        for line in (*result.describe(), f"took {perf_counter() - start:.1f} s"):
            log.info(f"lr_sweep: {line}")
        return result

    def write_outputs(self, record: Record, result: LearningRateResult) -> None:
        """Write the table and the figure, and warn of a rate on the edge."""
        if warning := result.warning():
            log.warning(f"lr_sweep: {warning}")
        figure = draw(result)
        write_text(self.run.path / "lr_sweep.csv", result.table().write_csv())
        save_figure(figure, self.run.path / "figures" / "lr_sweep.png")
        record.log_image("lr_sweep", figure, step=0)

    def apply_lr(self, record: Record, lr: float) -> None:
        """Train with a learning rate, and record it where the run's config is kept.

        Raises:
            UserError: where the rate would change nothing.
        """
        before = _rates_of(record.optimizer())
        record.use_lr(lr)
        optimizer = record.optimizer()
        is_same = _rates_of(optimizer) == before and lr not in before
        if optimizer.defaults["lr"] != lr or is_same:
            raise UserError(
                f"callbacks.lr_sweep: the rate {lr:.2g} has no effect, because the schedule has a "
                "rate of its own; leave that out, or the sweep"
            )
        if record.writes_files and self.run.config_file.exists():
            config = with_lr(self.run.read_config(), lr)
            self.entries["config_hash"] = self.run.write_config(config)


def _is_count(value: Any, least: int) -> bool:
    """Whether a value is a whole number and large enough."""
    return isinstance(value, int) and value >= least


def _check_supported(record: Record) -> None:
    """Raise `UserError` where a trial would not be the beginning of the real training."""
    config, own_loader = record.trainer_config, overridden_loader(type(record.data))
    with record.inspect() as task_model:
        kind = type(task_model)
    own_step = _overridden_step(kind)
    if own_step or own_loader:
        owner = (kind if own_step else type(record.data)).__name__
        problem = f"{owner} has a {own_step or own_loader} of its own, which it does not know"
    elif config.get("gradient_clip_algorithm") == "value":
        problem = "it clips gradients by their norm, and not by value"
    elif str(config["precision"]) not in _PRECISIONS:
        problem = f"it does not know the precision {config['precision']}"
    else:
        return
    raise UserError(f"callbacks.lr_sweep: {problem}; give a rate without it, as optimizer.lr=0.001")


def _overridden_step(kind: type) -> str | None:
    """The method by which a class of the user's own trains otherwise than ours, if it has one."""
    own = takewhile(lambda each: not each.__module__.startswith("multilayer."), kind.__mro__)
    return next((name for each in own for name in vars(each) if name in _METHODS), None)


def _rates_of(optimizer: Optimizer) -> list[float]:
    """The optimizer's learning rate, and every other rate that its schedule has recorded."""
    names = ("lr", "initial_lr", "max_lr", "min_lr")
    return [group[name] for group in optimizer.param_groups for name in names if name in group]


@contextmanager
def _random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Within it random numbers are drawn; what comes after it draws those that it would have."""
    states = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
