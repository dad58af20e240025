"""Activations and their derivatives against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from multilayer.nn.mlp import ACTIVATIONS, TORCH_ACTIVATIONS, make_activation

Z = np.array([-3.0, -1.0, -0.25, 0.5, 1.0, 4.0])


def sigmoid(z):
    """1 / (1 + e^-z)."""
    return 1 / (1 + np.exp(-z))


def softplus(z):
    """log(1 + e^z)."""
    return np.log1p(np.exp(z))


def elu(z):
    """Clevert et al. 2016, with alpha = 1."""
    return np.where(z > 0, z, np.expm1(z))


NORMAL_CDF = np.vectorize(lambda z: (1 + math.erf(z / math.sqrt(2))) / 2)

# The two constants of Klambauer et al. 2017, which keep mean 0 and variance 1.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

CLOSED_FORMS = {
    "sigmoid": sigmoid,
    "tanh": lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
    "relu": lambda z: np.maximum(0, z),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": elu,
    "gelu": lambda z: z * NORMAL_CDF(z),
    "silu": lambda z: z * sigmoid(z),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(z)),
    "softplus": softplus,
    "mish": lambda z: z * np.tanh(softplus(z)),
    "identity": lambda z: z,
}

LECTURE_DERIVATIVES = {
    "sigmoid": lambda z, g: g * (1 - g),
    "tanh": lambda z, g: 1 - g**2,
    "relu": lambda z, g: (z > 0).astype(float),
}


def test_closed_forms_cover_every_activation():
    """No activation goes unchecked below."""
    assert set(CLOSED_FORMS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_name_gives_the_module_that_torch_calls_so(name):
    """`leaky_relu` is `torch.nn.LeakyReLU`: the class's name in lower case, words apart."""
    module = make_activation(name)
    assert type(module).__name__.lower() == name.replace("_", "")
    assert getattr(nn, type(module).__name__) is type(module)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_those_of_the_closed_form(name):
    """Every activation equals its definition, elementwise and in float64."""
    z = Z.reshape(2, 3)
    values = make_activation(name)(torch.from_numpy(z))
    np.testing.assert_allclose(values.numpy(), CLOSED_FORMS[name](z), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", LECTURE_DERIVATIVES)
def test_derivative_is_the_lecture_s(name):
    """Autograd, central finite differences and the lecture's g' agree."""
    activation = make_activation(name)
    z = torch.from_numpy(Z).requires_grad_()
    g = activation(z)
    (by_autograd,) = torch.autograd.grad(g.sum(), z)
    closed = LECTURE_DERIVATIVES[name](Z, g.detach().numpy())
    h = 1e-5
    differences = (activation(torch.from_numpy(Z + h)) - activation(torch.from_numpy(Z - h))) / (
        2 * h
    )
    np.testing.assert_allclose(by_autograd.numpy(), closed, rtol=1e-12)
    np.testing.assert_allclose(differences.numpy(), closed, rtol=1e-8, atol=1e-9)


def test_derivative_of_relu_at_zero_is_zero():
    """The lecture gives g'(z) = 1 for z > 0 and 0 otherwise, 0 included."""
    z = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    make_activation("relu")(z).backward()
    assert z.grad.item() == 0


def test_every_call_makes_a_module_of_its_own():
    """Two layers never share an activation."""
    assert make_activation("relu") is not make_activation("relu")


def test_unknown_name_is_told_the_nearest():
    """A misspelt name gets one message with the name and the nearest valid one."""
    with pytest.raises(ValueError, match=r"unknown activation 'rely': did you mean relu\?"):
        make_activation("rely")


def test_name_unlike_any_is_told_all():
    """Where nothing is near, every name is listed."""
    with pytest.raises(ValueError, match="choose from") as error:
        make_activation("xyz")
    assert all(name in str(error.value) for name in ACTIVATIONS)


@pytest.mark.parametrize("name", TORCH_ACTIVATIONS)
def test_a_class_of_torch_is_an_activation(name):
    """By its own name, and with torch's defaults: each value by itself."""
    activation = make_activation(name).eval()
    assert type(activation) is getattr(torch.nn, name)
    z = torch.tensor([[-2.0, -0.1], [0.3, 4.0]])
    by_itself = torch.stack([activation(value.reshape(1)) for value in z.reshape(-1)])
    torch.testing.assert_close(activation(z), by_itself.reshape(2, 2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Softmax", "several values together"),
        ("GLU", "several values together"),
        ("Threshold", "no default arguments"),
        ("hardswish", r"did you mean Hardswish\?"),
        ("swish", r"did you mean silu\?"),
        ("torch.nn.Hardswish", r"did you mean Hardswish\?"),
        ("xyz", "or a class of torch.nn such as Hardswish"),
    ],
)
def test_what_torch_has_and_is_no_activation_is_refused(name, message):
    """It would mix the units of a layer, or cannot be made."""
    with pytest.raises(ValueError, match=message):
        make_activation(name)
