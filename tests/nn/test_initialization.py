"""Initial weights against the published deviations, and against torch's own."""

import math

import pytest
import torch
from torch import nn

from multilayer.nn.initialization import _gain
from multilayer.nn.mlp import MLP, DenseLayer, Perceptron, make_activation


@pytest.mark.parametrize(
    ("initialization", "activation", "expected"),
    [
        ("normal", "relu", lambda n_in, n_out: 0.2),
        ("normal", "sigmoid", lambda n_in, n_out: 0.2),
        ("kaiming", "relu", lambda n_in, n_out: math.sqrt(2 / n_in)),  # He et al. 2015, eq. 10
        ("kaiming", "tanh", lambda n_in, n_out: 5 / 3 / math.sqrt(n_in)),
        ("xavier", "identity", lambda n_in, n_out: math.sqrt(2 / (n_in + n_out))),  # Glorot, eq. 12
        ("xavier", "relu", lambda n_in, n_out: math.sqrt(2) * math.sqrt(2 / (n_in + n_out))),
    ],
)
def test_weights_are_normal_with_the_published_deviation(initialization, activation, expected):
    """Mean and deviation lie within five standard errors, and the tails are a normal's."""
    torch.manual_seed(0)
    linear = DenseLayer(
        300, 200, activation=activation, initialization=initialization, sigma=0.2
    ).linear
    weight = linear.weight.detach().double()
    sigma, n = expected(300, 200), weight.numel()
    assert abs(weight.mean().item()) < 5 * sigma / math.sqrt(n)
    assert abs(weight.std().item() - sigma) < 5 * sigma / math.sqrt(2 * n)
    share = math.erf(1 / math.sqrt(2))  # of a normal's draws within one sigma
    n_within = (weight.abs() < sigma).sum().item()
    assert abs(n_within - n * share) < 5 * math.sqrt(n * share * (1 - share))


@pytest.mark.parametrize("initialization", ["normal", "kaiming", "xavier"])
def test_biases_start_at_zero(initialization):
    """All but torch's own initialization start every bias at 0, the output's too."""
    network = MLP(5, 3, d_hidden=[7, 6], initialization=initialization)
    biases = [module.bias for module in network.modules() if isinstance(module, nn.Linear)]
    assert len(biases) == 3
    assert all((bias == 0).all() for bias in biases)


@pytest.mark.parametrize(
    ("initialization", "variance"),
    [("kaiming", lambda n_in, n_out: 1 / n_in), ("xavier", lambda n_in, n_out: 2 / (n_in + n_out))],
)
def test_output_layer_starts_as_linear(initialization, variance):
    """No activation follows the output layer, so its gain is 1 whatever the network's is."""
    torch.manual_seed(0)
    output = MLP(5, 200, d_hidden=[300], activation="relu", initialization=initialization)[-1]
    sigma = math.sqrt(variance(300, 200))
    deviation = output.weight.std().item()
    assert abs(deviation - sigma) < 5 * sigma / math.sqrt(2 * output.weight.numel())


@pytest.mark.parametrize("network", [DenseLayer, Perceptron, MLP])
@pytest.mark.parametrize(("arguments", "sigma"), [({}, 0.05), ({"sigma": 0.3}, 0.3)])
def test_every_layer_starts_with_the_given_deviation(network, arguments, sigma):
    """`normal` reaches the hidden layers and the output alike, 0.05 where none is given."""
    torch.manual_seed(0)
    layers = network(400, 300, initialization="normal", **arguments).modules()
    for weight in [layer.weight.detach() for layer in layers if isinstance(layer, nn.Linear)]:
        assert abs(weight.std().item() - sigma) < 5 * sigma / math.sqrt(2 * weight.numel())


def test_sigma_zero_starts_every_weight_at_zero():
    """N(0, 0) is 0."""
    assert (DenseLayer(4, 3, initialization="normal", sigma=0.0).linear.weight == 0).all()


def test_default_initialization_is_torch_s():
    """With the same seed, the weights and biases are those of `torch.nn.Linear` in a row."""
    torch.manual_seed(7)
    network = MLP(5, 3, d_hidden=[8, 6])
    torch.manual_seed(7)
    linears = [nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)]
    ours = [module for module in network.modules() if isinstance(module, nn.Linear)]
    for mine, torchs in zip(ours, linears, strict=True):
        torch.testing.assert_close(mine.weight, torchs.weight, rtol=0, atol=0)
        torch.testing.assert_close(mine.bias, torchs.bias, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", 1.0),
        ("sigmoid", 1.0),
        ("tanh", 5 / 3),
        ("relu", math.sqrt(2)),
        ("leaky_relu", math.sqrt(2 / (1 + 0.01**2))),
        ("selu", 3 / 4),
    ],
)
def test_the_gain_is_that_of_torch_if_torch_has_one(name, expected):
    """The closed forms in the documentation of `torch.nn.init.calculate_gain`."""
    assert _gain(name) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["elu", "gelu", "silu", "softplus", "mish"])
def test_the_gain_of_other_activations_is_that_of_relu(name):
    """Activations whose gain torch does not know are initialized like relu."""
    assert _gain(name) == _gain("relu")


def test_relu_s_gain_keeps_the_second_moment():
    """He et al. 2015: gain^2 E[relu(z)^2] = 1 for standard normal z."""
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moment = (_gain("relu") * make_activation("relu")(z)).square().mean().item()
    # The variance of 2 relu(z)^2 is 4 E[z^4] / 2 - 1 = 5; five standard errors are allowed.
    assert moment == pytest.approx(1, abs=5 * math.sqrt(5 / len(z)))
