"""Networks against the written formulas, their start and their gradients."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from multilayer.nn.mlp import MLP, DenseLayer, Perceptron

G = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(0, z),
    "identity": lambda z: z,
}


def numpy_of(linear):
    """The weights `(n_outputs, n_features)` and bias `(n_outputs,)` of a layer."""
    return linear.weight.detach().numpy(), linear.bias.detach().numpy()


def inputs(n_rows, n_features, seed=0):
    """Standard normal rows in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64)


def test_perceptron_answers_the_lecture_s_example():
    """With w0 = 1 and w = (3, -2), x = (-1, 2) gives z = -6 and g(z) = 0.00247."""
    perceptron = Perceptron(2)
    perceptron.linear.weight.data = torch.tensor([[3.0, -2.0]])
    perceptron.linear.bias.data = torch.tensor([1.0])
    x = torch.tensor([[-1.0, 2.0]])
    assert perceptron.linear(x).item() == -6
    assert perceptron(x).item() == pytest.approx(0.00247, abs=5e-6)
    assert perceptron(x).item() == pytest.approx(1 / (1 + math.exp(6)), rel=1e-6)


@pytest.mark.parametrize("name", G)
def test_perceptron_is_the_written_sum(name):
    """A perceptron of one output is g(w0 + sum_i x_i w_i)."""
    perceptron = Perceptron(3, activation=name).double()
    (w,), (w0,) = numpy_of(perceptron.linear)
    for x in inputs(4, 3):
        z = w0 + sum(float(x_i) * w_i for x_i, w_i in zip(x, w, strict=True))
        assert perceptron(x[None]).item() == pytest.approx(G[name](z), rel=1e-12)


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
@pytest.mark.parametrize("name", G)
def test_dense_layer_is_the_written_formula(name, n_outputs):
    """`(B, n_features)` becomes g(x W^T + b), `(B, n_outputs)`."""
    layer = DenseLayer(3, n_outputs, activation=name).double()
    weight, bias = numpy_of(layer.linear)
    x = inputs(7, 3)
    output = layer(x).detach().numpy()
    assert output.shape == (7, n_outputs)
    np.testing.assert_allclose(output, G[name](x.numpy() @ weight.T + bias), rtol=1e-12)


def test_outputs_side_by_side_are_perceptrons_of_their_own():
    """Output i of a multi-output perceptron depends on its own weights alone."""
    many = Perceptron(3, 2).double()
    x = inputs(5, 3)
    for i in range(2):
        one = Perceptron(3).double()
        one.linear.weight.data = many.linear.weight.data[i : i + 1]
        one.linear.bias.data = many.linear.bias.data[i : i + 1]
        torch.testing.assert_close(one(x)[:, 0], many(x)[:, i])


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("d_hidden", [[], [1], [5], [4, 6], [3, 1, 7, 2]])
def test_mlp_of_any_depth_is_the_written_network(d_hidden, name):
    """Each hidden layer is g(h W^T + b); the output layer is linear."""
    network = MLP(3, 2, d_hidden=d_hidden, activation=name).double()
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert [linear.out_features for linear in linears] == [*d_hidden, 2]
    x = inputs(7, 3)
    h = x.numpy()
    for linear in linears[:-1]:
        weight, bias = numpy_of(linear)
        h = G[name](h @ weight.T + bias)
    weight, bias = numpy_of(linears[-1])
    np.testing.assert_allclose(network(x).detach().numpy(), h @ weight.T + bias, rtol=1e-12)


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("d_hidden", [[], [128], [128, 64], [10, 20, 30, 40]])
def test_number_of_parameters_has_its_closed_form(d_hidden, normalization):
    """(d_in + 1) d_out a layer, and 2 d_out for each normalised hidden layer."""
    network = MLP(64, 10, d_hidden=d_hidden, normalization=normalization)
    widths = [64, *d_hidden, 10]
    expected = sum((a + 1) * b for a, b in pairwise(widths))
    expected += 2 * sum(d_hidden) if normalization else 0
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_slice_without_the_output_gives_the_last_hidden_values():
    """As of any `nn.Sequential`, a slice is a network: `[:-1]` for what the last layer sees."""
    network = MLP(4, 2, d_hidden=[8, 6])
    x = inputs(5, 4).float()
    torch.testing.assert_close(network[-1](network[:-1](x)), network(x))


