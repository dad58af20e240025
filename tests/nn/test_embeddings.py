"""First layers that turn features into vectors."""

import numpy as np
import polars as pl
import pytest
import torch
from rtdl_num_embeddings import PeriodicEmbeddings
from torch import nn

from multilayer.nn.embeddings import (
    PLRMLP,
    CategoryEmbeddings,
    NumberEmbeddings,
    _embedding_width,
)
from multilayer.nn.mlp import MLP
from multilayer.training.evaluate import evaluate
from multilayer.training.loading import load

from ..trained import config_of, train_in


def test_each_label_has_a_vector_as_in_torch() -> None:
    """`nn.Embedding` on the index of the label; numbers pass, and no label is zeros."""
    layer = CategoryEmbeddings(2, [3, 5])
    codes = torch.tensor([[0, 4], [2, 1], [1, 0]])
    numbers = torch.randn(3, 2)
    one_hot = [nn.functional.one_hot(codes[:, i], n).float() for i, n in enumerate((3, 5))]
    found = layer(torch.cat([numbers, *one_hot], dim=1))
    vectors = [nn.functional.embedding(codes[:, i], own) for i, own in enumerate(layer.vectors)]
    torch.testing.assert_close(found, torch.cat([numbers, *vectors], dim=1))
    assert found.shape == (3, layer.n_features)
    assert layer(torch.zeros(1, 10)).tolist() == [[0.0] * layer.n_features]


@pytest.mark.parametrize("n_labels", [1, 2, 10, 1000])
def test_widths_follow_the_rule(n_labels: int) -> None:
    """fastai's, rounded up."""
    assert _embedding_width(n_labels) == min(50, int(np.ceil(1.6 * n_labels**0.56)))


def test_numbers_are_embedded_by_the_published_package() -> None:
    """Its vectors one after the other, then the features that are no numbers."""
    layer = NumberEmbeddings(PeriodicEmbeddings(3, 5, n_frequencies=4, lite=False))
    x = torch.randn(7, 5)
    expected = layer.embeddings(x[:, :3])
    found = layer(x)
    assert found.shape == (7, 17)
    torch.testing.assert_close(found[:, :15].view(7, 3, 5), expected)
    torch.testing.assert_close(found[:, 15:], x[:, 3:])


def test_periodic_embeddings_fit_what_a_plain_perceptron_does_not(tmp_path) -> None:
    """A fast wave, with as many epochs and the same rate."""
    rng = np.random.default_rng(0)
    x, word = rng.uniform(-1, 1, 600), rng.choice(["p", "q"], 600)
    y = np.sin(12 * x) + (word == "p") + 0.05 * rng.normal(size=600)
    pl.DataFrame({"x": x, "word": word, "y": y}).write_csv(tmp_path / "t.csv")
    words = ["data=table", f"data.path={tmp_path}/t.csv", "data.target=y", "callbacks=none"]
    words += ["trainer.max_epochs=40", "optimizer.lr=0.003"]
    plr = ["model=mlp_plr", "model.frequency_scale=1.0"]
    results = [
        train_in(tmp_path / name, *words, *model).metrics["test"]["r2"]
        for name, model in (("plain", []), ("plr", plr))
    ]
    assert results[1] > 0.95 > results[0]


@pytest.mark.parametrize(
    ("arguments", "d_embedding", "of_the_package"),
    [
        ({}, 24, {"n_frequencies": 48, "frequency_init_scale": 0.01, "lite": False}),
        (
            {"d_embedding": 5, "n_frequencies": 7, "frequency_scale": 0.3, "lite": True},
            5,
            {"n_frequencies": 7, "frequency_init_scale": 0.3, "lite": True},
        ),
    ],
)
@pytest.mark.parametrize("n_numbers", [1, 4, 6])
def test_embedded_numbers_and_the_other_features_go_into_a_perceptron(
    arguments, d_embedding, of_the_package, n_numbers
) -> None:
    """With one seed the outputs are those of the package's layer and an `MLP` after it."""
    x = torch.randn(5, 6)
    torch.manual_seed(0)
    network = PLRMLP(6, 3, n_numbers=n_numbers, **arguments, d_hidden=[16], activation="tanh")
    torch.manual_seed(0)
    first = PeriodicEmbeddings(n_numbers, d_embedding, **of_the_package)
    perceptron = MLP(n_numbers * d_embedding + 6 - n_numbers, 3, d_hidden=[16], activation="tanh")
    embedded = torch.cat([first(x[:, :n_numbers]).flatten(1), x[:, n_numbers:]], dim=1)
    torch.testing.assert_close(network(x), perceptron(embedded))


@pytest.mark.parametrize("n_numbers", [0, 7])
def test_a_number_of_numbers_that_cannot_be_is_told(n_numbers: int) -> None:
    """At least one, and no more than there are features."""
    with pytest.raises(ValueError, match="n_numbers must be from 1 to 6"):
        PLRMLP(6, 2, n_numbers=n_numbers)


def test_a_table_with_embeddings_trains_and_is_evaluated(tmp_path) -> None:
    """The checkpoint alone rebuilds the network, with the widths that the training rows gave."""
    rng = np.random.default_rng(0)
    city = rng.choice(["Bern", "Rome", "Oslo", "Nice"], 200, p=[0.5, 0.3, 0.19, 0.01])
    size = rng.gamma(3.0, 20.0, 200)
    price = size + np.where(city == "Bern", 100.0, 0.0)
    pl.DataFrame({"city": city, "size": size, "price": price}).write_csv(tmp_path / "t.csv")
    words = ["data=table", f"data.path={tmp_path}/t.csv", "data.target=price"]
    words += ["data.categorical_encoding=embedding", "trainer.max_epochs=20", "optimizer.lr=0.01"]
    result = train_in(tmp_path / "run", *words)
    assert result.metrics["test"]["r2"] > 0.8
    question = {"run": str(tmp_path / "run"), "split": "test", "data": {"path": None}}
    found = evaluate(question | {"trusted_packages": [], "device": "cpu"})
    assert found.metrics == result.metrics["test"]
    trained = load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert isinstance(trained.task_model.network, nn.Sequential)
    assert isinstance(trained.task_model.network[0], CategoryEmbeddings)
    assert config_of(*words)["data"]["categorical_encoding"] == "embedding"
