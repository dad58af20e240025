"""What the stacked form of an optimizer is: one update for K members, each with its own numbers.

An update is elementwise: what an optimizer does to the parameters of one network is done to those
of K networks, `(K, P)`, with learning rate, momentum, betas and the rest as `(K, 1)`, a number for
each member.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Numbers = Mapping[str, Tensor]
Group = Mapping[str, Any]


class StackedOptimizer(ABC):
    """The update of an optimizer, for K members; see `stacked_form_of` for one of your own.

    Args:
        groups: the parameter group of each member, with the betas apart. Its flags must be the
            same for all, its numbers may differ, and may change from step to step, except those
            that are 0 for all at the start: what they would do is `unused_terms`.

    Attributes:
        state_names: the names of what it remembers of each parameter, as in the optimizer's state.
        unused_terms: weight decay and momentum, if they are 0 for all.
        decays: whether there is a weight decay.
        maximize: whether the loss is to grow.
    """

    varying: tuple[str, ...] = ("lr", "weight_decay")
    """The numbers of a parameter group that may differ between members, and from step to step.

    Two `betas` are `beta1` and `beta2`."""

    varying_at_start: tuple[str, ...] = ()
    """Those that may differ between members and are looked at once, by `initial_state`."""

    counts_steps = False
    """Whether the state of the optimizer has the number of steps, as `step`."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.maximize: bool = groups[0].get("maximize", False)
        self.unused_terms = [
            name
            for name in ("weight_decay", "momentum")
            if all(group.get(name, 0) == 0 for group in groups)
        ]
        self.decays = "weight_decay" not in self.unused_terms
        self.state_names: tuple[str, ...] = ()

    @abstractmethod
    def coefficients(self, group: Numbers, step: Tensor) -> dict[str, Tensor]:
        """What the update multiplies with, `(S, K)` float64, for S steps.

        Args:
            group: the numbers of the members' parameter groups, `(S, K)` float64, by name.
            step: the count of each member's step, `(S, K)` int64, from 1.
        """

    def coefficient_names(self) -> tuple[str, ...]:
        """The names of what `coefficients` gives."""
        one = torch.ones(1, 1, dtype=torch.float64)
        return tuple(self.coefficients(dict.fromkeys(self.varying, one), one.long()))

    @abstractmethod
    def update(self, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers) -> Tensor:
        """What a step takes from the parameters `(K, P)`; `state` is changed in place.

        Args:
            param: the parameters.
            grad: their gradients, `(K, P)`.
            state: in the order of `state_names`.
            n: what `coefficients` gave for this step, each `(K, 1)` in the parameters' dtype.
        """

    def step(
        self, out: Tensor, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers
    ) -> None:
        """Write the parameters after a step to `out`, `(K, P)`; for the rest see `update`."""
        torch.sub(param, self.update(param, grad, state, n), out=out)

    def step_eagerly(
        self, out: Tensor, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers
    ) -> None:
        """The same as `step` to rounding, in fewer passes over the memory; it is not traced."""
        self.step(out, param, grad, state, n)

    def initial_state(self, param: Tensor, groups: Sequence[Group]) -> dict[str, Tensor]:
        """What the optimizer remembers of the parameters `(K, P)`, by torch's names for it."""
        return {name: torch.zeros_like(param) for name in self.state_names}

    def effective_grad(self, param: Tensor, grad: Tensor, n: Numbers) -> Tensor:
        """The gradient with weight decay, and turned round where the loss is to grow."""
        grad = -grad if self.maximize else grad
        return grad + n["weight_decay"] * param if self.decays else grad
