"""Networks: the perceptron, the dense layer, the MLP built from them, and their activations."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn.modules import activation as torch_activations

from multilayer.core.errors import did_you_mean, unknown_name
from multilayer.core.text import counted
from multilayer.nn.initialization import Initialization, initialize_

Normalization = Literal["batch", "layer"]

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
"""The activation functions, by name."""

_NOT_ELEMENTWISE = ("GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin")
_NEEDS_ARGUMENTS = ("Threshold",)
_ALSO_CALLED = {"linear": "identity", "logistic": "sigmoid", "none": "identity", "swish": "silu"}

TORCH_ACTIVATIONS: dict[str, type[nn.Module]] = {
    name: getattr(torch_activations, name)
    for name in torch_activations.__all__
    if name not in (*_NOT_ELEMENTWISE, *_NEEDS_ARGUMENTS)
}
"""The classes of `torch.nn` that are used with torch's defaults, by their names."""


def make_activation(name: str) -> nn.Module:
    """The elementwise activation called `name`: any shape in, the same shape out.

    Args:
        name: One of `ACTIVATIONS` or `TORCH_ACTIVATIONS`.

    Raises:
        ValueError: It is neither.

    >>> import torch
    >>> make_activation("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    made = ACTIVATIONS.get(name) or TORCH_ACTIVATIONS.get(name)
    if made is not None:
        return made()
    if name in _NOT_ELEMENTWISE:
        raise ValueError(f"unknown activation {name!r}: torch's acts on several values together")
    if name in _NEEDS_ARGUMENTS:
        raise ValueError(f"unknown activation {name!r}: torch's has no default arguments")
    raise ValueError(_unknown_activation(name))


def _unknown_activation(name: str) -> str:
    """The message, with the nearest name in any case; or else with ours."""
    known = [*ACTIVATIONS, *TORCH_ACTIVATIONS]
    own = name.rpartition(".")[2].lower()  # of `torch.nn.ReLU`, for example
    same = [each for each in known if each.lower() in (own, own.replace("_", ""))]
    other = [_ALSO_CALLED[name.lower()]] if name.lower() in _ALSO_CALLED else []
    near = same or other or get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else did_you_mean(name, ACTIVATIONS)
    more = "" if near else ", or a class of torch.nn such as Hardswish"
    return f"unknown activation {name!r}: {hint}{more}"


class DenseLayer(nn.Module):
    """Every input connected to every output: `g(norm(w0 + x'w))`, then dropout.

    Maps `(B, n_features)` to `(B, n_outputs)`.

    Args:
        n_features: the width of the input.
        n_outputs: the width of the output.
        activation: a name in `ACTIVATIONS`.
        dropout: the fraction of outputs set to 0 in training (Srivastava et al. 2014).
        normalization: of the values before the activation; None for none.
        initialization: of the weights; see `multilayer.nn.initialization.initialize_`.
        sigma: the standard deviation for `initialization="normal"`.

    Raises:
        ValueError: A name is unknown, a width is below 1, `dropout` is outside [0, 1), or `sigma`
            is negative.

    >>> import torch
    >>> DenseLayer(3, 2, activation="tanh")(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        normalization: Normalization | None = None,
        initialization: Initialization = "default",
        sigma: float = 0.05,
    ) -> None:
        _check_widths(n_features=n_features, n_outputs=n_outputs)
        _check_rate(dropout)
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.normalization = _make_normalization(normalization, n_outputs)
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(dropout)
        initialize_(self.linear, initialization, activation=activation, sigma=sigma)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        z = self.linear(x)  # (B, n_features) -> (B, n_outputs)
        out: Tensor = self.dropout(self.activation(self.normalization(z)))
        return out