def dropout_rates(network):
    """The rate of each dropout layer, first to last."""
    return [module.p for module in network.modules() if isinstance(module, nn.Dropout)]


def test_one_dropout_rate_is_that_of_every_hidden_layer():
    """A single rate goes to each hidden layer and not to the output."""
    assert dropout_rates(MLP(4, 2, d_hidden=[8, 8, 8], dropout=0.3)) == [0.3, 0.3, 0.3]


def test_dropout_rates_land_in_their_layers():
    """A list gives each hidden layer its own rate, first to last."""
    network = MLP(4, 2, d_hidden=[8, 16, 8], dropout=[0.1, 0.0, 0.5])
    *hidden, output = network
    rates = [(layer.linear.out_features, layer.dropout.p) for layer in hidden]
    assert rates == [(8, 0.1), (16, 0.0), (8, 0.5)]
    assert type(output) is nn.Linear


def test_layers_drop_their_own_share_in_training():
    """The share of zeros is binomial with the layer's rate; what is kept is scaled by 1/(1-p)."""
    rates, n_rows, width = [0.2, 0.0, 0.7], 200, 50
    network = MLP(4, 2, d_hidden=[width] * 3, dropout=rates, activation="sigmoid")
    torch.manual_seed(0)
    h = inputs(n_rows, 4).float()
    *hidden, _ = network
    for layer, rate in zip(hidden, rates, strict=True):
        dropped = layer(h)
        h = layer.activation(layer.linear(h))  # never 0, being a sigmoid
        kept = dropped != 0
        n = n_rows * width
        assert abs((~kept).sum().item() - n * rate) <= 5 * math.sqrt(n * rate * (1 - rate))
        torch.testing.assert_close(dropped[kept], h[kept] / (1 - rate))


def test_dropout_is_drawn_anew_in_each_step():
    """Two passes in training differ."""
    torch.manual_seed(0)
    network = MLP(4, 2, d_hidden=[50], dropout=0.5)
    x = inputs(8, 4).float()
    assert not torch.equal(network(x), network(x))


def test_evaluation_drops_nothing():
    """In eval mode the network is the one without dropout, every time."""
    network = MLP(4, 2, d_hidden=[50, 50], dropout=0.5).eval()
    without = MLP(4, 2, d_hidden=[50, 50]).eval()
    without.load_state_dict(network.state_dict())
    x = inputs(8, 4).float()
    torch.testing.assert_close(network(x), without(x), rtol=0, atol=0)
    torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize(("normalization", "axis"), [("batch", 0), ("layer", 1)])
def test_normalisation_standardises_before_the_activation(normalization, axis):
    """`batch` standardises each unit over the rows, `layer` each row over the units."""
    layer = DenseLayer(6, 40, activation="identity", normalization=normalization).double()
    x = 3 * inputs(30, 6) + 2
    z = layer.linear(x).detach().numpy()
    deviation = np.sqrt(z.var(axis, keepdims=True) + layer.normalization.eps)
    expected = (z - z.mean(axis, keepdims=True)) / deviation
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    layer.activation = nn.ReLU()
    np.testing.assert_allclose(
        layer(x).detach().numpy(), np.maximum(0, expected), rtol=1e-9, atol=1e-12
    )


def test_batch_normalisation_uses_its_running_means_in_evaluation():
    """In eval mode a row's output does not depend on the rows beside it."""
    layer = DenseLayer(6, 5, normalization="batch").double()
    x = inputs(30, 6)
    layer(x)
    layer.eval()
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))


