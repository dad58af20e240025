"""The bounds that decide what the report finds, each with its reason. The report prints them."""

EDGE = 0.05
"""Of the range that was swept: a best value so near to its end is on the edge. Of a grid of up to
20 values these are the first and the last; a search that draws values has no exact last one."""

MOST_FACTOR = 10
"""From one suggested value to the next: who tried 0.01 and 1000 has left out more between them."""

EQUIVALENT = 1.0
"""Residual standard deviations of a single run: values of a setting are as good as equal if the
95 % intervals of their differences stay within. Who trains one run gains or loses as much by
chance. With fewer than about ten seeds hardly an interval is so narrow, and nothing is claimed."""

LATE = 0.1
"""Of the epochs: a best epoch in this last part leaves doubt that the run had come to its end."""

STILL_GAIN = 0.01
"""Of the metric: less improvement than this over the last part is none; a step as small is within
what 270 validation rows, as those of digits, can tell."""

POINTS = 0.05
"""Between training and validation accuracy, for overfitting; and between the training accuracy and
the best one of the sweep, for underfitting. Five points are seen with a hundred validation rows."""

FACTOR = 1.25
"""The same where there is no accuracy: a loss or an error that is a quarter higher."""

LEAST_AUROC = 0.6
"""In training: a network that ranks the rows by chance has 0.5."""

ONE_CLASS = 0.001
"""Between an F1 and that of always naming one class, to take it for that."""

LEAST_R2 = 0.05
"""Of the variance of the target: a regression that explains less in training learns nothing."""

BIG_TURN = 0.25
"""The rise of the validation loss from its best epoch to the end that is a finding: the last epoch
is then far worse than the best one, and who stops there pays as much as for a wrong learning rate.
Figures call a smaller one a turning point already, `multilayer.plotting.style.TURN`."""

SHARES = ("dropout", "momentum", "label_smoothing", "rho", "alpha", "betas", "gamma")
"""Settings that end at 0 and below 1, where nothing can be tried beyond."""

N_BINS = 4
"""Parts of equal numbers into which the values of a search that draws them are put."""
