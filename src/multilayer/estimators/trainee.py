"""One training of an estimator: what it needs, and how far it is."""

from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from multilayer.estimators.network import Array
from multilayer.training.task_model import TaskModel

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": AdamW, "sgd": SGD}
"""By the names of `solver`. AdamW without weight decay is Adam."""


@dataclass(frozen=True)
class Hyperparameters:
    """The estimator's arguments that decide a training, once they are checked.

    Attributes:
        group: the parameter group of the optimizer; of those in a stack the numbers may differ.
        batch_size: rows of a minibatch, at most as many as there are.
        max_iter: epochs, at most.
    """

    solver: str
    group: dict[str, Any]
    alpha: float
    batch_size: int
    max_iter: int
    tol: float
    n_iter_no_change: float
    shuffle: bool
    verbose: bool


@dataclass
class Progress:
    """What a training has found, which a warm start goes on from.

    Attributes:
        n_iter: the epochs of this `fit`.
        loss_curve: the mean loss of each epoch.
        validation_scores: likewise, with `early_stopping`.
        best_loss, best_score: the best of them.
        n_no_change: the epochs since the last that was better by `tol`.
    """

    n_iter: int = 0
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_loss: float = inf
    best_score: float = -inf
    n_no_change: int = 0


@dataclass(eq=False)
class Trainee:
    """One of the networks of a stack, with what belongs to its training alone.

    Attributes:
        task_model: the network, with the weights to begin with.
        link: the name of what its outputs become; see `LINKS`.
        features: of its rows, `(n, D)`.
        target: of its rows, `(n, T + 1)`; see `objective`.
        train: the rows that are trained on, `(n_train,)` int64.
        validation: those that are validated with, `(n_validation,)`; none without early stopping.
        random: what rows are shuffled by.
        dropout_keys: what masks are drawn from.
        optimizer_state: the moments to begin with, `(P,)` each, and the steps behind them.
        progress: what was found.
        best: the weights of the best score, by name.
        has_diverged: whether the loss was not finite.
        has_stopped: whether it stopped before `max_iter`.
        slots, k: the block that it is in, and its place there.
    """

    task_model: TaskModel
    link: str
    chosen: Hyperparameters
    features: Tensor
    target: Tensor
    train: Array
    validation: Array
    random: np.random.RandomState
    dropout_keys: np.random.Generator
    progress: Progress
    optimizer_state: dict[str, Array] = field(default_factory=dict)
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    has_diverged: bool = False
    has_stopped: bool = False
    slots: Any = None
    k: int = 0

    def order(self) -> Tensor:
        """The order of the rows in the epoch that begins, `(n_train,)`.

        They are shuffled as scikit-learn's networks shuffle them, each time anew from the last
        order.
        """
        if self.chosen.shuffle:
            places = np.arange(len(self.train))
            self.random.shuffle(places)
            self.train = self.train[places]
        return torch.from_numpy(self.train)

    def groups(self, first: int, end: int) -> list[dict[str, Any]]:
        """The optimizer's parameter group in some steps of the epoch that begins.

        scikit-learn adds `epsilon` to the uncorrected root of Adam's second moment, torch to the
        corrected one.
        """
        group = self.chosen.group
        if "beta2" not in group:
            return [group] * (end - first)
        eps, beta2 = group["eps"], group["beta2"]
        steps = range(self.step + first + 1, self.step + end + 1)
        return [group | {"eps": eps / sqrt(1 - beta2**step)} for step in steps]

    def end_epoch(self, loss: float, score: float | None) -> None:
        """Note the loss and the score of an epoch, and whether the training is to stop.

        As in scikit-learn, the loss may stop the training, or the score where there is one.
        """
        found, tol = self.progress, self.chosen.tol
        found.n_iter += 1
        self.has_diverged = not isfinite(loss)
        if self.has_diverged:
            return
        found.loss_curve.append(loss)
        if self.chosen.verbose:
            print(f"Iteration {found.n_iter}, loss = {loss:.8f}")
        if score is None:
            is_better = loss <= found.best_loss - tol
            found.best_loss = min(found.best_loss, loss)
        else:
            if self.chosen.verbose:
                print(f"Validation score: {score:f}")
            found.validation_scores.append(score)
            is_better = score >= found.best_score + tol
            if score > found.best_score:
                found.best_score = score
                self.best = {name: each.clone() for name, each in self.weights().items()}
        found.n_no_change = 0 if is_better else found.n_no_change + 1
        self.has_stopped = found.n_no_change > self.chosen.n_iter_no_change

    def is_done(self) -> bool:
        """Whether it has trained enough, is to stop, or has diverged."""
        has_enough = self.progress.n_iter >= self.chosen.max_iter
        return self.has_stopped or has_enough or self.has_diverged

    def weights(self) -> dict[str, Tensor]:
        """The weights and buffers of its network as they are, by name."""
        return {name: each.detach() for name, each in self.task_model.network.state_dict().items()}
