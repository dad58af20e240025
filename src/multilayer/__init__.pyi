from .cli import compose as compose
from .cli import train as train
from .data import BuiltinData as BuiltinData
from .data import DataModule as DataModule
from .data import Dataset as Dataset
from .data import Minibatches as Minibatches
from .data import PassClassData as PassClassData
from .data import Preprocessing as Preprocessing
from .data import TableData as TableData
from .nn import MLP as MLP
from .nn import PLRMLP as PLRMLP
from .nn import BinaryCrossEntropy as BinaryCrossEntropy
from .nn import CrossEntropy as CrossEntropy
from .nn import DenseLayer as DenseLayer
from .nn import Perceptron as Perceptron
from .nn import make_activation as make_activation
from .nn import metrics_of as metrics_of
from .runs import Result as Result
from .stacking import StackedOptimizer as StackedOptimizer
from .stacking import stacked_form_of as stacked_form_of
from .training import BinaryModule as BinaryModule
from .training import MulticlassModule as MulticlassModule
from .training import Predictor as Predictor
from .training import RegressionModule as RegressionModule
from .training import SupervisedModule as SupervisedModule
from .training import load as load

__version__: str
