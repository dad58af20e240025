"""The regressor."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import column_or_1d

from multilayer.estimators.network import Array
from multilayer.estimators.perceptron import MultilayerPerceptron


class MultilayerRegressor(RegressorMixin, MultilayerPerceptron):  # type: ignore[misc]
    """A multilayer perceptron that predicts numbers, with scikit-learn's interface.

    It minimizes half the squared error; of several targets in a row, `(n_samples, n_targets)`, the
    sum over them. The arguments are those of `PerceptronArguments`.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MultilayerRegressor(learning_rate_init=0.02, random_state=0).fit(10 * X, y / 100)
    >>> model.predict(10 * X[:2]).shape
    (2,)
    """

    _y_is_numeric = True

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch of some rows, from the weights and moments that there are.

        Args:
            X: features `(n_samples, n_features)`.
            y: targets, as for `fit`.
            sample_weight: of each row.
        """
        return self._fit_partially(X, y, sample_weight)

    def _encode(self, y: Array, classes: Array | None) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        wanted: Array = y.reshape(len(y), -1).astype(np.float64, copy=False)
        self.out_activation_, self.n_outputs_ = "identity", wanted.shape[1]
        return wanted

    def _decode(self, mean: Array) -> Array:
        return mean[:, 0] if self.n_outputs_ == 1 else mean

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
