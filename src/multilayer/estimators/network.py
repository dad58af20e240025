"""An estimator's network: built from its arguments, and to and from arrays."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from multilayer.nn.mlp import MLP, Normalization
from multilayer.training.task_model import TaskModel

_ALSO_CALLED = {"logistic": "sigmoid"}
"""Activations that scikit-learn calls otherwise."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Weights: TypeAlias = dict[str, Array]


def make_network(
    widths: Sequence[int],
    *,
    activation: str,
    dropout: float | Sequence[float],
    normalization: Normalization | None,
    dtype: torch.dtype,
) -> TaskModel:
    """A network without weights yet, in a form that stacks.

    Args:
        widths: of the input, the hidden layers and the output.
        activation: of the hidden layers.
        dropout: one rate for every hidden layer, or a list with one rate each.
        normalization: of the hidden layers.
        dtype: of the weights.

    Raises:
        ValueError: `MLP` does not take one of them.
    """
    n_features, *hidden, n_outputs = widths
    with torch.device("meta"):  # drawing torch's initial weights would move its generator
        network = MLP(
            n_features,
            n_outputs,
            d_hidden=hidden,
            activation=_ALSO_CALLED.get(activation, activation),
            dropout=dropout,
            normalization=normalization,
        )
    network.to(dtype)
    return TaskModel(network, "regression", loss=nn.Identity())


def initial_weights(network: nn.Module, activation: str, random: np.random.RandomState) -> Weights:
    """Weights drawn as `MLPClassifier` draws them: uniform, by Glorot and Bengio 2010.

    From the same generator they are the same to the last bit.

    Args:
        network: for its shapes.
        activation: the estimator's.
        random: what they are drawn from.
    """
    factor = 2.0 if activation in ("logistic", "sigmoid") else 6.0
    drawn: Weights = {}
    for prefix, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            shape = layer.in_features, layer.out_features
            bound = sqrt(factor / sum(shape))
            drawn[f"{prefix}.weight"] = random.uniform(-bound, bound, shape).T
            drawn[f"{prefix}.bias"] = random.uniform(-bound, bound, shape[1])
    ones = ("weight", "running_var")
    for name, each in network.state_dict().items():
        if name not in drawn:  # of a normalization
            fill = 1.0 if name.rpartition(".")[2] in ones else 0.0
            drawn[name] = np.full(tuple(each.shape), fill)
    return {name: drawn[name] for name in network.state_dict()}


def give_weights(network: nn.Module, weights: Mapping[str, Array]) -> None:
    """Give a network from `make_network` its weights; the arrays are copied.

    Raises:
        ValueError: They are not of the network's names and shapes.
    """
    own = network.state_dict()
    wanted = {name: tuple(each.shape) for name, each in own.items()}
    found = {name: each.shape for name, each in weights.items()}
    if wanted != found:
        unlike = sorted(wanted.items() ^ found.items())
        raise ValueError(f"the weights are those of another network: {unlike[0][0]}")
    state = {name: torch.tensor(weights[name], dtype=own[name].dtype) for name in own}
    network.load_state_dict(state, assign=True)


def weights_of(network: nn.Module) -> Weights:
    """The weights and buffers of a network as arrays."""
    return {name: each.numpy().copy() for name, each in network.state_dict().items()}


def as_tensor(array: Array) -> Tensor:
    """An array as a tensor, without copying where torch can do without."""
    whole = np.asarray(array, order="C")
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())
