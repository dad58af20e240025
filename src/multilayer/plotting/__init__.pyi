from .boundary import draw_boundary as draw_boundary
from .calibration import draw_calibration as draw_calibration
from .confusion_matrix import draw_confusion_matrix as draw_confusion_matrix
from .learning_curves import plot_learning_curves as plot_learning_curves
from .predicted import draw_predicted as draw_predicted
from .roc import draw_roc as draw_roc
