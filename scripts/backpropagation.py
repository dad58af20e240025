"""Prints every factor of the chain rule in one small network, next to autograd's gradient.

python scripts/backpropagation.py

Two inputs, two hidden units, one output; sigmoids and the binary cross entropy, in float64. The
factors are worked out by hand with plain numbers, the gradient by torch through `MLP`.
"""

from math import exp, log, prod

import torch

from multilayer import MLP, BinaryCrossEntropy

X, Y = (-1.0, 2.0), 1.0
"""One row: two features, and its class."""

HIDDEN = ((1.0, 0.3, -0.2), (-0.5, 0.4, 0.1))
"""The bias and the two weights of each hidden unit."""

OUTPUT = (0.2, 0.5, -0.6)
"""The bias of the output, and its weight for each hidden unit."""

Factor = tuple[str, float]
"""A derivative, by its name, and its value."""


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)); its derivative is s (1 - s)."""
    return 1 / (1 + exp(-z))


def weighted_sum(weights: tuple[float, ...], inputs: tuple[float, ...]) -> float:
    """The bias, and each input times its weight."""
    bias, *others = weights
    return bias + sum(w * x for w, x in zip(others, inputs, strict=True))


def forward() -> dict[str, float]:
    """Every value from the input to the loss, by its name."""
    values: dict[str, float] = {}
    for i, weights in enumerate(HIDDEN, 1):
        values[f"z{i}"] = weighted_sum(weights, X)
        values[f"h{i}"] = sigmoid(values[f"z{i}"])
    values["z"] = weighted_sum(OUTPUT, (values["h1"], values["h2"]))
    values["p"] = sigmoid(values["z"])
    values["J"] = -(Y * log(values["p"]) + (1 - Y) * log(1 - values["p"]))
    return values


def factors(values: dict[str, float]) -> dict[str, list[Factor]]:
    """The factors of the derivative of J by each weight, from the loss back to the weight."""
    p, (_, *to_hidden) = values["p"], OUTPUT
    shared = [("dJ/dp", (p - Y) / (p * (1 - p))), ("dp/dz", p * (1 - p))]
    found = {"v0": [*shared, ("dz/dv0", 1.0)]}
    for i, v in enumerate(to_hidden, 1):
        h = values[f"h{i}"]
        found[f"v{i}"] = [*shared, (f"dz/dv{i}", h)]
        below = [*shared, (f"dz/dh{i}", v), (f"dh{i}/dz{i}", h * (1 - h))]
        for j, x in enumerate((1.0, *X)):
            found[f"w{i}{j}"] = [*below, (f"dz{i}/dw{i}{j}", x)]
    return found


def autograd() -> dict[str, float]:
    """The derivative of J by each weight, as torch finds it."""
    network = MLP(2, 1, d_hidden=[2], activation="sigmoid").double()
    layers = ((network[0].linear, HIDDEN), (network[1], (OUTPUT,)))
    with torch.no_grad():
        for layer, rows in layers:
            table = torch.tensor(rows, dtype=torch.float64)  # a bias, and then the weights
            layer.bias.copy_(table[:, 0])
            layer.weight.copy_(table[:, 1:])
    logit = network(torch.tensor([X], dtype=torch.float64)).squeeze(1)
    BinaryCrossEntropy()(logit, torch.tensor([Y], dtype=torch.float64)).backward()
    w, v = (torch.column_stack([layer.bias.grad, layer.weight.grad]) for layer, _ in layers)
    gradients = {f"v{i}": v[0, i] for i in range(3)}
    gradients |= {f"w{i}{j}": w[i - 1, j] for i in (1, 2) for j in range(3)}
    return {name: float(value) for name, value in gradients.items()}


def main() -> None:
    """Print the values forwards, the factors backwards, and both gradients."""
    values, by_torch = forward(), autograd()
    print(f"forwards: x = ({X[0]:g}, {X[1]:g}), y = {Y:g}")
    for name, value in values.items():
        print(f"  {name:2} = {value: .6f}")
    print("\nbackwards: the factors of each derivative, their product, and autograd's")
    for weight, chain in factors(values).items():
        names, numbers = zip(*chain, strict=True)
        print(f"  dJ/d{weight:3} = {' * '.join(names)}")
        print(f"          = {' * '.join(f'{number:.6f}' for number in numbers)}")
        print(f"          = {prod(numbers): .15f}")
        print(f"  autograd: {by_torch[weight]: .15f}\n")


if __name__ == "__main__":
    main()
