"""Finds a learning rate by short trainings before the fit, which then goes on with it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities.seed import isolate_rng
from rich.console import Console

from multilayer.callbacks.best_epoch_marker import tensorboard_writer
from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.callbacks.inspection_mode import trained_here
from multilayer.callbacks.progress import bar_of
from multilayer.core.errors import UserError
from multilayer.core.files import write_text
from multilayer.data import DataModule
from multilayer.lr_sweep.analysis import Judgement
from multilayer.lr_sweep.networks import check_known, derived_seeds, seeded_modules
from multilayer.lr_sweep.plot import draw_range, draw_sweep
from multilayer.lr_sweep.range_test import N_STEPS, RangeTest
from multilayer.lr_sweep.run import ramp_rates, sweep_rates
from multilayer.lr_sweep.trials import make_lesson
from multilayer.plotting.style import save_figure
from multilayer.runs.folder import RunFolder
from multilayer.runs.manifest import config_hash
from multilayer.stacking.trial import freeze_unused
from multilayer.training.module import SupervisedModule
from multilayer.training.runtime import ready_memory

log = logging.getLogger(__name__)


class LearningRateSweep(EpochsOnly):
    """Short trainings at many learning rates, as one stack; the fit goes on with the best of them.

    The fit is then, bit for bit, the one with that rate named by hand: the short trainings have
    weights, rows and random numbers of their own.

    folder: where `lr_sweep.csv` and `figures/lr_sweep.png` go, and the config with the rate.
    method: "sweep" tries each rate in trainings of its own; "range" lets the rate rise within one
        training a seed, which is quicker where networks do not stack.
    min_lr, max_lr, n_rates: the rates, at equal factors.
    n_seeds: how often each is tried, with other initial weights, order and dropout.
    fraction, max_steps: a short training takes this fraction of the steps of the whole one, and at
        most `max_steps`.
    compile, num_threads: as in a stack.

    Afterwards `suggested` is the rate, and `facts` is what a manifest says of the sweep. Raises
    `UserError` where short trainings would not be the beginning of the real one, and where the
    optimizer takes no `lr`.
    """

    STATE = (("suggested", "suggested"),)

    def __init__(
        self,
        *,
        folder: str | Path,
        method: Literal["sweep", "range"] = "sweep",
        min_lr: float = 1e-6,
        max_lr: float = 10.0,
        n_rates: int = 24,
        n_seeds: int = 3,
        fraction: float = 0.2,
        max_steps: int = 1000,
        compile: bool | str = "auto",
        num_threads: int | str = "auto",
    ) -> None:
        problems = [
            *problems_with(method, min_lr, max_lr, fraction, compile, num_threads),
            *problems_with_counts(
                n_rates=(n_rates, 3), n_seeds=(n_seeds, 1), max_steps=(max_steps, 1)
            ),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        self.run = RunFolder(folder)
        self.method = method
        self.rates = [float(rate) for rate in np.geomspace(min_lr, max_lr, n_rates)]
        self.n_seeds = n_seeds
        self.fraction = fraction
        self.max_steps = max_steps
        self.compile = compile
        self.num_threads = num_threads
        self.reset()

    def reset(self) -> None:
        """Begin without a rate."""
        self.suggested: float | None = None
        self.facts: dict[str, Any] = {}
        self.is_resumed = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Try the rates, and go on with an optimizer and a schedule of the rate that is chosen."""
        module, data = trained_here(trainer, pl_module)
        check_known(trainer, module, data)
        start = perf_counter()
        if self.is_resumed:
            log.info("lr_sweep: not again, for the run is resumed; its config has the rate")
        else:
            self.suggested = self.find_once(trainer, module, data)
            self.take_up(trainer, module, self.suggested)
        self.facts["lr_sweep_seconds"] = round(perf_counter() - start, 3)

    def find_once(self, trainer: pl.Trainer, module: SupervisedModule, data: DataModule) -> float:
        """Find the rate in the first of several processes, and tell it to the others."""
        found: tuple[float, str] = (0.0, "")
        if trainer.is_global_zero:
            try:
                judgement = self.find(trainer, module, data)
                self.show(trainer, judgement)
                found = judgement.suggested, ""
            except UserError as error:
                found = 0.0, str(error)
        suggested, problem = trainer.strategy.broadcast(found)
        if problem:
            raise UserError(problem)
        return suggested

    def find(
        self, trainer: pl.Trainer, module: SupervisedModule, data: DataModule
    ) -> Judgement | RangeTest:
        """Train for a while, and judge."""
        start = perf_counter()
        seeds = derived_seeds(data.shuffle_seed, self.n_seeds)
        lesson, n_pupils = make_lesson(trainer, data), len(seeds)
        if self.method == "range":
            lesson = replace(lesson, n_steps=N_STEPS)
        else:
            lesson = lesson.shortened(self.fraction, self.max_steps)
            n_pupils *= len(self.rates)
        log.info(f"lr_sweep: {n_pupils} short trainings of {lesson.n_steps} steps each")
        shown = trainer.progress_bar_callback is not None
        with isolate_rng(), ready_memory(), progress(n_pupils, shown) as advance:
            modules = seeded_modules(module, data, seeds, trainer.strategy.root_device)
            freeze_unused(modules, data)
            with autocast_of(trainer):
                if self.method == "range":
                    found: Judgement | RangeTest = ramp_rates(
                        modules, seeds, self.rates, lesson, advance=advance
                    )
                else:
                    found = sweep_rates(
                        modules,
                        seeds,
                        self.rates,
                        lesson,
                        data,
                        choice=self.compile,
                        threads=self.num_threads,
                        advance=advance,
                    )
        for line in (*found.in_words(), f"took {perf_counter() - start:.1f} s"):
            log.info(f"lr_sweep: {line}")
        return found

    def show(self, trainer: pl.Trainer, found: Judgement | RangeTest) -> None:
        """Write the table and the figure, and warn of an edge."""
        if warning := found.warning():
            log.warning(f"lr_sweep: {warning}")
        figure = draw_sweep(found) if isinstance(found, Judgement) else draw_range(found)
        write_text(self.run.path / "lr_sweep.csv", found.table().write_csv())
        save_figure(figure, self.run.path / "figures" / "lr_sweep.png")
        writer = tensorboard_writer(trainer)
        if writer:
            writer.add_figure("lr_sweep", figure)

    def take_up(self, trainer: pl.Trainer, module: SupervisedModule, rate: float) -> None:
        """Train with a rate, and note it where the run's config is kept.

        Raises `UserError` where it would change nothing.
        """
        before = rates_of(trainer)
        make: Any = module.make_optimizer
        module.make_optimizer = partial(make, lr=rate)
        trainer.strategy.setup_optimizers(trainer)
        given = trainer.optimizers[0].defaults["lr"]
        if given != rate or (rates_of(trainer) == before and rate not in before):
            raise UserError(
                f"callbacks.lr_sweep: the rate {rate:.2g} has no effect, for the schedule has a "
                "rate of its own; leave that out, or the sweep"
            )
        if "config" in module.about:
            module.about["config"] = with_rate(module.about["config"], rate)
            if trainer.is_global_zero and self.run.config_file.exists():
                config = with_rate(self.run.read_config(), rate)
                self.run.write_config(config)
                self.facts["config_hash"] = config_hash(config)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave a run that is resumed its rate; Lightning calls this before the fit starts."""
        self.is_resumed = True

    def manifest_entries(self) -> dict[str, Any]:
        """What the manifest says of the short trainings."""
        return self.facts


def problems_with(
    method: str, min_lr: float, max_lr: float, fraction: float, compiled: Any, num_threads: Any
) -> Iterator[str]:
    """The arguments that are none."""
    if method not in ("sweep", "range"):
        yield f"method must be sweep or range, got {method}"
    if not 0 < min_lr < max_lr < inf:
        yield f"min_lr must be above 0 and below max_lr, got {min_lr} and {max_lr}"
    if not 0 < fraction <= 1:
        yield f"fraction must be above 0 and at most 1, got {fraction}"
    if compiled not in ("auto", True, False):
        yield f"compile must be auto, true or false, got {compiled}"
    if num_threads != "auto" and not (isinstance(num_threads, int) and num_threads > 0):
        yield f"num_threads must be auto or a whole number above 0, got {num_threads}"


def problems_with_counts(**counts: tuple[Any, int]) -> Iterator[str]:
    """The numbers that are below the least there can be, which is given beside each."""
    for name, (value, least) in counts.items():
        if not isinstance(value, int) or value < least:
            yield f"{name} must be a whole number from {least} on, got {value}"


def rates_of(trainer: pl.Trainer) -> list[float]:
    """What the optimizer's rate is now, and whatever its schedule has noted of it."""
    names = ("lr", "initial_lr", "max_lr", "min_lr")
    groups = trainer.optimizers[0].param_groups
    return [group[name] for group in groups for name in names if name in group]


def with_rate(config: dict[str, Any], rate: float) -> dict[str, Any]:
    """A run's config with another learning rate."""
    return config | {"optimizer": config["optimizer"] | {"lr": rate}}


def autocast_of(trainer: pl.Trainer) -> AbstractContextManager[None]:
    """What a step of the fit runs in; float16 would need its gradients scaled, float32 does not."""
    if trainer.precision == "16-mixed":
        return nullcontext()
    context: AbstractContextManager[None] = trainer.precision_plugin.forward_context()
    return context


@contextmanager
def progress(n_pupils: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar over the short trainings, on a terminal; gives what moves it on."""
    console = Console(stderr=True, markup=False)
    if not (shown and console.is_terminal):
        yield lambda n: None
        return
    with bar_of("learning rates", console) as bar:
        task = bar.add_task("learning rates", total=n_pupils, words="")
        yield lambda n: bar.advance(task, n)
