"""Norms of gradients and weights, dead units and activations, layer by layer over the epochs."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.task_model import TaskModel

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

    >>> from multilayer.training import lightning_callbacks
    >>> callbacks = lightning_callbacks(Diagnostics(every_n_epochs=5))
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
        rows = record.rows("train", at_most=self.n_rows)
        with record.inspect() as module:
            scalars, values = _compute_stats(module, *(each.to(module.device) for each in rows))
        record.log_scalars(scalars)
        writer = record.tensorboard()
        if writer is not None:
            step = int(record.step[0]) - 1  # as Lightning counts
            for name, each in values.items():
                writer.add_histogram_raw(name, **_histogram(each), global_step=step)


@torch.no_grad()
def _compute_stats(
    module: TaskModel, features: Tensor, target: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run some rows forward and backward, through a module in evaluation mode.

    Args:
        module: the module.
        features: preprocessed rows, `(N, D)`.
        target: `(N,)`.

    Returns:
        The scalars and the values of the layers that are finite, `(n,)`, by the names to log.
    """
    parameters = dict(module.network.named_parameters())
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    with torch.enable_grad():
        output, hidden, last = _forward(module, features)
        loss = module.loss_of(output, target)
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    known = {name: each for name, each in zip(trained, gradients, strict=True) if each is not None}
    groups = {
        "gradient_norm": _norms(known),
        "weight_norm": _norms(parameters),
        "dead_units": {name: _dead_units(values) for name, values in hidden.items()},
    }
    scalars = {f"{key}/{name}": each for key, own in groups.items() for name, each in own.items()}
    values = {name: each[each.isfinite()] for name, each in {**hidden, last: output}.items()}
    return scalars, {f"activations/{name}": each for name, each in values.items() if len(each)}


def _forward(module: TaskModel, features: Tensor) -> tuple[Tensor, dict[str, Tensor], str]:
    """The output, the hidden values `(N, n_units)` by layer, and the name of the last layer.

    The hidden values are the inputs of the layers with weights, by the name of the layer before: so
    the activation may be a module or a function.
    """
    inputs: list[tuple[str, Tensor]] = []

    def note(name: str, layer: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].ndim > 1:
            inputs.append((name, given[0].detach().flatten(1)))

    hooks = [
        layer.register_forward_pre_hook(partial(note, name))
        for name, layer in module.network.named_modules()
        if _has_weights(layer)
    ]
    try:
        output = module.output(features)
    finally:
        for hook in hooks:
            hook.remove()
    hidden = {name: values for (name, _), (_, values) in pairwise(inputs)}
    return output, hidden, inputs[-1][0] if inputs else "network"


def _has_weights(layer: nn.Module) -> bool:
    """Whether a layer has a weight matrix, unlike a normalization."""
    own = layer.parameters(recurse=False)
    return isinstance(layer, nn.Linear) or any(parameter.ndim > 1 for parameter in own)


def _norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The Euclidean norm of the tensors of each layer, and of all.

    >>> _norms({"0.weight": torch.tensor([[3.0]]), "0.bias": torch.tensor([4.0])})
    {'0': tensor(5.), 'all': tensor(5.)}
    """
    layers: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        for layer in (name.rpartition(".")[0] or "network", "all"):
            layers.setdefault(layer, []).append(tensor.float())
    return {layer: nn.utils.get_total_norm(own) for layer, own in layers.items()}


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
