"""Figures of what a network predicts, one kind a file; each takes arrays and gives a figure."""

from multilayer.plotting.predictions.boundary import draw_boundary
from multilayer.plotting.predictions.calibration import draw_calibration
from multilayer.plotting.predictions.confusion_matrix import draw_confusion_matrix
from multilayer.plotting.predictions.predicted import draw_predicted
from multilayer.plotting.predictions.roc import draw_roc

__all__ = [
    "draw_boundary",
    "draw_calibration",
    "draw_confusion_matrix",
    "draw_predicted",
    "draw_roc",
]
