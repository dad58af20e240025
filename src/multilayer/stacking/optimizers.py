"""The stacked forms of torch's optimizers, and which optimizers have one."""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from multilayer.stacking.stacked_optimizer import Group, Numbers, StackedOptimizer

_INFINITY = torch.tensor(torch.inf)

_PARAMETERS_WORTH_A_CALL = 4096
"""Parameters of a member from which a kernel of its own takes less time than passes over all."""

AnyForm = TypeVar("AnyForm", bound=StackedOptimizer)


class _StackedSGD(StackedOptimizer):
    """`torch.optim.SGD`, with momentum, dampening and Nesterov's variant."""

    varying = ("lr", "weight_decay", "momentum", "dampening")

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(groups)
        self.nesterov: bool = groups[0]["nesterov"]
        if "momentum" not in self.unused_terms:
            self.state_names = ("momentum_buffer",)

    def coefficients(self, group: Numbers, step: Tensor) -> dict[str, Tensor]:
        """torch starts the buffer with the first gradient, undampened; without momentum too."""
        undampened = (step == 1) | (group["momentum"] == 0)
        gain = torch.where(undampened, 1.0, 1 - group["dampening"])
        return {
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
            "momentum": group["momentum"],
            "gain": gain,
        }

    def update(self, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers) -> Tensor:
        """One step."""
        grad = self.effective_grad(param, grad, n)
        if state:
            (buffer,) = state
            buffer.mul_(n["momentum"]).add_(grad * n["gain"])
            grad = grad + n["momentum"] * buffer if self.nesterov else buffer
        return n["lr"] * grad


class _StackedAdam(StackedOptimizer):
    """`torch.optim.Adam`, AMSGrad, and `torch.optim.AdamW`, which decouples the weight decay."""

    varying = ("lr", "weight_decay", "beta1", "beta2", "eps")
    counts_steps = True

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(groups)
        self.amsgrad: bool = groups[0]["amsgrad"]
        self.decoupled: bool = groups[0]["decoupled_weight_decay"]
        self.state_names = ("exp_avg", "exp_avg_sq")
        if self.amsgrad:
            self.state_names += ("max_exp_avg_sq",)

    def coefficients(self, group: Numbers, step: Tensor) -> dict[str, Tensor]:
        """Bias corrections and all that torch computes in double precision."""
        first, second = (
            1 - _exact(pow, group[beta].expand(step.shape), step) for beta in ("beta1", "beta2")
        )
        correction = _exact(sqrt, second)
        return {
            "weight_decay": group["weight_decay"],
            "kept": 1 - group["lr"] * group["weight_decay"],
            "1-beta1": 1 - group["beta1"],
            "beta2": group["beta2"],
            "1-beta2": 1 - group["beta2"],
            # torch divides the root by the correction; here it goes into the two numbers around.
            "step_size": group["lr"] * correction / first,
            "eps": group["eps"] * correction,
        }

    def update(self, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers) -> Tensor:
        """One step."""
        grad = self.effective_grad(param, grad, n)
        mean, square = state[:2]
        mean.lerp_(grad, n["1-beta1"])
        square.mul_(n["beta2"]).addcmul_(grad, grad * n["1-beta2"])
        if self.amsgrad:
            square = state[2].copy_(torch.maximum(state[2], square))
        change = (mean / square.sqrt().add_(n["eps"])).mul_(n["step_size"])
        if self.decoupled and self.decays:
            change.add_(param - param * n["kept"])  # torch rounds it so, too
        return change

    def step_eagerly(
        self, out: Tensor, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers
    ) -> None:
        """One step by the kernel of `torch.optim.Adam(fused=True)`, for a member at a time.

        After infinitely many steps it corrects no bias: that is in the step size.
        `test_a_hundred_steps_agree_with_torch` watches it.
        """
        if self.amsgrad or param.device.type != "cpu" or param.shape[1] < _PARAMETERS_WORTH_A_CALL:
            return self.step(out, param, grad, state, n)
        grad = self.effective_grad(param, grad, n)
        if self.decoupled and self.decays:
            torch.mul(param, n["kept"], out=out)
        else:
            out.copy_(param)
        rows = zip(out, grad, *state, strict=True)
        names = ("step_size", "1-beta1", "1-beta2", "eps")
        numbers = zip(*(n[name].flatten().tolist() for name in names), strict=True)
        for (own, slope, mean, square), (step_size, rise1, rise2, eps) in zip(
            rows, numbers, strict=True
        ):
            torch._fused_adam_(
                [own],
                [slope],
                [mean],
                [square],
                [],
                [_INFINITY],
                lr=step_size,
                beta1=1 - rise1,
                beta2=1 - rise2,
                weight_decay=0.0,
                eps=eps,
                amsgrad=False,
                maximize=False,
            )

    def effective_grad(self, param: Tensor, grad: Tensor, n: Numbers) -> Tensor:
        """The gradient; with weight decay unless that is decoupled."""
        if self.decoupled:
            return -grad if self.maximize else grad
        return super().effective_grad(param, grad, n)


