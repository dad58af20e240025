"""What a finding is, and the thresholds that decide it, with reasons. The report prints them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that a sweep teaches besides its winner: a title of a few words, and a sentence."""

    title: str
    text: str


EDGE = 0.05
"""Share of the swept range: a best value this close to its end is on the edge. Of a grid of up to
20 values these are the first and the last; a search that draws values has no exact last one."""

MAX_FACTOR = 10
"""From one suggested value to the next: who tried 0.01 and 1000 has left out more between them."""

EQUIVALENT = 1.0
"""Residual standard deviations of a single run: values of a hyperparameter are as good as equal if
the 95 % intervals of their differences stay within. Who trains one run gains or loses as much by
chance. With fewer than about ten seeds hardly an interval is so narrow, and nothing is claimed."""

LATE = 0.1
"""Share of the epochs: a best epoch in this last part leaves doubt whether the run was finished."""

MIN_LATE_GAIN = 0.01
"""Share of the metric: an improvement over the last part that is smaller than this is none; it is
within what 270 validation rows, as those of digits, can tell."""

ACCURACY_GAP = 0.05
"""Between training and validation accuracy, for overfitting; and between the training accuracy and
the best one of the sweep, for underfitting. Five points are seen with a hundred validation rows."""

LOSS_FACTOR = 1.25
"""The same where there is no accuracy: a loss or an error that is a quarter higher."""

MIN_AUROC = 0.6
"""In training: a network that ranks the rows by chance has 0.5."""

ONE_CLASS = 0.001
"""Distance of an F1 from that of always predicting one class, up to which it is taken for that."""

MIN_R2 = 0.05
"""Share of the target's variance: a regression that explains less in training learns nothing."""

LARGE_RISE = 0.25
"""The rise of the validation loss from its best epoch to the end that is a finding: the last epoch
is then far worse than the best one, as bad as a wrong learning rate for those who stop there.
Figures call a smaller rise a turning point already, `multilayer.plotting.style.TURN`."""
