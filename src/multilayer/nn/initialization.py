"""How the weights of a linear layer are initialized."""

from typing import Literal, get_args

from torch import nn

from multilayer.core.errors import unknown_name

Initialization = Literal["default", "normal", "kaiming", "xavier"]

_GAINS = ("sigmoid", "tanh", "relu", "leaky_relu", "selu")
"""The activations whose gain torch knows; the others are initialized like relu, as is usual."""


def initialize_(
    linear: nn.Linear, initialization: Initialization, *, activation: str, sigma: float
) -> None:
    """Initialize the weights of a layer in place; its biases become 0, except for "default".

    Args:
        linear: the layer.
        initialization: "default" keeps torch's own for `nn.Linear`, "normal" is N(0, sigma^2),
            "kaiming" is He et al. 2015 and "xavier" Glorot and Bengio 2010, both normal.
        activation: the name of the activation that follows, for "kaiming" and "xavier".
        sigma: the standard deviation for "normal".

    Raises:
        ValueError: The initialization is unknown, or `sigma` is negative.
    """
    if initialization not in get_args(Initialization):
        raise ValueError(unknown_name("initialization", initialization, get_args(Initialization)))
    if not sigma >= 0:
        raise ValueError(f"sigma must be at least 0, got {sigma}")
    if initialization == "default":
        return
    if initialization == "normal":
        nn.init.normal_(linear.weight, std=sigma)
    elif initialization == "kaiming":
        nn.init.normal_(linear.weight, std=_gain(activation) * linear.in_features**-0.5)
    else:
        nn.init.xavier_normal_(linear.weight, gain=_gain(activation))
    nn.init.zeros_(linear.bias)


def _gain(activation: str) -> float:
    """The factor by which "xavier" and "kaiming" make up for the activation that follows.

    From `torch.nn.init.calculate_gain`; 1 for "identity".

    >>> _gain("tanh")
    1.6666666666666667
    """
    if activation == "identity":
        return 1.0
    known = activation if activation in _GAINS else "relu"
    return nn.init.calculate_gain(known)  # type: ignore[arg-type]
