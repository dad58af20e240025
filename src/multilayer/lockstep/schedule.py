"""What an optimizer's numbers are in each step of a training, by torch's own schedules.

A stack takes its steps itself: of torch's optimizer there is only the parameter group, which the
schedule moves.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from multilayer.runs.config import Config
from multilayer.stacking.optimizers import group_of
from multilayer.training.components import make_scheduler, stand_in_optimizer

Group = Mapping[str, Any]

Moves = Literal["step", "epoch", "metric"]
"""What moves a schedule."""


class Schedule:
    """The parameter group of members that have the same optimizer, schedule and number of steps.

    Args:
        config: of a run.
        n_steps: the optimizer steps of its whole training.

    Attributes:
        optimizer: one of torch's, which takes no steps.
        scheduler: one of torch's, over it.
        moves: what moves it: every "step" or "epoch", or a "metric".
        key: equal for runs whose schedules are, unless a metric moves them.
        n_moved: how often it has moved.
    """

    def __init__(self, config: Config, n_steps: int) -> None:
        self.optimizer: Optimizer = stand_in_optimizer(config)
        self.scheduler = make_scheduler(config, n_steps=n_steps)(self.optimizer)
        node = config["scheduler"]
        follows = isinstance(self.scheduler, ReduceLROnPlateau)
        self.moves: Moves = "metric" if follows else node["interval"]
        self.key = json.dumps([config["optimizer"], node, n_steps])
        self.n_moved = 0
        self.group = group_of(self.optimizer)

    def load_state(self, state: Mapping[str, Any], group: Group, n_steps: int) -> None:
        """Go on from a checkpoint.

        Args:
            state: of torch's schedule.
            group: the optimizer's parameter group.
            n_steps: the optimizer steps so far.
        """
        own = {name: value for name, value in group.items() if name != "params"}
        self.scheduler.load_state_dict(deepcopy(dict(state)))
        self.optimizer.param_groups[0].update(own)
        self.n_moved = n_steps if self.moves == "step" else 0
        self.group = group_of(self.optimizer)
        self.key = json.dumps([self.key, own, state], default=str)

    def advance(self, n_steps: int) -> list[Group]:
        """The group in each of the next steps, or one for all of them; the schedule moves on."""
        if self.moves != "step":
            return [self.group]
        groups: list[Group] = []
        for _ in range(n_steps):
            groups.append(self.group)
            self._move()
        return groups

    def end_epoch(self) -> None:
        """Move on at an epoch's end."""
        if self.moves == "epoch":
            self._move()

    def follow(self, value: float) -> None:
        """Show the metric that it follows, if it follows one: that of one run, whose own it is."""
        if self.moves == "metric":
            self._move(value)

    def _move(self, *metrics: float) -> None:
        """Have torch move the schedule."""
        self.scheduler.step(*metrics)
        self.n_moved += 1
        self.group = group_of(self.optimizer)
