from .batches import Minibatches as Minibatches
from .datamodule import DataModule as DataModule
from .mnist_idx import IdxData as IdxData
from .pass_class import PassClassData as PassClassData
from .preprocessing import Preprocessing as Preprocessing
from .sklearn_data import BuiltinData as BuiltinData
from .tabular import TableData as TableData
