"""Networks: the perceptron, the dense layer, and the multilayer perceptron built from them."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from multilayer.core.errors import unknown_name
from multilayer.nn.activations import gain, make_activation

Initialization = Literal["default", "normal", "kaiming", "xavier"]
Normalization = Literal["batch", "layer"]


class DenseLayer(nn.Module):
    """Every input connected to every output: `g(norm(w0 + x'w))`, then dropout.

    **Shape**

    - Input: `(B, n_features)`
    - Output: `(B, n_outputs)`

    Raises `ValueError` for an unknown name, a dropout rate outside [0, 1) and a negative sigma.

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
        """Arguments beside the widths.

        activation: a name in `multilayer.nn.activations.ACTIVATIONS`.
        dropout: the share of outputs set to 0 in training (Srivastava et al. 2014).
        normalization: of the values before the activation; None for none.
        initialization: of the weights; `default` is torch's own for `nn.Linear`, `normal` is
            N(0, sigma^2), `kaiming` is He et al. 2015 and `xavier` Glorot and Bengio 2010, both
            normal. The last three start the biases at 0.
        sigma: the standard deviation for `initialization="normal"`.
        """
        check_widths(n_features=n_features, n_outputs=n_outputs)
        check_rate(dropout)
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.normalization = make_normalization(normalization, n_outputs)
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(dropout)
        initialize_(self.linear, initialization, activation=activation, sigma=sigma)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        z = self.linear(x)  # (B, n_features) -> (B, n_outputs)
        out: Tensor = self.dropout(self.activation(self.normalization(z)))
        return out


class Perceptron(DenseLayer):
    """One or more perceptrons side by side: `g(w0 + x'w)`, by default with the sigmoid.

    In training use `activation="identity"`: the losses take logits.

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
        self,
        n_features: int,
        n_outputs: int = 1,
        *,
        activation: str = "sigmoid",
        initialization: Initialization = "default",
        sigma: float = 0.05,
    ) -> None:
        super().__init__(
            n_features,
            n_outputs,
            activation=activation,
            initialization=initialization,
            sigma=sigma,
        )


class MLP(nn.Sequential):
    """A multilayer perceptron: dense layers of the given widths, then a linear output layer.

    **Shape**

    - Input: `(B, n_features)`
    - Output: `(B, n_outputs)`, logits or values: no activation follows the last layer.

    Raises `ValueError` for a width below 1 and a list of rates of another length than `d_hidden`.

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
        """Arguments beside those of `DenseLayer`.

        d_hidden: the width of each hidden layer; empty for none.
        dropout: one rate for every hidden layer, or a list with one rate each.
        """
        check_widths(n_features=n_features, n_outputs=n_outputs)
        if any(width < 1 for width in d_hidden):
            raise ValueError(f"d_hidden must hold widths of at least 1, got {list(d_hidden)}")
        rates = rate_per_layer(dropout, len(d_hidden))
        # Checked here too, so that a wrong name is found where no hidden layer takes it.
        make_activation(activation)
        make_normalization(normalization, 1)
        widths = [n_features, *d_hidden]
        layers: list[nn.Module] = [
            DenseLayer(
                d_in,
                d_out,
                activation=activation,
                dropout=rate,
                normalization=normalization,
                initialization=initialization,
                sigma=sigma,
            )
            for d_in, d_out, rate in zip(widths[:-1], d_hidden, rates, strict=True)
        ]
        output = nn.Linear(widths[-1], n_outputs)
        initialize_(output, initialization, activation="identity", sigma=sigma)
        super().__init__(*layers, output)

    def __getitem__(self, index: slice | int) -> Any:
        """A layer; for a slice, those layers as a plain `nn.Sequential`."""
        chosen = list(self)[index]
        return nn.Sequential(*chosen) if isinstance(chosen, list) else chosen


def rate_per_layer(dropout: float | Sequence[float], n_layers: int) -> list[float]:
    """One dropout rate for each layer.

    >>> rate_per_layer(0.5, 2)
    [0.5, 0.5]
    """
    if not isinstance(dropout, Sequence):
        check_rate(dropout)
        return [dropout] * n_layers
    if len(dropout) != n_layers:
        raise ValueError(
            f"dropout must be one rate, or one for each of the {n_layers} hidden layers, "
            f"got {list(dropout)}"
        )
    return list(dropout)


def check_rate(dropout: float) -> None:
    """Raise `ValueError` for a rate that drops less than nothing, or all."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")


def check_widths(**widths: int) -> None:
    """Raise `ValueError` for a width below 1, by its name."""
    for name, width in widths.items():
        if width < 1:
            raise ValueError(f"{name} must be at least 1, got {width}")


def make_normalization(name: Normalization | None, width: int) -> nn.Module:
    """The normalisation layer called `name` for `(B, width)`; None changes nothing."""
    if name is None:
        return nn.Identity()
    layers: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    if name not in layers:
        raise ValueError(unknown_name("normalization", name, layers))
    return layers[name](width)


def initialize_(
    linear: nn.Linear, initialization: Initialization, *, activation: str, sigma: float
) -> None:
    """Set the weights of `linear` in place, and its bias to 0 unless torch's default is kept."""
    if initialization not in get_args(Initialization):
        raise ValueError(unknown_name("initialization", initialization, get_args(Initialization)))
    if not sigma >= 0:
        raise ValueError(f"sigma must be at least 0, got {sigma}")
    if initialization == "default":
        return
    if initialization == "normal":
        nn.init.normal_(linear.weight, std=sigma)
    elif initialization == "kaiming":
        nn.init.normal_(linear.weight, std=gain(activation) * linear.in_features**-0.5)
    else:
        nn.init.xavier_normal_(linear.weight, gain=gain(activation))
    nn.init.zeros_(linear.bias)
