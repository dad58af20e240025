"""Data sets in a `pytorch_lightning.Trainer`."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from multilayer.data import BuiltinData, BuiltinDataset, DataModule, Dataset, as_datamodule
from multilayer.data.dataset import overridden_loader
from multilayer.nn import MLP
from multilayer.training import MulticlassModule


def fitted_on(data: Any) -> torch.Tensor:
    """The weights of a network after an epoch, which takes over the preprocessing of the data."""
    torch.manual_seed(0)
    module = MulticlassModule(MLP(4, 3), optimizer=torch.optim.SGD)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    assert module.preprocessing.n_columns == 4
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def test_a_plain_data_set_trains_as_the_data_module_of_its_name() -> None:
    """Row for row; the wrapper has the attributes of the data set, which may be set there too."""
    plain = BuiltinDataset(name="iris")
    data = as_datamodule(plain)
    assert torch.equal(fitted_on(data), fitted_on(BuiltinData(name="iris")))
    assert data.columns.classes == ["setosa", "versicolor", "virginica"]
    with pytest.raises(AttributeError, match="no attribute 'colums'"):
        _ = data.colums
    data.batch_size = 16
    assert plain.batch_size == 16
    assert len(data.train_dataloader()) == 7


def test_a_data_module_is_not_wrapped() -> None:
    """It is both already."""
    data = BuiltinData(name="iris")
    assert isinstance(data, Dataset)
    assert as_datamodule(data) is data


class OtherRows(BuiltinDataset):
    def train_minibatches(self, device: torch.device | None = None) -> Any:
        """Other rows."""


class OtherLoader(BuiltinData):
    def train_dataloader(self) -> Any:
        """Another loader."""


class OtherBatches(DataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Changes minibatches, as Lightning allows."""


class Plain(BuiltinDataset):
    def batches_seen(self) -> int:
        """A method that changes nothing."""
        return 0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OtherRows, "train_minibatches"),
        (OtherLoader, "train_dataloader"),
        (OtherBatches, "on_after_batch_transfer"),
        (Plain, None),
        (BuiltinDataset, None),
        (BuiltinData, None),
    ],
)
def test_a_loader_of_its_own_is_found(kind: type, expected: str | None) -> None:
    """A stack trains on the rows themselves, and would pass over it."""
    assert overridden_loader(kind) == expected
