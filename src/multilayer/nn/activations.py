"""Activation functions, by name."""

from torch import nn

from multilayer.core.errors import unknown_name

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "selu": nn.SELU,
    "softplus": nn.Softplus,
    "mish": nn.Mish,
    "identity": nn.Identity,
}

# The activations whose gain torch knows; the others start like relu, as is usual.
_GAINS = ("sigmoid", "tanh", "relu", "leaky_relu", "selu")


def make_activation(name: str) -> nn.Module:
    """The activation called `name`, elementwise: any shape in, the same shape out.

    Raises `ValueError` for a name that is not in `ACTIVATIONS`.

    >>> import torch
    >>> make_activation("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    if name not in ACTIVATIONS:
        raise ValueError(unknown_name("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]()


def gain(name: str) -> float:
    """The factor by which `xavier` and `kaiming` initialisation allow for the activation.

    From `torch.nn.init.calculate_gain`; 1 for `identity`.

    >>> gain("tanh")
    1.6666666666666667
    """
    if name == "identity":
        return 1.0
    return nn.init.calculate_gain(name if name in _GAINS else "relu")  # type: ignore[arg-type]
