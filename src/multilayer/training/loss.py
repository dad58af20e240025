"""The loss of a run, from its config: it fits the task, the classes and the weights of the data."""

from torch import nn

from multilayer.core.errors import UserError
from multilayer.data import Columns, Dataset
from multilayer.nn.losses import Task, WeightedLoss, levels_of, loss_for_task
from multilayer.runs.config import Config
from multilayer.training.instantiate import instantiate


def make_loss(config: Config, task: Task, n_classes: int | None = None) -> nn.Module:
    """The loss; `UserError` if it does not fit the task or the number of classes."""
    try:
        # "balanced" becomes numbers once the training rows are known.
        loss = instantiate("loss", config["loss"], {"balanced": None})
        return loss_for_task(loss, task, n_classes)  # type: ignore[no-any-return]
    except ValueError as error:
        raise UserError(f"loss: {error}") from error


def make_loss_for(config: Config, columns: Columns) -> nn.Module:
    """The loss for the target of a table; with the weights of rows, if it has any."""
    loss = make_loss(config, columns.task, len(columns.classes))
    return loss if columns.weight is None else WeightedLoss(loss, columns.task)


def n_outputs_for(config: Config, columns: Columns) -> int:
    """The width of the network's output: as many as the loss takes for each row."""
    levels = levels_of(make_loss(config, columns.task, len(columns.classes)))
    return len(levels) if levels else columns.n_outputs


def balance_class_weights(config: Config, data: Dataset) -> Config:
    """The config with numbers for `loss.class_weights=balanced`: n / (n_classes * class count).

    All classes then have the same weight in total, however few training rows they have.
    """
    if config["loss"].get("class_weights") != "balanced":
        return config
    classes, target = data.columns.classes, data.target_values("train")
    counts = target.long().bincount(minlength=len(classes)).tolist() if classes else []
    if not all(counts):
        label = classes[counts.index(0)]
        raise UserError(f"loss.class_weights=balanced: no training row is of class {label!r}")
    weights = [len(target) / (len(classes) * count) for count in counts] or None
    return config | {"loss": config["loss"] | {"class_weights": weights}}
