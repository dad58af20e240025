"""Finds a learning rate by short trainings before the fit, which then goes on with it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities.seed import isolate_rng
from rich.console import Console

from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.callbacks.progress import bar_of
from multilayer.callbacks.turning_point import tensorboard_writer
from multilayer.data import DataModule
from multilayer.drawing import save_figure
from multilayer.errors import UserError
from multilayer.lockstep.memory import ready_memory
from multilayer.lockstep.trial import freeze_unused
from multilayer.lr_sweep.figure import draw_range, draw_sweep
from multilayer.lr_sweep.lesson import make_lesson
from multilayer.lr_sweep.pupils import derived_seeds, seeded_modules
from multilayer.lr_sweep.range_test import RangeTest
from multilayer.lr_sweep.regimes import Judgement
from multilayer.lr_sweep.search import ramp_rates, sweep_rates
from multilayer.modules import SupervisedModule
from multilayer.runs.folder import RunFolder, write_text

log = logging.getLogger(__name__)


class LearningRateSweep(EpochsOnly):
    """Short trainings at many learning rates, as one stack; the fit goes on with the best of them.

    The fit is then, bit for bit, the one with that rate named by hand: the short trainings have
    weights, rows and random numbers of their own.

    folder: where `lr_sweep.csv` and `figures/lr_sweep.png` go, and the config with the rate.
    mode: "sweep" tries each rate in trainings of its own; "range" lets the rate rise within one
        training a seed, which is quicker where networks do not stack.
    min_lr, max_lr, n_rates: the rates, at equal factors.
    n_seeds: how often each is tried, with other initial weights, order and dropout.
    share, most_steps: a short training takes this share of the steps of the whole one, and no more
        than `most_steps`.
    compile, threads: as in a stack.

    Afterwards `suggested` is the rate. Raises `UserError` where module and data are not a
    `SupervisedModule` and a `DataModule`, and where the optimizer takes no `lr`.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        mode: Literal["sweep", "range"] = "sweep",
        min_lr: float = 1e-6,
        max_lr: float = 10.0,
        n_rates: int = 24,
        n_seeds: int = 3,
        share: float = 0.2,
        most_steps: int = 1000,
        compile: bool | str = "auto",
        threads: int | str = "auto",
    ) -> None:
        if mode not in ("sweep", "range"):
            raise ValueError(f"mode must be sweep or range, got {mode}")
        if not 0 < min_lr < max_lr:
            raise ValueError(f"min_lr must be above 0 and below max_lr, got {min_lr} and {max_lr}")
        if n_rates < 3 or n_seeds < 1 or most_steps < 1 or not 0 < share <= 1:
            raise ValueError(
                "n_rates must be at least 3, n_seeds and most_steps at least 1, share above 0 and "
                f"at most 1, got {n_rates}, {n_seeds}, {most_steps} and {share}"
            )
        self.run = RunFolder(folder)
        self.mode = mode
        self.rates = [float(rate) for rate in np.geomspace(min_lr, max_lr, n_rates)]
        self.n_seeds = n_seeds
        self.share = share
        self.most_steps = most_steps
        self.compile = compile
        self.threads = threads
        self.suggested: float | None = None
        self.is_resumed = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Try the rates, and go on with an optimizer and a schedule of the rate that is chosen."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, SupervisedModule) or not isinstance(data, DataModule):
            raise UserError(
                "callbacks.lr_sweep needs a SupervisedModule and a DataModule, got "
                f"{type(pl_module).__name__} and {type(data).__name__}"
            )
        if not self.is_resumed:
            found = self.find(trainer, pl_module, data) if trainer.is_global_zero else None
            self.suggested = trainer.strategy.broadcast(found.suggested if found else None)
            if found:
                self.show(trainer, found)
        if self.suggested is not None:
            self.take_up(trainer, pl_module, self.suggested)

    def find(
        self, trainer: pl.Trainer, module: SupervisedModule, data: DataModule
    ) -> Judgement | RangeTest:
        """Train for a while, and judge."""
        start = perf_counter()
        seeds = derived_seeds(data.shuffle_seed, self.n_seeds)
        lesson = make_lesson(trainer, data)
        n_pupils = len(seeds) * (1 if self.mode == "range" else len(self.rates))
        shown = trainer.progress_bar_callback is not None
        with isolate_rng(), ready_memory(), progress(n_pupils, shown) as advance:
            modules = seeded_modules(module, data, seeds, trainer.strategy.root_device)
            freeze_unused(modules, data)
            with trainer.precision_plugin.forward_context():
                if self.mode == "range":
                    found: Judgement | RangeTest = ramp_rates(
                        modules, seeds, self.rates, lesson, advance=advance
                    )
                else:
                    found = sweep_rates(
                        modules,
                        seeds,
                        self.rates,
                        lesson.shortened(self.share, self.most_steps),
                        data,
                        choice=self.compile,
                        threads=self.threads,
                        advance=advance,
                    )
        for line in (*found.in_words(), f"took {perf_counter() - start:.1f} s"):
            log.info(f"lr_sweep: {line}")
        return found

    def show(self, trainer: pl.Trainer, found: Judgement | RangeTest) -> None:
        """Write the table and the figure, and warn of an edge."""
        if warning := found.warning():
            log.warning(f"lr_sweep: {warning}")
        write_text(self.run.path / "lr_sweep.csv", found.table().write_csv())
        figure = draw_sweep(found) if isinstance(found, Judgement) else draw_range(found)
        save_figure(figure, self.run.path / "figures" / "lr_sweep.png")
        writer = tensorboard_writer(trainer)
        if writer:
            writer.add_figure("lr_sweep", figure)

    def take_up(self, trainer: pl.Trainer, module: SupervisedModule, rate: float) -> None:
        """Train with a rate, and note it where the run's config is kept."""
        make: Any = module.make_optimizer
        module.make_optimizer = partial(make, lr=rate)
        trainer.strategy.setup_optimizers(trainer)
        if "config" not in module.about:
            return
        config = module.about["config"]
        module.about["config"] = config | {"optimizer": config["optimizer"] | {"lr": rate}}
        if trainer.is_global_zero:
            self.run.write_config(module.about["config"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave a run that is resumed its rate; Lightning calls this before the fit starts."""
        self.is_resumed = True

    def state_dict(self) -> dict[str, Any]:
        """Plain data, for a run that is resumed."""
        return {"suggested": self.suggested}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rate of the run that is resumed."""
        self.suggested = state_dict["suggested"]


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