class Perceptron(DenseLayer):
    """One or more perceptrons in parallel: `g(w0 + x'w)`, by default with the sigmoid.

    Maps `(B, n_features)` to `(B, n_outputs)`. In training use `activation="identity"`: the losses
    take logits. For the arguments see `DenseLayer`.

    The lecture's example, w0 = 1 and w = (3, -2) at x = (-1, 2), gives z = -6:

    >>> import torch
    >>> perceptron = Perceptron(n_features=2)
    >>> perceptron.linear.weight.data = torch.tensor([[3.0, -2.0]])
    >>> perceptron.linear.bias.data = torch.tensor([1.0])
    >>> x = torch.tensor([[-1.0, 2.0]])
    >>> perceptron.linear(x).item()
    -6.0
    >>> round(perceptron(x).item(), 5)
    0.00247
    """

    def __init__(
        self, n_features: int, n_outputs: int = 1, *, activation: str = "sigmoid", **layer: Any
    ) -> None:
        super().__init__(n_features, n_outputs, activation=activation, **layer)


class MLP(nn.Sequential):
    """A multilayer perceptron: dense layers of the given widths, then a linear output layer.

    Maps `(B, n_features)` to `(B, n_outputs)`, logits or values: no activation follows the last
    layer.

    Args:
        n_features: the width of the input.
        n_outputs: the width of the output.
        d_hidden: the width of each hidden layer; empty for none.
        activation: of the hidden layers; a name in `ACTIVATIONS`.
        dropout: one rate for every hidden layer, or a list with one rate each.
        normalization: of the hidden layers, before the activation; None for none.
        initialization: of all weights; see `multilayer.nn.initialization.initialize_`.
        sigma: the standard deviation for `initialization="normal"`.

    Raises:
        ValueError: As for `DenseLayer`, or `dropout` is a list of another length than `d_hidden`.

    >>> import torch
    >>> network = MLP(64, 10, d_hidden=[128, 64], dropout=[0.2, 0.0])
    >>> network(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    >>> sum(parameter.numel() for parameter in network.parameters())
    17226
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        d_hidden: Sequence[int] = (128, 64),
        activation: str = "relu",
        dropout: float | Sequence[float] = 0.0,
        normalization: Normalization | None = None,
        initialization: Initialization = "default",
        sigma: float = 0.05,
    ) -> None:
        _check_widths(n_features=n_features, n_outputs=n_outputs)
        if any(width < 1 for width in d_hidden):
            raise ValueError(f"d_hidden must hold widths of at least 1, got {list(d_hidden)}")
        if not isinstance(dropout, Sequence):
            _check_rate(dropout)
            dropout = [dropout] * len(d_hidden)
        if len(dropout) != len(d_hidden):
            raise ValueError(
                f"dropout must be one rate, or one for each of "
                f"{counted(len(d_hidden), 'hidden layer')}, "
                f"got {list(dropout)}"
            )
        # Checked here too, so that a wrong name is found even without hidden layers.
        make_activation(activation)
        _make_normalization(normalization, 1)
        options: dict[str, Any] = {
            "activation": activation,
            "normalization": normalization,
            "initialization": initialization,
            "sigma": sigma,
        }
        widths = [n_features, *d_hidden]
        layers: list[nn.Module] = [
            DenseLayer(d_in, d_out, dropout=rate, **options)
            for d_in, d_out, rate in zip(widths[:-1], d_hidden, dropout, strict=True)
        ]
        output = nn.Linear(widths[-1], n_outputs)
        initialize_(output, initialization, activation="identity", sigma=sigma)
        super().__init__(*layers, output)

    def __getitem__(self, index: slice | int) -> Any:
        """A layer; for a slice, those layers as a plain `nn.Sequential`."""
        chosen = list(self)[index]
        return nn.Sequential(*chosen) if isinstance(chosen, list) else chosen


def _check_rate(dropout: float) -> None:
    """Raise `ValueError` for a rate outside [0, 1)."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")


def _check_widths(**widths: int) -> None:
    """Raise `ValueError`, with its name, for a width below 1."""
    for name, width in widths.items():
        if width < 1:
            raise ValueError(f"{name} must be at least 1, got {width}")


def _make_normalization(name: Normalization | None, width: int) -> nn.Module:
    """The normalization layer called `name` for `(B, width)`; for None, the identity."""
    layers = {None: nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    if name not in layers:
        raise ValueError(unknown_name("normalization", str(name), get_args(Normalization)))
    layer: nn.Module = layers[name](width)
    return layer
