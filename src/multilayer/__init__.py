"""Multilayer perceptrons on PyTorch Lightning, configured with Hydra.

The names below are imported when they are first used: torch takes seconds to import, and the
command line answers without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multilayer.data import BuiltinData as BuiltinData
    from multilayer.data import DataModule as DataModule
    from multilayer.data import Minibatches as Minibatches
    from multilayer.data import PassClassData as PassClassData
    from multilayer.data import Preprocessing as Preprocessing
    from multilayer.data import TableData as TableData
    from multilayer.nn.activations import make_activation as make_activation
    from multilayer.nn.embeddings import PLRMLP as PLRMLP
    from multilayer.nn.losses import BinaryCrossEntropy as BinaryCrossEntropy
    from multilayer.nn.losses import CrossEntropy as CrossEntropy
    from multilayer.nn.metrics import metrics_of as metrics_of
    from multilayer.nn.mlp import MLP as MLP
    from multilayer.nn.mlp import DenseLayer as DenseLayer
    from multilayer.nn.mlp import Perceptron as Perceptron
    from multilayer.training.module import BinaryModule as BinaryModule
    from multilayer.training.module import MulticlassModule as MulticlassModule
    from multilayer.training.module import RegressionModule as RegressionModule
    from multilayer.training.module import SupervisedModule as SupervisedModule

_MODULE_OF = {
    "MLP": "mlp",
    "PLRMLP": "embeddings",
    "BinaryCrossEntropy": "losses",
    "BinaryModule": "modules",
    "BuiltinData": "data",
    "CrossEntropy": "losses",
    "DataModule": "data",
    "DenseLayer": "mlp",
    "Minibatches": "data",
    "MulticlassModule": "modules",
    "PassClassData": "data",
    "Perceptron": "mlp",
    "Preprocessing": "data",
    "RegressionModule": "modules",
    "SupervisedModule": "modules",
    "TableData": "data",
    "make_activation": "activations",
    "metrics_of": "metrics",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'multilayer' has no attribute {name!r}")
    return getattr(import_module(f"multilayer.{_MODULE_OF[name]}"), name)
