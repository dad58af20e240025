"""Checks of the arguments and the minibatches that a user gives to a module."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from multilayer.core.errors import UserError, first_line


def check_arguments(network: Any, loss: Any, optimizer: Any, scheduler: Any, interval: str) -> None:
    """Raise `UserError` for a class where an object is needed, or the reverse."""
    if network is None:
        raise UserError("network: is missing, as in load_from_checkpoint(path, network=MLP(4, 3))")
    if not isinstance(network, nn.Module):
        raise UserError(f"network: must be a torch.nn.Module, got {_described(network)}")
    if interval not in ("epoch", "step"):
        raise UserError(f"scheduler_interval: must be 'epoch' or 'step', got {interval!r}")
    if isinstance(loss, type) or not (loss is None or callable(loss)):
        raise UserError(
            f"loss: must be an object that is called with outputs and targets, such as "
            f"torch.nn.MSELoss(), got {_described(loss)}"
        )
    for name, given, kind, taken, example in (
        ("optimizer", optimizer, Optimizer, "parameters", "torch.optim.Adam, lr=0.001"),
        ("scheduler", scheduler, LRScheduler, "optimizer", "StepLR, step_size=10"),
    ):
        if isinstance(given, kind) or not (given is None or callable(given)):
            raise UserError(
                f"{name}: must be what makes one from the {taken}, such as "
                f"functools.partial({example}), got {_described(given)}"
            )


def call_factory(name: str, factory: Callable[[Any], Any], argument: Any) -> Any:
    """Call what makes an optimizer or a schedule; `UserError` with its name if that fails."""
    try:
        made = factory(argument)
    except (ValueError, TypeError) as error:
        given = getattr(factory, "keywords", {}) if isinstance(error, TypeError) else {}
        words = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise UserError(f"{name}: {error}{words and f'; given were {words}'}") from error
    if isinstance(made, type) or not hasattr(made, "state_dict"):
        raise UserError(f"{name}: what makes it must return it, got {_described(made)}")
    return made


def _described(value: Any) -> str:
    """A value in a few words.

    >>> _described(nn.Linear), _described(0.1)
    ('the class Linear', 'an object of type float')
    """
    is_class = isinstance(value, type)
    return (
        f"the class {value.__name__}" if is_class else f"an object of type {type(value).__name__}"
    )


def check_trainable(network: nn.Module) -> None:
    """Raise `UserError` if a network has no weight that is trained."""
    weights = list(network.parameters())
    if not any(weight.requires_grad for weight in weights):
        has = f"all {len(weights)} of its parameters are frozen" if weights else "it has none"
        raise UserError(
            f"model: {type(network).__name__} has no weights to train: {has}; "
            "set requires_grad=True for some"
        )


def check_batch(batch: Any) -> tuple[Tensor, Tensor]:
    """The features and the target of a minibatch, which must be a pair of tensors."""
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise UserError(f"a minibatch must be two tensors, features and target, got {kinds}")
    return parts[0], parts[1]


def features_of(batch: Any) -> Tensor:
    """The features of a minibatch, which may contain more."""
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        kind = type(first).__name__
        raise UserError(f"a minibatch must be a tensor of features, or begin with it, got {kind}")
    return first


def refuse_shape(features: Tensor, network: nn.Module, error: Exception) -> None:
    """Raise `UserError` if an error of torch comes from the shape of a minibatch."""
    shape = tuple(features.shape)
    widths = [each.in_features for each in network.modules() if isinstance(each, nn.Linear)]
    if widths and (features.ndim != 2 or shape[1] != widths[0]):
        raise UserError(
            f"features of the shape {shape} do not fit the network, whose first layer takes "
            f"(B, {widths[0]}): {first_line(error)}"
        ) from error
    if shape[:1] == (1,) and isinstance(error, ValueError):  # as batch normalization raises
        raise UserError(
            f"a minibatch of one row: {first_line(error)}; use DataLoader(..., drop_last=True)"
        ) from error
