"""Callbacks: what happens beside the training steps."""

from multilayer.callbacks.best_epoch_marker import TurningPoint
from multilayer.callbacks.best_weights import BestWeights
from multilayer.callbacks.checkpoint import Checkpoint
from multilayer.callbacks.diagnostics import Diagnostics
from multilayer.callbacks.early_stopping import EarlyStopping
from multilayer.callbacks.learning_curves import LearningCurves
from multilayer.callbacks.learning_rate import LearningRate
from multilayer.callbacks.prediction_figures import Figures
from multilayer.callbacks.progress import TrainingProgress
from multilayer.callbacks.summary import NetworkSummary
from multilayer.lr_sweep.callback import LearningRateSweep

__all__ = [
    "BestWeights",
    "Checkpoint",
    "Diagnostics",
    "EarlyStopping",
    "Figures",
    "LearningCurves",
    "LearningRate",
    "LearningRateSweep",
    "NetworkSummary",
    "TrainingProgress",
    "TurningPoint",
]
