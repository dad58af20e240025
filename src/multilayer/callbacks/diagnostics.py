"""Norms of gradients and weights, dead units and activations, layer by layer over the epochs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.module import SupervisedModule

_N_BINS = 64
"""Of a histogram; TensorBoard draws half as many."""

_DEAD_BELOW = 1e-6
"""A unit whose values differ by less over the rows is dead."""


class Diagnostics(EpochCallback):
    """Logs norms, dead units and activations at the end of an epoch, on the same training rows.

    The loggers get scalars, by the names of the layers, and `all` for the network:

    - `gradient_norm/LAYER`: of the loss of these rows, without dropout, by the layer's parameters.
    - `weight_norm/LAYER`: of the layer's parameters, biases too.
    - `dead_units/LAYER`: the share of a hidden layer's units whose value is the same for all rows:
      a ReLU that is always 0, a tanh that is saturated.

    TensorBoard gets a histogram of the values of each layer too, `activations/LAYER`: what the next
    layer takes, and of the last one what the network gives. Nothing of this changes the training.
    """

    def __init__(self, *, every_n_epochs: int = 1, n_rows: int = 1024) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("n_rows", n_rows)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.every_n_epochs = every_n_epochs
        self.n_rows = n_rows

    def on_epoch_end(self, record: Record) -> None:
        """Inspect the network, if it is time again."""
        if (record.epoch[0] - 1) % self.every_n_epochs or not record.writes_files:
            return
        features, target = record.rows("train", at_most=self.n_rows)
        with record.inspect() as module:
            stats = compute_stats(module, features.to(module.device), target.to(module.device))
        record.log_scalars(stats.scalars())
        writer = record.tensorboard()
        if writer is not None:
            step = int(record.step[0]) - 1  # as Lightning counts
            for name, values in stats.histograms().items():
                writer.add_histogram_raw(name, **_histogram(values), global_step=step)


@dataclass(frozen=True)
class NetworkStats:
    """Norms and activations of a network, by the names of its layers.

    Attributes:
        gradient_norms: of the loss, by the layer's parameters.
        weight_norms: of the layer's parameters.
        hidden: the values of the hidden layers, `(n_rows, n_units)` each.
        output: the name of the last layer, and the network's outputs, `(n_rows, n_outputs)`.
    """

    gradient_norms: dict[str, Tensor]
    weight_norms: dict[str, Tensor]
    hidden: dict[str, Tensor]
    output: tuple[str, Tensor]

    def scalars(self) -> dict[str, Tensor]:
        """The scalars by the names to log."""
        groups = {
            "gradient_norm": self.gradient_norms,
            "weight_norm": self.weight_norms,
            "dead_units": {name: _dead_units(values) for name, values in self.hidden.items()},
        }
        return {f"{key}/{name}": each for key, own in groups.items() for name, each in own.items()}

    def histograms(self) -> dict[str, Tensor]:
        """The values that are finite, by the names to log; none where there are none."""
        values = {**self.hidden, self.output[0]: self.output[1]}
        finite = {name: each[each.isfinite()] for name, each in values.items()}
        return {f"activations/{name}": each for name, each in finite.items() if len(each)}


def compute_stats(module: SupervisedModule, features: Tensor, target: Tensor) -> NetworkStats:
    """Run some rows forward and backward, through a module in evaluation mode.

    Args:
        module: the module.
        features: preprocessed rows, `(N, D)`.
        target: `(N,)`.
    """
    parameters = dict(module.network.named_parameters())
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    with torch.enable_grad():
        with _hidden_values(module.network) as hidden:
            output = module.output(features)
        loss = module.loss_of(output, target)
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    found = dict(zip(trained, gradients, strict=True))
    return NetworkStats(
        gradient_norms=_norms({name: each for name, each in found.items() if each is not None}),
        weight_norms=_norms({name: each.detach() for name, each in parameters.items()}),
        hidden=hidden.values,
        output=(hidden.last or "network", output.detach().reshape(len(output), -1)),
    )


def _norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The Euclidean norm of the tensors of each layer, and of all.

    >>> _norms({"0.weight": torch.tensor([[3.0]]), "0.bias": torch.tensor([4.0])})
    {'0': tensor(5.), 'all': tensor(5.)}
    """
    squares: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        layer = name.rpartition(".")[0] or "network"
        squares.setdefault(layer, []).append(tensor.float().square().sum())
    each = {layer: torch.stack(own).sum() for layer, own in squares.items()}
    if each:
        each["all"] = torch.stack(list(each.values())).sum()
    return {layer: square.sqrt() for layer, square in each.items()}


def _dead_units(values: Tensor) -> Tensor:
    """The share of units that are the same for all rows; values `(n_rows, n_units)`.

    >>> _dead_units(torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    tensor(0.5000)
    """
    spread = values.amax(dim=0) - values.amin(dim=0)
    return (spread < _DEAD_BELOW).float().mean()


def _histogram(values: Tensor) -> dict[str, Any]:
    """The arguments of TensorBoard's `add_histogram_raw` for values `(N,)`.

    torch's own `add_histogram`, with its 1,500 uneven parts, takes several times as long.
    """
    values = values.float()
    low, high = float(values.min()), float(values.max())
    if low == high:  # a layer whose every unit is dead
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(values, _N_BINS, low, high)
    return {
        "min": low,
        "max": high,
        "num": len(values),
        "sum": float(values.sum()),
        "sum_squares": float(values.square().sum()),
        "bucket_limits": torch.linspace(low, high, _N_BINS + 1)[1:].tolist(),
        "bucket_counts": counts.tolist(),
    }


class _HiddenValues:
    """The inputs of the layers with weights, by the name of the layer before: the hidden values.

    So the activation may be a module or a function.
    """

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.last: str | None = None

    def see(self, name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Called before each layer with weights."""
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim > 1:
            if self.last is not None:
                self.values[self.last] = inputs[0].detach().flatten(1)
            self.last = name


@contextmanager
def _hidden_values(network: nn.Module) -> Iterator[_HiddenValues]:
    """Collect the hidden values of a forward pass within."""
    found = _HiddenValues()
    hooks = [
        layer.register_forward_pre_hook(partial(found.see, name))
        for name, layer in network.named_modules()
        if _has_weights(layer)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _has_weights(layer: nn.Module) -> bool:
    """Whether a layer has a weight matrix, unlike a normalization."""
    own = layer.parameters(recurse=False)
    return isinstance(layer, nn.Linear) or any(parameter.ndim > 1 for parameter in own)
