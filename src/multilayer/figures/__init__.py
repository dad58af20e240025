"""Figures of what a network predicts, one kind a file; each takes arrays and gives a figure."""

from multilayer.figures.boundary import draw_boundary
from multilayer.figures.calibration import draw_calibration
from multilayer.figures.confusion_matrix import draw_confusion_matrix
from multilayer.figures.predicted import draw_predicted
from multilayer.figures.roc import draw_roc

__all__ = [
    "draw_boundary",
    "draw_calibration",
    "draw_confusion_matrix",
    "draw_predicted",
    "draw_roc",
]
