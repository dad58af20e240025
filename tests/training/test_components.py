"""Data, network, loss, optimizer and schedule from a plain config."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from multilayer import MLP, BuiltinData
from multilayer.core.errors import UserError
from multilayer.data import Minibatches, Preprocessing
from multilayer.data.table import Columns
from multilayer.nn.embeddings import CategoryEmbeddings
from multilayer.nn.losses import CrossEntropy
from multilayer.training.components import (
    _check_batch_normalization,
    _check_shape,
    check_components,
    make_checked_network,
    make_network,
    make_scheduler,
)
from multilayer.training.instantiate import instantiate
from multilayer.training.loss import balance_class_weights, make_loss

from ..trained import config_of


def can_train(network: nn.Module, minibatches: Minibatches) -> bool:
    """Whether torch takes every minibatch of an epoch."""
    try:
        for features, _ in minibatches:
            network.train()(features)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 9, 10, 20])
@pytest.mark.parametrize("network", [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), nn.ReLU()])
def test_minibatches_that_batch_normalization_would_refuse_are_refused_before(
    network: nn.Module, batch_size: int
) -> None:
    """Torch refuses a minibatch of one row, which comes at the end of an epoch for some sizes."""
    minibatches = Minibatches(torch.randn(10, 3), torch.zeros(10), batch_size=batch_size)
    if can_train(network, minibatches):
        _check_batch_normalization(network, minibatches)
    else:
        with pytest.raises(UserError, match=f"batch_size={batch_size}: of 10 rows"):
            _check_batch_normalization(network, minibatches)


def test_all_features_are_numbers_unless_it_is_said_how_many() -> None:
    """For a network that embeds its numbers, and has categories after them."""
    node = {
        "_target_": "multilayer.nn.PLRMLP",
        "n_features": "@n_features",
        "n_outputs": "@n_outputs",
        "n_numbers": "@n_numbers",
    }
    whole: Any = make_network(node, n_features=5, n_outputs=2)
    some: Any = make_network(node, n_features=5, n_outputs=2, n_numbers=3)
    assert [network[0].n_numbers for network in (whole, some)] == [5, 3]


@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_balanced_weights_count_the_training_rows_alone(name: str) -> None:
    """They are scikit-learn's n / (n_classes * count), of the training rows."""
    data = BuiltinData(name=name, max_train_rows=90)
    data.setup()
    target = data.targets[data.rows["train"]].numpy()
    expected = compute_class_weight("balanced", classes=np.unique(target), y=target)
    loss = {"_target_": "multilayer.nn.AutoLoss", "class_weights": "balanced"}
    config = balance_class_weights({"loss": loss, "other": 1}, data)
    assert config["loss"]["class_weights"] == pytest.approx(expected.tolist())
    assert config["other"] == 1
    task = data.columns.task
    assert make_loss(config, task, len(expected)).weight.tolist() == pytest.approx(expected)


def test_weights_that_are_given_stay_and_regression_has_none() -> None:
    """Only the word `balanced` is replaced."""
    data = BuiltinData(name="diabetes")
    data.setup()
    given = {"loss": {"class_weights": [1.0, 2.0]}}
    assert balance_class_weights(given, data) is given
    balanced = {"loss": {"class_weights": "balanced"}}
    assert balance_class_weights(balanced, data)["loss"]["class_weights"] is None


FLATS = Columns(["size", "city", "rooms"], "price", "regression", [], {"city": ["A", "B", "C"]})


def fitted_to_flats() -> Preprocessing:
    """Two numbers, of which one has gaps, and a city of three, of which one is rare."""
    rows = [[50.0, 0, 2], [70.0, 1, torch.nan], [90.0, 0, 4], [60.0, 1, 3], [80.0, 2, 3]]
    return Preprocessing.of(FLATS, min_frequency=2).fit_(torch.tensor(rows), torch.arange(5.0))


def test_a_network_is_as_wide_as_its_preprocessed_table() -> None:
    """Two numbers, one gap and three features of the city; a vector in place of these three."""
    one_hot = make_checked_network(config_of("model.d_hidden=[4]"), FLATS, fitted_to_flats())
    assert isinstance(one_hot, MLP)
    assert [layer.in_features for layer in linears(one_hot)] == [6, 4]
    assert linears(one_hot)[-1].out_features == 1
    words = ["data=table", "data.path=t.csv", "data.target=price"]
    words += ["data.categorical_encoding=embedding"]
    embedded = make_checked_network(
        config_of(*words, "model.d_hidden=[4]"), FLATS, fitted_to_flats()
    )
    assert isinstance(embedded, nn.Sequential)
    first, after = embedded
    assert isinstance(first, CategoryEmbeddings)
    assert first.sizes == [3, 3]
    assert [layer.in_features for layer in linears(after)] == [first.n_features, 4]
    assert linears(after)[-1].out_features == 1


