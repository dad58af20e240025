"""First layers that turn features into vectors."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from multilayer.embeddings import CategoryEmbeddings, embedding_width
from multilayer.evaluate import evaluate
from multilayer.runs.checkpoint import load_trained

from .test_train import config_of, train_in


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
    assert embedding_width(n_labels) == min(50, int(np.ceil(1.6 * n_labels**0.56)))


def test_a_table_with_embeddings_trains_and_is_evaluated(tmp_path) -> None:
    """The checkpoint alone rebuilds the network, with the widths that the training rows gave."""
    rng = np.random.default_rng(0)
    city = rng.choice(["Bern", "Rome", "Oslo", "Nice"], 200, p=[0.5, 0.3, 0.19, 0.01])
    size = rng.gamma(3.0, 20.0, 200)
    price = size + np.where(city == "Bern", 100.0, 0.0)
    pl.DataFrame({"city": city, "size": size, "price": price}).write_csv(tmp_path / "t.csv")
    words = ["data=table", f"data.path={tmp_path}/t.csv", "data.target=price"]
    words += ["data.categories=embedding", "trainer.max_epochs=20", "optimizer.lr=0.01"]
    result = train_in(tmp_path / "run", *words)
    assert result.metrics["test"]["r2"] > 0.8
    question = {"run": str(tmp_path / "run"), "split": "test", "data": {"path": None}}
    found = evaluate(question | {"allow": [], "device": "cpu"})
    assert found.metrics == result.metrics["test"]
    trained = load_trained(tmp_path / "run" / "checkpoints" / "best.ckpt", allowed=[])
    assert isinstance(trained.module.network, nn.Sequential)
    assert isinstance(trained.module.network[0], CategoryEmbeddings)
    assert config_of(*words)["data"]["categories"] == "embedding"
