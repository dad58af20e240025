"""The arguments of the estimators, what they mean, and which values they take."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

# scikit-learn's own estimators state their arguments so; it is not public, and spares a checker of
# our own. `test_wrong_arguments_are_refused_by_name` watches it.
from sklearn.utils._param_validation import Interval, Options, StrOptions

from multilayer.nn.mlp import Normalization


class PerceptronArguments(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A multilayer perceptron with scikit-learn's interface.

    Arguments that `MLPClassifier` has too have its names, defaults and meanings. With the same
    `random_state` the initial weights and the order of the rows are the same as well, and so are
    all losses to rounding.

    Args:
        hidden_layer_sizes: the width of each hidden layer.
        activation: of the hidden layers: "identity", "logistic", "tanh", "relu", or any other that
            `multilayer.MLP` takes, such as "gelu".
        solver: "adam" or "sgd".
        alpha: the L2 penalty: `alpha / 2` times the sum of the squared weights, biases left out, is
            added to the summed loss of a minibatch, before it is divided by the number of rows. It
            is part of the loss, so Adam scales its gradient like any other. The decay of AdamW,
            which it does not scale, is `weight_decay`.
        batch_size: rows of a minibatch; "auto" for 200, or all rows if there are fewer.
        learning_rate_init: the learning rate; it stays.
        max_iter: epochs, at most.
        shuffle: whether rows are shuffled before each epoch.
        random_state: decides the initial weights, the order of rows, the rows that are held out by
            `early_stopping`, and the masks of dropout.
        tol: by how much the loss, or with `early_stopping` the score, has to become better.
        n_iter_no_change: epochs after which the training stops if it has not.
        verbose: whether to print the loss of each epoch.
        warm_start: whether `fit` goes on from the weights of the last one.
        momentum: of "sgd".
        nesterovs_momentum: whether that is Nesterov's.
        early_stopping: whether to hold out rows, to stop by the score on them, and to end with the
            weights of the best one.
        validation_fraction: the fraction of the rows that are held out.
        beta_1: of "adam".
        beta_2: of "adam".
        epsilon: of "adam".
        dropout: the fraction of each hidden layer's outputs that are set to 0 in training, or a
            list with one for each layer.
        normalization: of the hidden layers, before the activation: "batch", "layer" or None.
        weight_decay: of AdamW, for "adam": each step takes `learning_rate_init * weight_decay` of
            the weights and biases. For "sgd" it is added to the gradient as torch's is.

    Attributes:
        n_iter_: the epochs of the last `fit`.
        loss_: the mean loss of the last epoch.
        loss_curve_: the mean loss of each epoch.
        best_loss_: the least of them; None with `early_stopping`.
        validation_scores_: the score of each epoch; None without `early_stopping`.
        best_validation_score_: the best of them; likewise.
        n_features_in_: the number of features.
        n_outputs_: the number of outputs.
        out_activation_: what the outputs go through: "softmax", "logistic" or "identity".
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str],
        "solver": [StrOptions({"adam", "sgd"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "dropout": ["array-like", Interval(Real, 0, 1, closed="left")],
        "normalization": [StrOptions({"batch", "layer"}), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        n_iter_no_change: float = 10,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        dropout: float | Sequence[float] = 0.0,
        normalization: Normalization | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.dropout = dropout
        self.normalization = normalization
        self.weight_decay = weight_decay