def linears(network: nn.Module) -> list[nn.Linear]:
    """The linear layers, first to last."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)]


def test_only_numbers_are_embedded_as_numbers() -> None:
    """The features of gaps and categories pass beside them, and need no vectors."""
    network: Any = make_checked_network(config_of("model=mlp_plr"), FLATS, fitted_to_flats())
    assert network[0].n_numbers == 2


@pytest.mark.parametrize("training", [True, False])
def test_checking_the_shape_leaves_the_mode(training: bool) -> None:
    """And takes the network in evaluation: batch normalization, of two rows, would move."""
    network = MLP(6, 1, normalization="batch").train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _check_shape(network, 6, 1, "regression")
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Linear(6, 2),
            r"1 output a row for the task regression, 2 rows gave the shape \(2, 2\)",
        ),
        (nn.Sequential(nn.Linear(6, 1), nn.Flatten(0), nn.Flatten(0)), None),  # (B,) is (B, 1)
        (nn.Linear(5, 1), "does not take 6 features"),
        (nn.Flatten(0), r"gave the shape \(12,\)"),
    ],
)
def test_a_network_of_another_shape_is_refused(network: nn.Module, message: str | None) -> None:
    """With what it takes or gives."""
    if message is None:
        _check_shape(network, 6, 1, "regression")
    else:
        with pytest.raises(UserError, match=message):
            _check_shape(network, 6, 1, "regression")


def test_a_vector_is_no_row_of_several_classes() -> None:
    """`(B,)` stands for `(B, 1)` alone."""
    with pytest.raises(UserError, match="3 outputs a row for the task multiclass"):
        _check_shape(nn.Sequential(nn.Linear(1, 1), nn.Flatten(0)), 1, 3, "multiclass")


def test_weights_are_as_many_as_the_classes() -> None:
    """Refused by the key, once the number of classes is known."""
    config = config_of("loss=cross_entropy", "loss.class_weights=[1,2,3]")
    assert isinstance(make_loss(config, "multiclass", 3), CrossEntropy)
    with pytest.raises(UserError, match="loss: class_weights must hold 4 numbers, got 3"):
        make_loss(config, "multiclass", 4)


def test_a_schedule_may_be_told_the_number_of_epochs() -> None:
    """Torch's own cosine counts in those."""
    config = config_of("scheduler=step", "trainer.max_epochs=7")
    config["scheduler"]["scheduler"] = {
        "_target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
        "_partial_": True,
        "T_max": "@n_epochs",
    }
    scheduler = make_scheduler(config, n_steps=70)(torch.optim.SGD([nn.Parameter(torch.ones(1))]))
    assert scheduler.T_max == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import numpi", r"No module named 'numpi' \(.*broken\.py, line 2\)"),
        ("from multilayer import MLQ", r".*attribute.* MLQ.*|cannot import name 'MLQ' .*"),
        ("def f(:", r"invalid syntax \(broken\.py, line 2\)"),
        ("", r"module 'half\.broken' has no attribute 'Mine'"),
        (None, r"module 'half' has no attribute 'broken'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_answered_with_its_own_error(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line of the file, and not as if the file were not there."""
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "__init__.py").touch()
    if content is not None:
        (tmp_path / "half" / "broken.py").write_text(f"# mine\n{content}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("half", "half.broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=rf"^model\._target_=half\.broken\.Mine: {message}"):
        instantiate("model", {"_target_": "half.broken.Mine"})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheduler=plateau", "scheduler.interval=step"], "follows a metric of whole epochs"),
        (["data=diabetes", "loss=cross_entropy"], "loss: CrossEntropy is for multiclass"),
        (["trainer=gpu"], r"trainer\.accelerator=gpu: .*; use trainer=auto or trainer=cpu"),
    ],
)
def test_choices_that_do_not_fit_are_refused_before_data_is_read(
    overrides: list[str], message: str
) -> None:
    """With the key, and what would do."""
    if overrides == ["trainer=gpu"] and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=message):
        check_components(config_of(*overrides))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer", {"lr": -1.0}, "optimizer: Invalid learning rate"),
        ("scheduler", {"warmup_fraction": 2.0}, "scheduler: warmup_fraction must be"),
        ("model", {"dropout": 2.0}, "model: dropout must be"),
    ],
)
def test_what_a_component_refuses_is_told_by_its_key(
    key: str, value: dict[str, float], message: str
) -> None:
    """Also in a config that was never checked, as that of a checkpoint."""
    config = config_of("scheduler=cosine")
    node = config[key]
    (node["scheduler"] if key == "scheduler" else node).update(value)
    with pytest.raises(UserError, match=message):
        check_components(config)


def test_components_that_fit_are_as_they_were() -> None:
    """The network that was tried took no memory, and the config is the same."""
    config, same = config_of(), config_of()
    check_components(config)
    assert config == same
