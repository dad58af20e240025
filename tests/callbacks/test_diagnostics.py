"""Norms, dead units and activations, against torch's own gradients and networks that are known."""

from copy import deepcopy
from pathlib import Path

import polars as pl
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from multilayer import MLP, PLRMLP, BinaryModule, MulticlassModule, Perceptron, RegressionModule
from multilayer.callbacks import Diagnostics
from multilayer.callbacks.diagnostics import _compute_stats, _histogram

from ..trained import train_in


class Functional(nn.Module):
    """A network of a user's own, whose activation is a function and no module."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 3)` to `(B, 1)`."""
        return self.last(self.scale * torch.relu(self.first(x)))


def rows(n_features: int) -> tuple[Tensor, Tensor]:
    """Forty rows, with two classes."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, n_features, generator=generator)
    return features, (features.sum(dim=1) > 0).long()


def norms(scalars: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Those of the gradient or the weight, by layer."""
    stem = f"{kind}_norm/"
    return {name.removeprefix(stem): each for name, each in scalars.items() if stem in name}


def test_gradients_are_those_of_autograd() -> None:
    """Of the loss in evaluation, by layer and in all; none is left in the network."""
    network = MLP(3, 2, d_hidden=[8, 4], dropout=0.5, normalization="batch")
    module = MulticlassModule(network).train()
    features, target = rows(3)
    other = deepcopy(module).eval()
    other.loss(other.output(features), target).backward()
    before = deepcopy(module.state_dict())
    scalars, _ = _compute_stats(module.eval(), features, target)
    gradient_norms, weight_norms = norms(scalars, "gradient"), norms(scalars, "weight")
    assert gradient_norms.keys() == weight_norms.keys()
    for name, norm in gradient_norms.items():
        layer = other.network if name == "all" else other.network.get_submodule(name)
        own = list(layer.parameters())
        gradients = torch.cat([each.grad.flatten() for each in own if each.grad is not None])
        assert norm == pytest.approx(gradients.norm())
        weights = torch.cat([each.detach().flatten() for each in own])
        assert weight_norms[name] == pytest.approx(weights.norm())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in module.modules())


@pytest.mark.parametrize(("activation", "bias"), [("relu", -1e3), ("tanh", 1e3), ("tanh", -1e3)])
def test_units_that_are_always_the_same_are_dead(activation: str, bias: float) -> None:
    """Three of eight, of a ReLU at 0 or a saturated tanh; the next layer's live."""
    torch.manual_seed(0)  # by chance, others are dead too
    network = MLP(3, 1, d_hidden=[8, 4], activation=activation)
    with torch.no_grad():
        network[0].linear.bias[:3] = bias
        network[1].linear.bias[:] = 5.0
        network[1].linear.weight[:] *= 0.1
    scalars, _ = _compute_stats(BinaryModule(network), *rows(3))
    assert scalars["dead_units/0.linear"] == 3 / 8
    assert scalars["dead_units/1.linear"] == 0
    assert "dead_units/2" not in scalars  # the outputs are no hidden layer


def test_an_activation_may_be_a_function() -> None:
    """What counts is what the next layer is given."""
    torch.manual_seed(0)
    network = Functional()
    with torch.no_grad():
        network.first.bias[:2] = -1e3
    scalars, _ = _compute_stats(BinaryModule(network), *rows(3))
    assert scalars["dead_units/first"] == 2 / 8
    assert set(norms(scalars, "weight")) == {"network", "first", "last", "all"}
    assert scalars["weight_norm/network"] == 2


def test_a_perceptron_has_no_hidden_layer() -> None:
    """It has norms and outputs all the same."""
    scalars, values = _compute_stats(BinaryModule(Perceptron(3, activation="identity")), *rows(3))
    assert set(norms(scalars, "gradient")) == {"linear", "all"}
    assert list(values) == ["activations/linear"]
    assert not any(name.startswith("dead_units") for name in scalars)


def test_embeddings_of_numbers_are_hidden_layers() -> None:
    """As wide as what the next layer takes."""
    network = PLRMLP(3, 1, n_numbers=3, d_embedding=4, d_hidden=[8])
    _, values = _compute_stats(RegressionModule(network), rows(3)[0], torch.zeros(40))
    assert list(values)[-2] == "activations/1.linear"  # before the output
    assert len(values["activations/0.embeddings.linear"]) == 40 * 3 * 4


def test_values_that_are_not_finite_are_in_no_histogram() -> None:
    """A network that has diverged has no activations to show."""
    network = MLP(3, 1, d_hidden=[8])
    nn.init.constant_(network[0].linear.weight, torch.nan)
    scalars, values = _compute_stats(BinaryModule(network), *rows(3))
    assert values == {}
    assert scalars["gradient_norm/all"].isnan()


def test_a_histogram_counts_all_values() -> None:
    """Also where they are all the same."""
    for values in (torch.arange(100.0), torch.zeros(7)):
        found = _histogram(values)
        assert sum(found["bucket_counts"]) == found["num"] == len(values)
        assert found["bucket_limits"][-1] >= values.max()
        assert found["sum"] == values.sum()


@pytest.mark.parametrize("model", ["mlp", "sequential", "perceptron", "mlp_plr"])
def test_all_loggers_get_the_scalars_and_tensorboard_the_histograms(
    model: str, tmp_path: Path
) -> None:
    """In the epochs asked for, at the steps of the other curves."""
    train_in(
        tmp_path, "data=iris", f"model={model}", "trainer.max_epochs=4", "data.batch_size=52",
        "callbacks=[learning_rate,diagnostics]", "callbacks.diagnostics.every_n_epochs=3",
        "logger=[tensorboard,csv]",
    )  # fmt: skip
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = events.Tags()
    of_norms = [tag for tag in tags["scalars"] if tag.startswith("gradient_norm/")]
    assert "gradient_norm/all" in of_norms
    for tag in (*of_norms, *(tag.replace("gradient", "weight") for tag in of_norms)):
        assert [event.step for event in events.Scalars(tag)] == [1, 7]
    assert tags["histograms"]
    assert all(tag.startswith("activations/") for tag in tags["histograms"])
    frame = pl.read_csv(tmp_path / "csv" / "metrics.csv", infer_schema_length=None)
    values = frame["gradient_norm/all"].drop_nulls().to_list()
    assert values == pytest.approx([event.value for event in events.Scalars("gradient_norm/all")])


@pytest.mark.parametrize("name", ["every_n_epochs", "n_rows"])
def test_less_than_one_is_refused(name: str) -> None:
    """It would look at nothing."""
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Diagnostics(**{name: 0})
