"""The networks of the short trainings: one for each seed, and an optimizer for each rate."""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from numpy.random import SeedSequence
from torch.optim import Optimizer

from multilayer.build import make_whole_network
from multilayer.data import DataModule
from multilayer.errors import UserError
from multilayer.lr_sweep.lesson import Pupil
from multilayer.modules import SupervisedModule


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
    make: Callable[..., Optimizer] | None = module.make_optimizer
    assert make is not None, "a module to be trained needs an optimizer"
    try:
        return make(module.network.parameters(), lr=rate)
    except TypeError as error:
        raise UserError(f"callbacks.lr_sweep: the optimizer takes no lr: {error}") from error


def own_copy(pupil: Pupil) -> Pupil:
    """The pupil with a network of its own, which may be changed."""
    module = deepcopy(pupil.module)
    return Pupil(module, optimizer_at(module, pupil.optimizer.param_groups[0]["lr"]), pupil.seed)