class _StackedAdadelta(StackedOptimizer):
    """`torch.optim.Adadelta`."""

    varying = ("lr", "weight_decay", "rho", "eps")
    counts_steps = True

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(groups)
        self.state_names = ("square_avg", "acc_delta")

    def coefficients(self, group: Numbers, step: Tensor) -> dict[str, Tensor]:
        """As they are."""
        return {**group, "1-rho": 1 - group["rho"]}

    def update(self, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers) -> Tensor:
        """One step."""
        grad = self.effective_grad(param, grad, n)
        square, accumulated = state
        square.mul_(n["rho"]).addcmul_(grad, grad * n["1-rho"])
        delta = (accumulated + n["eps"]).sqrt() / (square + n["eps"]).sqrt() * grad
        accumulated.mul_(n["rho"]).addcmul_(delta, delta * n["1-rho"])
        return n["lr"] * delta


class _StackedAdagrad(StackedOptimizer):
    """`torch.optim.Adagrad`."""

    varying = ("lr", "weight_decay", "lr_decay", "eps")
    varying_at_start = ("initial_accumulator_value",)
    counts_steps = True

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(groups)
        self.state_names = ("sum",)

    def initial_state(self, param: Tensor, groups: Sequence[Group]) -> dict[str, Tensor]:
        """The sum starts at a number of the member's own."""
        start = param.new_tensor([group["initial_accumulator_value"] for group in groups])
        return {"sum": start[:, None].expand_as(param).clone()}

    def coefficients(self, group: Numbers, step: Tensor) -> dict[str, Tensor]:
        """The rate, decayed."""
        return {
            "lr": group["lr"] / (1 + (step - 1) * group["lr_decay"]),
            "weight_decay": group["weight_decay"],
            "eps": group["eps"],
        }

    def update(self, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers) -> Tensor:
        """One step."""
        grad = self.effective_grad(param, grad, n)
        (total,) = state
        total.addcmul_(grad, grad)
        return n["lr"] * grad / total.sqrt().add_(n["eps"])


class _StackedRMSprop(StackedOptimizer):
    """`torch.optim.RMSprop`, with momentum and centred."""

    varying = ("lr", "weight_decay", "alpha", "eps", "momentum")
    counts_steps = True

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(groups)
        self.centered: bool = groups[0]["centered"]
        self.has_momentum = "momentum" not in self.unused_terms
        self.state_names = ("square_avg",)
        if self.has_momentum:
            self.state_names += ("momentum_buffer",)
        if self.centered:
            self.state_names += ("grad_avg",)

    def coefficients(self, group: Numbers, step: Tensor) -> dict[str, Tensor]:
        """As they are."""
        return {**group, "1-alpha": 1 - group["alpha"]}

    def update(self, param: Tensor, grad: Tensor, state: list[Tensor], n: Numbers) -> Tensor:
        """One step."""
        grad = self.effective_grad(param, grad, n)
        square = state[0]
        square.mul_(n["alpha"]).addcmul_(grad, grad * n["1-alpha"])
        spread = square
        if self.centered:
            state[-1].lerp_(grad, n["1-alpha"])
            spread = square - state[-1] * state[-1]
        scaled = grad / spread.sqrt().add_(n["eps"])
        if self.has_momentum:
            state[1].mul_(n["momentum"]).add_(scaled)
            scaled = state[1]
        return n["lr"] * scaled


