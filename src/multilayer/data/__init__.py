"""Data sets: tables, their splits, preprocessing and minibatches."""

from multilayer.data.builtin import BuiltinData
from multilayer.data.datamodule import DataModule
from multilayer.data.idx import IdxData
from multilayer.data.minibatches import Minibatches
from multilayer.data.pass_class import PassClassData
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table_data import TableData

__all__ = [
    "BuiltinData",
    "DataModule",
    "IdxData",
    "Minibatches",
    "PassClassData",
    "Preprocessing",
    "TableData",
]
