"""Data sets: tables, their splits, preprocessing and minibatches."""

from multilayer.data.batches import Minibatches
from multilayer.data.datamodule import DataModule
from multilayer.data.mnist_idx import IdxData
from multilayer.data.pass_class import PassClassData
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.sklearn_data import BuiltinData
from multilayer.data.tabular import TableData

__all__ = [
    "BuiltinData",
    "DataModule",
    "IdxData",
    "Minibatches",
    "PassClassData",
    "Preprocessing",
    "TableData",
]