@pytest.mark.parametrize("network", [DenseLayer, MLP])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "rely"}, "activation 'rely': did you mean relu?"),
        ({"normalization": "bath"}, "normalization 'bath': did you mean batch?"),
        ({"initialization": "kaimin"}, "initialization 'kaimin': did you mean kaiming?"),
        ({"dropout": 1.0}, "dropout .* got 1.0"),
        ({"dropout": -0.1}, "dropout .* got -0.1"),
        ({"dropout": math.nan}, "dropout .* got nan"),
        ({"sigma": -1.0}, "sigma .* got -1.0"),
        ({"sigma": math.nan, "initialization": "normal"}, "sigma .* got nan"),
    ],
)
def test_wrong_argument_is_named(network, arguments, message):
    """A wrong argument is one `ValueError` that says which it is and what came."""
    with pytest.raises(ValueError, match=message):
        network(3, 2, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_hidden": [4, 0]}, r"d_hidden .* got \[4, 0\]"),
        ({"d_hidden": [-1]}, r"d_hidden .* got \[-1\]"),
        ({"d_hidden": [4, 4], "dropout": [0.5]}, r"dropout .* 2 hidden layers, got \[0.5\]"),
        ({"d_hidden": [], "dropout": [0.5]}, r"dropout .* 0 hidden layers, got \[0.5\]"),
        ({"d_hidden": [4, 4], "dropout": [0.5, 1.5]}, "dropout .* got 1.5"),
    ],
)
def test_wrong_list_is_named(arguments, message):
    """So is a list that does not fit the network."""
    with pytest.raises(ValueError, match=message):
        MLP(3, 2, **arguments)


@pytest.mark.parametrize("network", [DenseLayer, Perceptron, MLP])
@pytest.mark.parametrize("name", ["n_features", "n_outputs"])
@pytest.mark.parametrize("width", [0, -1])
def test_width_below_one_is_named(network, name, width):
    """A network needs at least one feature and one output."""
    with pytest.raises(ValueError, match=f"{name} .* got {width}"):
        network(**{"n_features": 3, "n_outputs": 2, name: width})
    with pytest.raises(ValueError, match=f"{name} .* got {width}"):
        MLP(**{"n_features": 3, "n_outputs": 2, name: width}, d_hidden=[])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "rely"}, "activation 'rely'"),
        ({"normalization": "bath"}, "normalization 'bath'"),
        ({"initialization": "kaimin"}, "initialization 'kaimin'"),
        ({"dropout": 1.5}, "dropout .* got 1.5"),
        ({"sigma": -1.0}, "sigma .* got -1.0"),
    ],
)
def test_wrong_argument_is_named_without_a_hidden_layer(arguments, message):
    """A wrong argument is wrong at every depth: a sweep over depth does not hide it."""
    with pytest.raises(ValueError, match=message):
        MLP(3, 2, d_hidden=[], **arguments)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_backpropagation_is_right(name):
    """The gradient by every parameter and the input equals finite differences in float64."""
    torch.manual_seed(0)
    network = MLP(3, 2, d_hidden=[4, 3], activation=name, initialization="kaiming").double()
    names = [parameter_name for parameter_name, _ in network.named_parameters()]
    values = [parameter.detach().requires_grad_() for parameter in network.parameters()]
    x = inputs(5, 3).requires_grad_()

    def outputs(x, *parameters):
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(outputs, (x, *values))


def test_gradient_of_a_perceptron_is_the_chain_rule_s():
    """dJ/dw_i = dJ/dy g'(z) x_i, with J = (y - 1)^2 and the sigmoid's g' = g (1 - g)."""
    perceptron = Perceptron(2).double()
    x = inputs(1, 2)
    y = perceptron(x)
    (y - 1).square().sum().backward()
    g = y.item()
    by_z = 2 * (g - 1) * g * (1 - g)
    np.testing.assert_allclose(perceptron.linear.weight.grad[0], by_z * x[0], rtol=1e-12)
    np.testing.assert_allclose(perceptron.linear.bias.grad, [by_z], rtol=1e-12)
