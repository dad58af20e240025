"""Losses that torch lacks, and which loss fits which task."""

from collections.abc import Sequence
from copy import deepcopy
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from multilayer.core.errors import UserError
from multilayer.nn.quantiles import QuantileLoss

Task = Literal["binary", "multiclass", "regression"]


class CrossEntropy(nn.CrossEntropyLoss):
    """Softmax cross entropy from logits: `torch.nn.CrossEntropyLoss` with weights as a list.

    Maps logits `(B, n_classes)` and targets `(B,)`, int64 in [0, n_classes), to a scalar.

    Args:
        label_smoothing: how far the targets move towards the uniform distribution, from 0 to 1.
        class_weights: of each class.

    >>> CrossEntropy()(torch.zeros(1, 4), torch.tensor([2]))
    tensor(1.3863)
    """

    def __init__(
        self, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(
            weight=_weight_tensor(class_weights),
            label_smoothing=_check_label_smoothing(label_smoothing),
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits `(B, n_classes)` and targets `(B,)` to the mean loss."""
        check_outputs("multiclass", logits, target, values=target.device.type == "cpu")
        _check_n_weights(self.weight, n_classes=logits.shape[1])
        return super().forward(logits, target.long())


class BinaryCrossEntropy(nn.Module):
    """Binary cross entropy from logits: `-mean(y log p + (1 - y) log(1 - p))`, `p = sigmoid(z)`.

    Maps logits `(B,)` and targets `(B,)`, 0 or 1 in any dtype, to a scalar.

    Args:
        label_smoothing: how far the targets move towards 1/2, from 0 to 1 (Szegedy et al. 2016).
        class_weights: of class 0 and class 1; the mean is weighted, as in `CrossEntropy`.

    >>> BinaryCrossEntropy()(torch.tensor([0.0]), torch.tensor([1]))
    tensor(0.6931)
    """

    weight: Tensor | None
    reduction = "mean"

    def __init__(
        self, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.label_smoothing = _check_label_smoothing(label_smoothing)
        _check_n_weights(class_weights, n_classes=2)
        self.register_buffer("weight", _weight_tensor(class_weights))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits and targets `(B,)` to the mean loss."""
        check_outputs("binary", logits, target, values=target.device.type == "cpu")
        smoothed = target.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        if self.weight is None:
            return F.binary_cross_entropy_with_logits(logits, smoothed, reduction=self.reduction)
        # The term of each class has that class's weight, as in torch's softmax cross entropy.
        loss = self.weight[1] * smoothed * F.softplus(-logits)
        loss = loss + self.weight[0] * (1 - smoothed) * F.softplus(logits)
        return loss if self.reduction == "none" else loss.sum() / self.weight[target.long()].sum()


class WeightedLoss(nn.Module):
    """The mean of a loss over rows that have weights: `sum(w * loss) / sum(w)`.

    With class weights `c` it is `sum(w * loss) / sum(w * c)`, as the loss itself has it without
    weights of rows. A minibatch whose weights are all 0 has the loss 0.

    Maps outputs `(B, ...)`, and targets that come with their weights `(B, 2)`, to a scalar.

    Args:
        loss: gives one number for each row with `reduction="none"`, as torch's losses do.
        task: of the targets.

    Raises:
        UserError: The loss has no `reduction`.

    >>> target = with_weights(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0]))
    >>> WeightedLoss(nn.L1Loss(), "regression")(torch.zeros(2), target)
    tensor(2.)
    """

    def __init__(self, loss: Any, task: Task) -> None:
        super().__init__()
        if getattr(loss, "reduction", None) != "mean":
            name = getattr(loss, "__name__", type(loss).__name__)
            raise UserError(
                f"data.weight: the loss {name} takes no weights of rows; give it an attribute "
                "`reduction`, 'mean' at first, with which it gives one number for each row when "
                "that is 'none', as torch's losses do"
            )
        self.loss = deepcopy(loss)
        self.loss.reduction = "none"
        self.task = task

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Map outputs and targets with weights to the weighted mean."""
        values, weights = self.split(target)
        rows: Tensor = self.loss(
            output, values if self.task == "multiclass" else values.to(output.dtype)
        )
        if rows.shape != weights.shape:
            raise UserError(
                f"data.weight: the loss {type(self.loss).__name__} must give one number for each "
                f"row with reduction='none', got the shape {tuple(rows.shape)} for "
                f"{weights.shape[-1]} rows"
            )
        total = total_weight(self, target)
        return (rows * weights).sum(dim=-1) / torch.where(total > 0, total, 1)

    def split(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """The targets themselves and their weights, `(..., B, 2)` to `(..., B)` each."""
        values, weights = target.unbind(dim=-1)
        return values if self.task == "regression" else values.long(), weights


def with_weights(target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Targets `(N,)` with the weights of their rows `(N,)`, as `(N, 2)`; unchanged without any.

    Class indices are floats then, which hold whole numbers up to 2**24.

    >>> with_weights(torch.tensor([0, 2]), torch.tensor([1.0, 0.5]))
    tensor([[0.0000, 1.0000],
            [2.0000, 0.5000]])
    """
    return target if weights is None else torch.stack([target.to(weights.dtype), weights], dim=1)


def check_outputs(task: Task, output: Tensor, target: Tensor, *, values: bool = False) -> None:
    """Raise `UserError` if the shapes of a minibatch's outputs and targets do not fit the task.

    torch would broadcast them, or say less.

    Args:
        task: the task.
        output: the network's.
        target: the target.
        values: whether targets that are no class are looked for too; a GPU would have to wait for
            that, and on the CPU it takes 5 us for a minibatch.
    """
    n_dimensions = 2 if task == "multiclass" else 1
    if output.ndim == n_dimensions and target.shape == output.shape[:1]:
        if task == "regression" or not target.is_floating_point() or task == "binary":
            if values and task != "regression":
                _check_classes(target, n_classes=output.shape[1] if output.ndim == 2 else 2)
            return
        problem = "the target must hold class indices as whole numbers: use target.long()"
    elif target.ndim == 2 and target.shape[1] == 1:
        problem = "the target must have one value a row: use target.squeeze(1)"
    elif target.ndim != 1:
        has_two = target.ndim == 2 and target.shape[1] == 2
        hint = "; where one of two is the row's weight, use loss=WeightedLoss(...)" * has_two
        problem = f"the target must have one value a row{hint}"
    elif task == "multiclass" and output.ndim != 2:
        problem = "the network must give a logit for each class; a single one is for BinaryModule"
    elif output.ndim != n_dimensions:
        more = "; several are for MulticlassModule" if task == "binary" else ""
        problem = f"the network must give one output a row{more}"
    else:
        problem = "outputs and target must have as many rows"
    shapes = f"outputs {tuple(output.shape)} and target {tuple(target.shape)}, {target.dtype}"
    raise UserError(f"{task}: {problem}; got {shapes}")


def _check_classes(target: Tensor, n_classes: int) -> None:
    """Raise `UserError` if a target `(B,)` holds anything but class indices."""
    least, most = target.aminmax()
    is_whole = not target.is_floating_point() or bool((target == target.round()).all())
    if not (is_whole and least >= 0 and most < n_classes):
        known = torch.isin(target, torch.arange(n_classes, device=target.device))
        other = target[~known][0].item()
        raise UserError(
            f"the target holds {other:.15g}, but the {n_classes} classes are the whole numbers "
            f"from 0 to {n_classes - 1}"
        )


_TASK_OF_LOSS: dict[type[nn.Module], Task] = {
    BinaryCrossEntropy: "binary",
    CrossEntropy: "multiclass",
    nn.MSELoss: "regression",
    nn.L1Loss: "regression",
    nn.HuberLoss: "regression",
    QuantileLoss: "regression",
}
"""A task's first loss is its usual one. A loss that is not listed, such as a user's own, is taken
to fit any task."""


class AutoLoss:
    """The task's usual loss, as a config names it before the task is known; see `loss_for_task`.

    Args:
        label_smoothing: as for the cross entropies; ignored in regression.
        class_weights: as for the cross entropies; ignored in regression.

    >>> loss = loss_for_task(AutoLoss(label_smoothing=0.1), "multiclass")
    >>> loss(torch.zeros(1, 4), torch.tensor([2]))
    tensor(1.3863)
    """

    def __init__(
        self, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        self.label_smoothing = _check_label_smoothing(label_smoothing)
        self.class_weights = class_weights


def loss_for_task(loss: Any, task: Task, n_classes: int | None = None) -> Any:
    """`loss` itself, or for `AutoLoss` the task's usual loss.

    Raises:
        UserError: The loss does not fit the task, its weights do not fit the number of classes, or
            it sums over the rows, so that its mean over minibatches would be meaningless.

    >>> loss_for_task(AutoLoss(), "regression")
    MSELoss()
    """
    usual: Any = next(kind for kind, own in _TASK_OF_LOSS.items() if own == task)
    if isinstance(loss, AutoLoss):
        loss = usual(**({} if task == "regression" else vars(loss)))
    own = _TASK_OF_LOSS.get(type(loss), task)
    if own != task:
        raise UserError(
            f"{type(loss).__name__} is for {own}, and the data's task is {task}: "
            f"use {usual.__name__}, or loss=auto, which follows the task"
        )
    if "sum" in (getattr(loss, "reduction", ""), getattr(loss, "keywords", {}).get("reduction")):
        raise UserError("the loss must be the mean over the rows: use reduction='mean', not 'sum'")
    has_weights = isinstance(loss, CrossEntropy | BinaryCrossEntropy)
    _check_n_weights(loss.weight if has_weights else None, n_classes)
    return loss


def _check_n_weights(weights: Sequence[float] | Tensor | None, n_classes: int | None) -> None:
    """Raise `UserError` if there is not one weight for each class."""
    if weights is not None and n_classes not in (None, len(weights)):
        raise UserError(f"class_weights must hold {n_classes} numbers, got {len(weights)}")


def total_weight(loss: nn.Module, target: Tensor) -> Tensor:
    """The divisor of the mean loss of a minibatch, from targets `(..., B)` to `(...)`.

    It is the number of rows or, with class weights, the sum of the weights of the rows. Those that
    come with the targets, see `WeightedLoss`, count likewise.
    """
    if isinstance(loss, WeightedLoss):
        values, weights = loss.split(target)
        of_classes = _class_weights(loss.loss, values)
        return (weights if of_classes is None else weights * of_classes).sum(dim=-1)
    of_classes = _class_weights(loss, target)
    if of_classes is None:
        return torch.tensor(target.shape[-1], device=target.device).expand(target.shape[:-1])
    return of_classes.sum(dim=-1)


def _class_weights(loss: nn.Module, target: Tensor) -> Tensor | None:
    """The weight of each row's class, `(..., B)`; None if the loss has none.

    In a stack the weights are `(K, n_classes)`, and targets `(K, B)`.
    """
    if not isinstance(loss, nn.CrossEntropyLoss | BinaryCrossEntropy) or loss.weight is None:
        return None
    target = target.long()
    return loss.weight[target] if loss.weight.ndim == 1 else loss.weight.gather(1, target)


def levels_of(loss: Any) -> list[float] | None:
    """The levels of a loss for quantiles; None for any other."""
    loss = loss.loss if isinstance(loss, WeightedLoss) else loss
    return loss.levels if isinstance(loss, QuantileLoss) else None


def is_plain(loss: Any) -> bool:
    """Whether a loss is the cross entropy without label smoothing and class weights."""
    own = loss.loss if isinstance(loss, WeightedLoss) else loss
    return is_cross_entropy(loss) and own.label_smoothing == 0 and own.weight is None


def is_cross_entropy(loss: Any) -> bool:
    """Whether a loss is the cross entropy, smoothed or weighted or neither."""
    own = loss.loss if isinstance(loss, WeightedLoss) else loss
    return isinstance(own, nn.CrossEntropyLoss | BinaryCrossEntropy)


def _check_label_smoothing(label_smoothing: float) -> float:
    """The same number, if it is one that smooths."""
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
    return label_smoothing


def _weight_tensor(class_weights: Sequence[float] | None) -> Tensor | None:
    """The class weights as a float32 tensor `(n_classes,)`; None stays None."""
    if class_weights is None:
        return None
    if not all(0 <= weight < inf for weight in class_weights) or sum(class_weights) == 0:
        raise ValueError(
            f"class_weights must be at least 0 and not all 0, got {list(class_weights)}"
        )
    return torch.tensor(class_weights, dtype=torch.float32)
