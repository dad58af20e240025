"""The networks of the short trainings: one for each seed, and an optimizer for each rate."""

import random
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.random import SeedSequence
from torch.optim import LBFGS, Optimizer

from multilayer.core.errors import UserError
from multilayer.data import DataModule
from multilayer.data.loaders import changed_loader
from multilayer.lr_sweep.trials import Pupil
from multilayer.training.factory import make_whole_network
from multilayer.training.module import SupervisedModule

STEPS = ("training_step", "step", "output", "configure_optimizers", "optimizer_step", "backward")
"""What a short training does by itself: a module with one of its own would learn otherwise."""

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


def check_known(trainer: pl.Trainer, module: SupervisedModule, data: DataModule) -> None:
    """Raise `UserError` where a short training would not be the beginning of the real one."""
    own_step = next((name for name in STEPS if has_own(module, name)), None)
    own_loader = changed_loader(type(data))
    if own_step or own_loader:
        owner = type(module) if own_step else type(data)
        name = own_step or own_loader
        problem = f"{owner.__name__} has a {name} of its own, which it does not know"
    elif trainer.gradient_clip_algorithm == "value":
        problem = "it clips gradients by their norm, and not by value"
    elif trainer.precision not in PRECISIONS:
        problem = f"it does not know the precision {trainer.precision}"
    else:
        return
    raise UserError(f"callbacks.lr_sweep: {problem}; name a rate without it, as optimizer.lr=0.001")


def has_own(module: SupervisedModule, name: str) -> bool:
    """Whether a module does something else for a step than those of multilayer."""
    return getattr(type(module), name) is not getattr(SupervisedModule, name)


def derived_seeds(seed: int, n: int) -> list[int]:
    """So many seeds: the first is the run's own, the others have nothing to do with its next ones.

    >>> derived_seeds(0, 3)
    [0, 2968811710, 3677149159]
    """
    return [seed, *map(int, SeedSequence(seed).generate_state(n - 1))] if n > 1 else [seed]


def seeded_modules(
    module: SupervisedModule, data: DataModule, seeds: Sequence[int], device: torch.device
) -> list[SupervisedModule]:
    """A copy of the module for each seed: the first has its weights, the others initial ones.

    Only a module whose config travels with it can be built anew; the weights of any other are the
    same for all seeds, which then differ in the order of the rows and in dropout.
    """
    copies = [deepcopy(module) for _ in seeds]
    if "config" in module.about:
        for copied, seed in list(zip(copies, seeds, strict=True))[1:]:
            seed_all(seed)
            config = module.about["config"]
            copied.network = make_whole_network(config, data.columns, data.preprocessing)
            copied.network.train(module.network.training)
    return [copied.to(device).train() for copied in copies]


def seed_all(seed: int) -> None:
    """Seed what a network may draw its weights from, and nothing that other processes see."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def make_pupils(
    modules: Sequence[SupervisedModule], seeds: Sequence[int], rates: Sequence[float]
) -> list[Pupil]:
    """A pupil for each rate and seed, the seeds of a rate side by side.

    Those of one seed share its module: a stack takes copies of the weights.
    """
    return [
        Pupil(module, optimizer_at(module, rate), seed)
        for rate in rates
        for module, seed in zip(modules, seeds, strict=True)
    ]


def optimizer_at(module: SupervisedModule, rate: float) -> Optimizer:
    """The module's optimizer, with a rate.

    Raises `UserError` where what makes it takes none.
    """
    make: Any = module.make_optimizer
    try:
        optimizer: Optimizer = make(module.network.parameters(), lr=rate)
    except TypeError as error:
        raise UserError(f"callbacks.lr_sweep: the optimizer must take lr: {error}") from error
    if isinstance(optimizer, LBFGS):
        raise UserError("callbacks.lr_sweep: LBFGS looks for the length of its steps by itself")
    return optimizer


def own_copy(pupil: Pupil) -> Pupil:
    """The pupil with a network of its own, which may be changed."""
    module = deepcopy(pupil.module)
    return Pupil(module, optimizer_at(module, pupil.optimizer.param_groups[0]["lr"]), pupil.seed)