_STACKED: dict[type[Optimizer], type[StackedOptimizer]] = {
    SGD: _StackedSGD,
    Adam: _StackedAdam,
    AdamW: _StackedAdam,
    Adadelta: _StackedAdadelta,
    Adagrad: _StackedAdagrad,
    RMSprop: _StackedRMSprop,
}
"""The stacked optimizer that does what an optimizer does."""


def stacked_form_of(kind: type[Optimizer]) -> Callable[[type[AnyForm]], type[AnyForm]]:
    """Declares a class to be the stacked form of an optimizer; a class decorator.

    Jobs with that optimizer then stack. The class is known once its module is imported: keep it in
    the module of the optimizer, which a config names.

    Args:
        kind: the optimizer's class.

    Raises:
        TypeError: What is decorated is no `StackedOptimizer`, or `kind` is no optimizer.

    >>> class Signs(torch.optim.Optimizer):
    ...     def __init__(self, params, lr=0.01):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     @torch.no_grad()
    ...     def step(self, closure=None):
    ...         for group in self.param_groups:
    ...             for each in group["params"]:
    ...                 each.sub_(group["lr"] * each.grad.sign())
    >>> @stacked_form_of(Signs)
    ... class StackedSigns(StackedOptimizer):
    ...     varying = ("lr",)
    ...
    ...     def coefficients(self, group, step):
    ...         return {"lr": group["lr"]}
    ...
    ...     def update(self, param, grad, state, n):
    ...         return n["lr"] * grad.sign()
    >>> stacked = stack_optimizer(Signs, [{"lr": 0.1}, {"lr": 1.0}])
    >>> rates = {"lr": torch.tensor([[0.1], [1.0]])}  # of two members
    >>> stacked.update(torch.ones(2, 1), torch.ones(2, 1), [], rates)
    tensor([[0.1000],
            [1.0000]])
    """
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise TypeError(f"stacked_form_of takes the class of an optimizer, got {kind!r}")

    def declare(form: type[AnyForm]) -> type[AnyForm]:
        if not (isinstance(form, type) and issubclass(form, StackedOptimizer)):
            raise TypeError(f"the stacked form must be a StackedOptimizer, got {form!r}")
        _STACKED[kind] = form
        return form

    return declare


def has_stacked_form(kind: Any) -> bool:
    """Whether jobs with an optimizer stack."""
    return kind in _STACKED


def arguments_that_vary(kind: type[Optimizer]) -> set[str]:
    """The arguments of an optimizer that may differ between the members of a stack."""
    form = _STACKED[kind]
    names = {*form.varying, *form.varying_at_start}
    return names | ({"betas"} if {"beta1", "beta2"} & names else set())


def counts_steps(kind: type[Optimizer]) -> bool:
    """Whether the state of an optimizer has the number of steps."""
    return _STACKED[kind].counts_steps


def stack_optimizer(kind: type[Optimizer], groups: Sequence[Group]) -> StackedOptimizer:
    """The stacked form of an optimizer.

    Args:
        kind: the optimizer's class, which has one; see `has_stacked_form`.
        groups: the parameter group of each member, as `group_of` gives it.
    """
    return _STACKED[kind](groups)


def group_of(optimizer: Optimizer) -> dict[str, Any]:
    """The one parameter group of an optimizer, with a name for each beta."""
    group = dict(optimizer.param_groups[0])
    return group | dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))


def _exact(function: Callable[..., float], *numbers: Tensor) -> Tensor:
    """A function of Python's of each number, as in torch's optimizers: `(S, K)` to `(S, K)`.

    The last bit of a power or a root by torch depends on where in a tensor the number lies, and so
    a member's would depend on who is beside it.
    """
    values = [*map(function, *(each.flatten().tolist() for each in numbers))]
    return torch.tensor(values, dtype=torch.float64).view(numbers[0].shape)
