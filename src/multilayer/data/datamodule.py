"""Data sets as Lightning takes them; the only file of this package that needs Lightning."""

from typing import Any

import pytorch_lightning as pl
import torch

from multilayer.data.batches import BatchIterator, Minibatches
from multilayer.data.dataset import Dataset
from multilayer.data.mnist_idx import IdxDataset
from multilayer.data.pass_class import PassClassDataset
from multilayer.data.sklearn_data import BuiltinDataset
from multilayer.data.split import Split
from multilayer.data.tabular import TableDataset


class _Loaders(pl.LightningDataModule):
    """The minibatches of a data set, on the trainer's device; in DDP this process's share."""

    dataset: Dataset

    def train_dataloader(self) -> BatchIterator:
        """The training rows."""
        if trainer := self.trainer:
            self.dataset.rank, self.dataset.n_ranks = trainer.global_rank, trainer.world_size
        return self.dataset.train_minibatches(self._device())

    def val_dataloader(self) -> Minibatches:
        """The validation rows."""
        return self._in_order("validation")

    def test_dataloader(self) -> Minibatches:
        """The test rows in order; also to predict."""
        return self._in_order("test")

    predict_dataloader = test_dataloader

    def _in_order(self, split: Split) -> Minibatches:
        """The rows of a split."""
        return self.dataset.minibatches(split, self._device())

    def _device(self) -> torch.device | None:
        """Where the trainer's network is; None if there is no trainer."""
        return self.trainer.strategy.root_device if self.trainer else None

    def _share_preprocessing(self) -> None:
        """Give the module the preprocessing, before callbacks that copy the module are set up."""
        module: Any = self.trainer.lightning_module if self.trainer else None
        if hasattr(module, "take_preprocessing"):
            module.take_preprocessing(self.dataset.preprocessing)


class _Adapted(_Loaders):
    """Any data set for a trainer; its attributes are the data set's."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if "dataset" not in vars(self):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:  # as a `BatchSizeFinder` sets one
        dataset = vars(self).get("dataset")
        if dataset is not None and hasattr(dataset, name):
            setattr(dataset, name, value)
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str | None = None) -> None:
        """Load, split and preprocess, once; Lightning calls it before each of its stages."""
        self.dataset.setup(stage)
        self._share_preprocessing()


class DataModule(Dataset, _Loaders):
    """A data set that is a `LightningDataModule` too: subclass it and write `load`.

    >>> import torch
    >>> from multilayer.data import Columns, Table
    >>> class Sums(DataModule):
    ...     def load(self):
    ...         rows = torch.rand(100, 2)
    ...         return Table(rows, rows.sum(dim=1), Columns(["a", "b"], "sum", "regression", []))
    >>> data = Sums(batch_size=10)
    >>> data.setup()
    >>> features, target = next(iter(data.train_dataloader()))
    >>> features.shape, target.shape
    (torch.Size([10, 2]), torch.Size([10]))
    """

    @property
    def dataset(self) -> Dataset:  # type: ignore[override]
        """The data set itself."""
        return self

    def setup(self, stage: str | None = None) -> None:
        """Load, split and preprocess, once; Lightning calls it before each of its stages."""
        super().setup(stage)
        self._share_preprocessing()


class BuiltinData(BuiltinDataset, DataModule):
    """`BuiltinDataset` for a `pytorch_lightning.Trainer`.

    >>> data = BuiltinData(name="iris", batch_size=16)
    >>> data.setup()
    >>> features, target = next(iter(data.train_dataloader()))
    >>> features.shape, target.shape
    (torch.Size([16, 4]), torch.Size([16]))
    """


class TableData(TableDataset, DataModule):
    """`TableDataset` for a `pytorch_lightning.Trainer`.

    >>> data = TableData(path="flats.csv", target="price", batch_size=256)
    >>> data.target
    'price'
    """


class IdxData(IdxDataset, DataModule):
    """`IdxDataset` for a `pytorch_lightning.Trainer`.

    >>> data = IdxData(path="mnist", batch_size=256)
    >>> data.batch_size
    256
    """


class PassClassData(PassClassDataset, DataModule):
    """`PassClassDataset` for a `pytorch_lightning.Trainer`.

    >>> data = PassClassData()
    >>> data.setup()
    >>> data.columns.features, data.columns.classes
    (['lectures', 'hours'], ['no', 'yes'])
    """


def as_datamodule(dataset: Dataset) -> pl.LightningDataModule:
    """A data set for a `pytorch_lightning.Trainer`, which looks for its attributes there too.

    >>> data = as_datamodule(BuiltinDataset(name="iris"))
    >>> data.setup()
    >>> data.columns.n_outputs
    3
    """
    return dataset if isinstance(dataset, DataModule) else _Adapted(dataset)
