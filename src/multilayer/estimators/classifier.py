"""The classifier."""

from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from multilayer.estimators.network import Array
from multilayer.estimators.objective import LINKS
from multilayer.estimators.perceptron import MultilayerPerceptron

_SHOWN = 5
"""Classes that a message lists at most."""


class MultilayerClassifier(ClassifierMixin, MultilayerPerceptron):  # type: ignore[misc]
    """A multilayer perceptron that classifies, with scikit-learn's interface.

    It minimizes the cross entropy. Of several labels in a row, `y` is `(n_samples, n_labels)` with
    0 and 1. The arguments are those of `PerceptronArguments`.

    Attributes:
        classes_: the classes, sorted; of several labels their numbers.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MultilayerClassifier(learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> model.predict(X[:2]), round(model.score(X, y), 2)
    (array([0, 0]), 0.99)
    """

    classes_: Array

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train for one epoch of some rows, from the weights and moments that there are.

        Args:
            X: features `(n_samples, n_features)`.
            y: targets, as for `fit`.
            classes: all classes that there will be; needed in the first call.
            sample_weight: of each row.
        """
        known: Array | None = getattr(self, "classes_", None)
        given = known if classes is None else np.unique(np.asarray(classes))
        if given is None:
            raise ValueError("classes must be passed on the first call to partial_fit")
        if known is not None and not np.array_equal(given, known):
            raise ValueError(
                f"classes={_listed(given)} must be those of the first call to partial_fit: "
                f"{_listed(known)}"
            )
        return self._fit_partially(X, y, sample_weight, classes=given)

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, `(n_samples, n_classes)`, or of each label."""
        mean = self._mean(X)
        return np.hstack([1 - mean, mean]) if self._is_binary() else mean

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of `predict_proba`."""
        log_proba: Array = np.log(self.predict_proba(X))
        return log_proba

    def _encode(self, y: Any, classes: Array | None) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError(
                f"y must have one class a row, or labels of 0 and 1, got several columns of "
                f"classes: {y.shape}"
            )
        if kind == "multilabel-indicator":
            labels: Array = y.toarray() if issparse(y) else y
            self._name_outputs(np.arange(labels.shape[1]), classes)
            self.out_activation_, self.n_outputs_ = "logistic", labels.shape[1]
            return labels
        y = column_or_1d(y, warn=True)
        names = self._name_outputs(np.unique(y), classes)
        if len(names) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {_listed(names)}")
        is_binary = len(names) == 2
        self.out_activation_ = "logistic" if is_binary else "softmax"
        self.n_outputs_ = 1 if is_binary else len(names)
        places = np.searchsorted(names, y)
        encoded: Array = places[:, None] if is_binary else np.eye(len(names))[places]
        return encoded

    def _name_outputs(self, found: Array, classes: Array | None) -> Array:
        """Take over the classes, and return them.

        Raises:
            ValueError: Some were found that are not among those that there are.
        """
        if classes is not None and (new := np.setdiff1d(found, classes)).size:
            raise ValueError(
                f"y must hold classes of the fit before or of classes=, {_listed(classes)}, "
                f"got {_listed(new)}"
            )
        self.classes_ = found if classes is None else classes
        return self.classes_

    def _decode(self, mean: Array) -> Array:
        if self.out_activation_ == "softmax":
            places = mean.argmax(axis=1)
        else:
            places = (mean > 0.5).astype(int)
        if self._is_binary():
            places = places[:, 0]
        is_labels = self.out_activation_ == "logistic" and places.ndim == 2
        found: Array = places if is_labels else self.classes_[places]
        return found

    def _is_binary(self) -> bool:
        """Whether one output tells two classes apart."""
        is_one = self.out_activation_ == "logistic" and self.n_outputs_ == 1
        return is_one and len(self.classes_) == 2

    def _check_outputs(self) -> None:
        n_classes = len(getattr(self, "classes_", ()))
        is_one_each = self.n_outputs_ == n_classes and self.out_activation_ in LINKS
        if self.out_activation_ == "identity" or not (is_one_each or self._is_binary()):
            raise ValueError(
                f"{n_classes} classes do not fit {self.n_outputs_} outputs of "
                f"{self.out_activation_}"
            )

    def _strata(self, target: Array) -> Array | None:
        return target[:, 0] if self._is_binary() else None  # as scikit-learn holds out

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _listed(classes: Array) -> str:
    """Classes in a message, not too many."""
    shown = ", ".join(repr(each) for each in classes[:_SHOWN].tolist())
    return f"[{shown}, ...]" if len(classes) > _SHOWN else f"[{shown}]"
