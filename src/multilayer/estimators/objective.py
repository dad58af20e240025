"""What an estimator minimizes, as `MLPClassifier` and `MLPRegressor` define it.

In each minibatch that is `(sum_i w_i l_i + alpha / 2 ||W||^2) / sum_i w_i`, with the rows' weights
`w_i`, their losses `l_i`, and the weights `W` of the linear layers without their biases.

Targets are `(K, B, T + 1)`: T values a row, and then the row's weight, which is more than 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from multilayer.stacking.block import Block, make_block
from multilayer.stacking.model import StackedModel, Tensors
from multilayer.stacking.runner import take_rows
from multilayer.stacking.stacked_optimizer import Group, StackedOptimizer
from multilayer.stacking.step import Step
from multilayer.training.task_model import TaskModel


class Link(ABC):
    """How outputs z become predictions, and the loss whose gradient by z is prediction - target.

    Outputs, targets and predictions are `(K, T, B)`.
    """

    @abstractmethod
    def mean(self, z: Tensor) -> Tensor:
        """The predictions."""

    @abstractmethod
    def losses(self, z: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each row, `(K, B)`, and its gradient by z."""

    @abstractmethod
    def score(self, z: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        """What `score` of the estimator gives, `(K,)`; rows count by their weight `(K, B)`."""


class Softmax(Link):
    """One of T classes, of which the target has a 1."""

    def mean(self, z: Tensor) -> Tensor:
        """The probabilities."""
        return z.softmax(dim=1)

    def losses(self, z: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The cross entropy."""
        log_mean = z.log_softmax(dim=1)
        return -(wanted * log_mean).sum(dim=1), log_mean.exp() - wanted

    def score(self, z: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        """The accuracy."""
        return _weighted_mean((z.argmax(dim=1) == wanted.argmax(dim=1)).to(z.dtype), weight)


class Logistic(Link):
    """T labels, each of which is there or not; two classes are one label."""

    def mean(self, z: Tensor) -> Tensor:
        """The probabilities."""
        return z.sigmoid()

    def losses(self, z: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The cross entropies' sum."""
        return (F.softplus(z) - wanted * z).sum(dim=1), z.sigmoid() - wanted

    def score(self, z: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        """The fraction of rows all of whose labels are right."""
        return _weighted_mean(((z > 0) == (wanted > 0)).all(dim=1).to(z.dtype), weight)


class Identity(Link):
    """T numbers."""

    def mean(self, z: Tensor) -> Tensor:
        """The numbers."""
        return z

    def losses(self, z: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Half the squared errors' sum."""
        missed = z - wanted
        return missed.square().sum(dim=1) / 2, missed

    def score(self, z: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        """R^2, the mean over the targets; as in scikit-learn 1 or 0 where a target is constant."""
        weight = weight.unsqueeze(1)
        centre = (weight * wanted).sum(dim=2, keepdim=True) / weight.sum(dim=2, keepdim=True)
        missed = (weight * (z - wanted).square()).sum(dim=2)
        spread = (weight * (wanted - centre).square()).sum(dim=2)
        constant = torch.where(missed == 0, 1.0, 0.0).to(z.dtype)
        return torch.where(spread == 0, constant, 1 - missed / spread).mean(dim=1)


LINKS: dict[str, Link] = {"softmax": Softmax(), "logistic": Logistic(), "identity": Identity()}
"""By the names that `out_activation_` has."""


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """The means of `(K, B)` to `(K,)`."""
    return (values * weight).sum(dim=1) / weight.sum(dim=1)


class WeightedModel(StackedModel):
    """The members' network with the loss of a link, in which each row has its share.

    Args:
        modules: the members' own, whose losses are not used.
        link: from outputs to losses.
    """

    def __init__(self, modules: Sequence[TaskModel], link: Link) -> None:
        super().__init__(modules)
        self.link = link

    def losses_of(self, output: Tensor, tensors: Tensors, target: Tensor) -> tuple[Tensor, Tensor]:
        """The losses `(K,)` and the outputs, from outputs `(K, B, T)`."""
        wanted, share = _parts(target)
        losses, _ = self.link.losses(output.mT, wanted)
        return (losses * share).sum(dim=1), output

    def losses_and_slope(
        self, output: Tensor, tensors: Tensors, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the gradient of the losses by the outputs, `(K, T, B)`."""
        wanted, share = _parts(target)
        losses, slope = self.link.losses(output.mT, wanted)
        return (losses * share).sum(dim=1), output, slope * share.unsqueeze(1)


def _parts(target: Tensor) -> tuple[Tensor, Tensor]:
    """The values `(K, T, B)` and the rows' weights or shares `(K, B)` of a target."""
    columns = target.mT
    return columns[:, :-1], columns[:, -1]


class PenalizedStep(Step):
    """The training step of a block, with an L2 penalty on the weights of linear layers.

    Args:
        model: the members' network.
        optimizer: what trains it.
        penalizes: whether any member has a penalty.
    """

    model: WeightedModel

    def __init__(
        self, model: WeightedModel, optimizer: StackedOptimizer, *, penalizes: bool
    ) -> None:
        super().__init__(model, optimizer)
        self.penalizes = penalizes

    def block_of(
        self,
        modules: Sequence[TaskModel],
        places: Sequence[int],
        alphas: Sequence[float],
        groups: Sequence[Group],
    ) -> Block:
        """The block of some members; see `make_block`, and for `alphas` the module."""
        block = make_block(self.model, modules, places, self.optimizer, groups)
        if self.penalizes:
            penalty = torch.zeros_like(block.weights)
            for each in self.layout.split(penalty).values():
                if each.ndim == 3:  # (K, n_outputs, n_features): a linear layer's weights
                    each.copy_(each.new_tensor(alphas)[:, None, None].expand_as(each))
            block.rest["penalty"] = penalty
        return block

    @torch.no_grad()
    def train(
        self,
        block: Block,
        features: Tensor,
        target: Tensor,
        rows: Tensor,
        numbers: Tensor,
        keys: Tensor,
    ) -> Tensor:
        """Train a block for S steps, its weights in place.

        Unlike `Step.__call__` it does not look whether members diverge: those have failed, and
        their last finite weights are of no use.

        Args:
            block: the block.
            features: `(N, D)`.
            target: `(N, T + 1)`.
            rows: of each member in each step, `(S, K, B)`.
            numbers: `(S, n_numbers, K)`, in the order of `coefficient_names`.
            keys: `(S, K, 2)`, for dropout.

        Returns:
            The losses `(S, K)`, with the penalty.
        """
        targets = take_rows(target, rows.flatten(0, 1)).view(*rows.shape, -1)
        weight = targets[..., -1]
        shares = weight.sum(dim=2).reciprocal()  # what a row of weight 1 counts
        weight.mul_(shares.unsqueeze(2))
        grad = torch.empty_like(block.weights)
        views = self.tensors(block.weights, block.rest), self.layout.split(grad)
        losses, state = [], [*block.state.values()]
        each = zip(rows, targets, shares, numbers.unsqueeze(3), keys, strict=True)
        for own, wanted, share, columns, key in each:
            x = take_rows(features, own)
            if self.chain:
                tensors = views[0] | self.own_keys(key)
                loss, _ = self.chain.losses(tensors, x, wanted, grads=views[1])
            else:
                with torch.enable_grad():
                    loss, _, grad = self.losses_and_grad(block, x, wanted, key)
            if self.penalizes:
                pull = block.rest["penalty"] * block.weights
                loss.addcmul_(torch.linalg.vecdot(pull, block.weights), share, value=0.5)
                grad.addcmul_(pull, share.unsqueeze(1))
            n = dict(zip(self.coefficient_names, columns.unbind(), strict=True))
            self.optimizer.step_eagerly(block.weights, block.weights, grad, state, n)
            losses.append(loss)
        block.n_steps.add_(len(rows))
        return torch.stack(losses)

    @torch.no_grad()
    def scores(self, block: Block, features: Tensor, target: Tensor) -> Tensor:
        """What the estimators' `score` gives for each member's rows, `(K,)`.

        Args:
            block: the members.
            features: `(K, N, D)`.
            target: `(K, N, T + 1)`.
        """
        self.model.eval()
        try:
            _, output = self.model(self.tensors(block.weights, block.rest), features, target)
        finally:
            self.model.train()
        wanted, weight = _parts(target)
        return self.model.link.score(output.mT, wanted, weight)
