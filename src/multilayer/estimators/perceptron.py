"""What the classifier and the regressor share: how they train, and what they keep of it."""

import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

# Not public either, but what scikit-learn's estimators check weights with; `check_estimator` does.
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from multilayer.estimators import saving
from multilayer.estimators.arguments import PerceptronArguments
from multilayer.estimators.batch import current_batch
from multilayer.estimators.network import (
    Array,
    Weights,
    as_tensor,
    give_weights,
    initial_weights,
    make_network,
    weights_of,
)
from multilayer.estimators.objective import LINKS
from multilayer.estimators.trainee import OPTIMIZERS, Hyperparameters, Progress, Trainee
from multilayer.estimators.training import train_stack
from multilayer.stacking.dropout import key_generator
from multilayer.stacking.optimizers import group_of
from multilayer.training.runtime import count_parameters, n_threads_for, using_threads
from multilayer.training.task_model import TaskModel

_DTYPES = (np.float64, np.float32)
"""As which features are computed with: as what they are, or as the first."""

_MOST_AUTO_ROWS = 200
"""The rows of a minibatch for `batch_size="auto"`, as in scikit-learn."""

_ROWS_AT_ONCE = 4096
"""Rows that are predicted at once."""


class MultilayerPerceptron(PerceptronArguments, ABC):
    """A multilayer perceptron with scikit-learn's interface; see `PerceptronArguments`."""

    _y_is_numeric = False

    _weights: Weights
    _optimizer_state: dict[str, Array]
    _n_steps: int

    @abstractmethod
    def _encode(self, y: Array, classes: Array | None) -> Array:
        """Targets as the network's loss takes them, `(n_samples, n_outputs)`.

        Args:
            y: as it was given.
            classes: those that there may be; None for those that are found.
        """

    @abstractmethod
    def _decode(self, mean: Array) -> Array:
        """Predictions as `y` was given, from what the outputs become, `(n_samples, n_outputs)`."""

    # fit ------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the network.

        Args:
            X: features `(n_samples, n_features)`. float32 stays; else all is float64.
            y: targets `(n_samples,)` or `(n_samples, n_outputs)`.
            sample_weight: of each row, `(n_samples,)`; None for equal ones.

        Returns:
            The estimator.

        Raises:
            ValueError: An argument or the data cannot be, or the training diverged.
        """
        self._validate_params()
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        trainee = self._trainee(X, y, sample_weight, goes_on=goes_on, is_partial=False)
        if (batch := current_batch()) is not None:  # of a search, which trains all together
            batch.add(self, trainee)
            return self
        train_stack([trainee], trainee.features, trainee.target)
        self._adopt(trainee)
        if not trainee.has_stopped:
            warnings.warn(not_converged(self.max_iter), ConvergenceWarning, stacklevel=2)
        return self

    def _fit_partially(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: Array | None = None,
    ) -> Self:
        """Train for one epoch, from the weights and moments that there are."""
        self._validate_params()
        if self.early_stopping:
            raise ValueError("partial_fit trains on all rows that it is given: early_stopping=True")
        goes_on = self.__sklearn_is_fitted__()
        trainee = self._trainee(
            X, y, sample_weight, goes_on=goes_on, is_partial=True, classes=classes
        )
        train_stack([trainee], trainee.features, trainee.target)
        self._adopt(trainee)
        return self

    def _trainee(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        goes_on: bool,
        is_partial: bool,
        classes: Array | None = None,
    ) -> Trainee:
        """The training that is to come; the estimator learns what its data are."""
        X, target = self._rows(X, y, sample_weight, goes_on=goes_on, classes=classes)
        random = check_random_state(self.random_state)
        task_model = self._network(X.dtype)
        network = task_model.network
        drawn = None if goes_on else initial_weights(network, self.activation, random)
        give_weights(network, self._weights if drawn is None else drawn)
        has_dropout = bool(np.any(np.asarray(self.dropout) > 0))
        train, validation = self._split(target, random)
        chosen = self._hyperparameters(len(train), 1 if is_partial else self.max_iter)
        if self.normalization == "batch" and len(train) % chosen.batch_size == 1:
            raise ValueError(
                f"normalization='batch' needs two rows in a minibatch, and "
                f"batch_size={chosen.batch_size} of {len(train)} rows leaves one row alone"
            )
        trainee = Trainee(
            task_model,
            self.out_activation_,
            chosen,
            as_tensor(X),
            as_tensor(target),
            train,
            validation,
            random,
            # Without dropout nothing else is drawn than what scikit-learn draws.
            key_generator(int(random.randint(2**31)) if has_dropout else 0),
            self._progress() if goes_on else Progress(),
        )
        if goes_on and is_partial:  # a warm start has new moments, as in scikit-learn
            trainee.optimizer_state, trainee.step = self._optimizer_state, self._n_steps
        return trainee

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, *, goes_on: bool, classes: Array | None
    ) -> tuple[Array, Array]:
        """Features and target as the training takes them; what has no weight is left out."""
        options = {"multi_output": True, "y_numeric": self._y_is_numeric}
        X, y = validate_data(self, X, y, dtype=_DTYPES, reset=not goes_on, **options)
        wanted = self._encode(y, getattr(self, "classes_", None) if goes_on else classes)
        weight = _checked_weight(sample_weight, X)
        target = np.column_stack([wanted, weight]).astype(X.dtype, copy=False)
        counts = weight > 0
        return (X, target) if counts.all() else (X[counts], target[counts])

    def _network(self, dtype: Any) -> TaskModel:
        """The network without weights."""
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        return make_network(
            [self.n_features_in_, *hidden, self.n_outputs_],
            activation=self.activation,
            dropout=self.dropout,
            normalization=self.normalization,
            dtype=getattr(torch, np.dtype(dtype).name),
        )

    def _hyperparameters(self, n_rows: int, n_epochs: int) -> Hyperparameters:
        """The arguments that decide the training of some rows."""
        numbers: dict[str, Any] = {"lr": self.learning_rate_init, "weight_decay": self.weight_decay}
        if self.solver == "adam":
            numbers |= {"betas": (self.beta_1, self.beta_2), "eps": self.epsilon}
        else:
            nesterov = self.nesterovs_momentum and self.momentum > 0
            numbers |= {"momentum": self.momentum, "nesterov": nesterov}
        batch_size = _MOST_AUTO_ROWS if self.batch_size == "auto" else int(self.batch_size)
        return Hyperparameters(
            solver=self.solver,
            group=group_of(OPTIMIZERS[self.solver]([torch.zeros(1)], **numbers)),
            alpha=self.alpha,
            batch_size=min(batch_size, n_rows),
            max_iter=n_epochs,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            shuffle=self.shuffle,
            verbose=bool(self.verbose),
        )

    def _check_outputs(self) -> None:
        """Raise `ValueError` if outputs, what they become and classes do not fit each other."""
        if self.out_activation_ != "identity":
            raise ValueError(f"out_activation_ must be identity, got {self.out_activation_}")

    def _split(self, target: Array, random: np.random.RandomState) -> tuple[Array, Array]:
        """The numbers of the rows to train on, and of those that are held out."""
        rows = np.arange(len(target))
        if not self.early_stopping:
            return rows, rows[:0]
        held_out = train_test_split(
            rows,
            random_state=random,
            test_size=self.validation_fraction,
            stratify=self._strata(target),
        )
        if len(held_out[1]) < 2:
            raise ValueError(
                f"early_stopping needs 2 rows to validate with at least, and "
                f"validation_fraction={self.validation_fraction:g} of {len(rows)} rows leaves "
                f"{len(held_out[1])}"
            )
        return held_out[0], held_out[1]

    def _strata(self, target: Array) -> Array | None:
        """By what rows are held out in equal parts; None for nothing."""
        return None

    # What is kept ---------------------------------------------------------------------------

    def _progress(self) -> Progress:
        """What was found so far, to go on from."""
        return Progress(
            loss_curve=[*self.loss_curve_],
            validation_scores=[*(self.validation_scores_ or [])],
            best_loss=np.inf if self.best_loss_ is None else self.best_loss_,
            best_score=-np.inf
            if self.best_validation_score_ is None
            else self.best_validation_score_,
            n_no_change=self._n_no_change,
        )

    def _adopt(self, trainee: Trainee) -> None:
        """Keep what a training has found.

        Raises:
            ValueError: It diverged.
        """
        found, weights = trainee.progress, weights_of(trainee.task_model.network)
        if trainee.has_diverged or not all(np.isfinite(each).all() for each in weights.values()):
            raise ValueError(
                f"the training diverged in epoch {found.n_iter}: the loss or the weights are "
                f"no finite numbers any more; scale X, or use a lower "
                f"learning_rate_init={self.learning_rate_init:g}"
            )
        self._weights = weights
        self._optimizer_state, self._n_steps = trainee.optimizer_state, trainee.step
        self._n_no_change = found.n_no_change
        self.n_iter_, self.loss_curve_ = found.n_iter, found.loss_curve
        self.loss_ = found.loss_curve[-1]
        self.best_loss_ = None if self.early_stopping else found.best_loss
        self.validation_scores_ = found.validation_scores if self.early_stopping else None
        self.best_validation_score_ = found.best_score if self.early_stopping else None
        self.n_layers_ = len(self.coefs_) + 1

    def __sklearn_is_fitted__(self) -> bool:
        return "_weights" in vars(self)

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each linear layer, `(n_inputs, n_outputs)`, as scikit-learn has them."""
        check_is_fitted(self)
        return [each.T for name, each in self._weights.items() if each.ndim == 2]

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of each linear layer, `(n_outputs,)`."""
        check_is_fitted(self)
        linear = [name for name, each in self._weights.items() if each.ndim == 2]
        return [self._weights[name.replace("weight", "bias")] for name in linear]

    # Files ----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to a file of plain data, whole or not at all.

        Raises:
            ValueError: An argument is no plain data, such as a generator for `random_state`.
        """
        check_is_fitted(self)
        saving.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` has written; nothing that the file names is run.

        Raises:
            ValueError: The file is damaged, or holds no estimator of this class.
        """
        return saving.load(cls, Path(path))

    # Predictions ----------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """The predictions for features `(n_samples, n_features)`, as `y` was given."""
        return self._decode(self._mean(X))

    @torch.inference_mode()
    def _mean(self, X: Any) -> Array:
        """What the outputs become, `(n_samples, n_outputs)`: probabilities, or values."""
        check_is_fitted(self)
        dtype = next(iter(self._weights.values())).dtype
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        network = self._network(dtype).network.eval()
        give_weights(network, self._weights)
        link = LINKS[self.out_activation_]
        rows = torch.split(as_tensor(X.astype(dtype, copy=False)), _ROWS_AT_ONCE)
        with using_threads(n_threads_for("auto", count_parameters(network) * len(rows[0]))):
            parts = [link.mean(network(part).mT.unsqueeze(0))[0].mT for part in rows]
        whole: Array = torch.cat(parts).numpy()
        return whole


def not_converged(max_iter: int) -> str:
    """What is said of a training that was not stopped by `tol`."""
    return f"the training has not converged within max_iter={max_iter} epochs"


def _checked_weight(sample_weight: Any, X: Array) -> Array:
    """The rows' weights `(n_samples,)`, which must be such as a mean can be taken with.

    Raises:
        ValueError: Some are negative, or all are 0.
    """
    weight: Array = _check_sample_weight(sample_weight, X, dtype=X.dtype)
    if (weight < 0).any():
        raise ValueError(f"sample_weight must not be negative, got {weight.min():g}")
    if not weight.any():
        raise ValueError("sample_weight must contain at least one non-zero number, got 0 alone")
    return weight
