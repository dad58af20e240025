"""Metrics of torchmetrics, by the names of their classes, next to the task's own.

torchmetrics takes a second to import: it is, once a config names one.
"""

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import isclass, signature
from typing import Any, TypeAlias

import torch
from torch import Tensor

from multilayer.core.errors import UserError, did_you_mean, first_line
from multilayer.core.metric_names import reported_as
from multilayer.nn.losses import Task
from multilayer.nn.metrics import METRICS

Metric: TypeAlias = Any
"""A `torchmetrics.Metric`."""

Named: TypeAlias = str | Mapping[str, Mapping[str, Any]]
"""A metric as a config has it: the name of its class, or that with its arguments."""


def make_metrics(named: Sequence[Named], task: Task, n_classes: int) -> dict[str, Metric]:
    """Metrics of torchmetrics that take predictions and targets of a task, and give one number.

    Args:
        named: Each is the name of a class, or a mapping of that to its arguments.
        task: Of the data.
        n_classes: Of the data; 0 in regression.

    Returns:
        Each by the name that it is reported as.

    Raises:
        UserError: torchmetrics has no such metric for the task, it refuses its arguments, or it
            gives several numbers.

    >>> list(make_metrics(["MatthewsCorrCoef", {"FBetaScore": {"beta": 2.0}}], "multiclass", 3))
    ['matthews_corr_coef', 'f_beta_score']
    """
    found: dict[str, Metric] = {}
    for each in named:
        ((name, arguments),) = [(each, {})] if isinstance(each, str) else each.items()
        reported = reported_as(name)
        if reported in ("loss", *METRICS[task], *found):
            raise UserError(f"metrics: {name}: {reported} is reported already")
        found[reported] = _make(name, arguments or {}, task, n_classes)
    return found


def _make(name: str, arguments: Mapping[str, Any], task: Task, n_classes: int) -> Metric:
    """One metric, which was tried on a few rows."""
    kinds = _metrics_for(task)
    if name not in kinds:
        hint = did_you_mean(name, kinds)
        raise UserError(f"metrics: torchmetrics has no {name} for the task {task}: {hint}")
    of_task = {} if task == "regression" else {"task": task, "num_classes": n_classes}
    try:
        with warnings.catch_warnings():  # it keeps all rows, as we do
            warnings.filterwarnings("ignore", message="Metric `.*will save all targets")
            metric = kinds[name](**of_task, **arguments)
        rows = torch.linspace(0, 1, 12)
        predictions, target = rows, (rows > 0.5).long()
        if task == "multiclass":
            target = torch.arange(12) % n_classes
            predictions = (torch.nn.functional.one_hot(target, n_classes) + 1.0) / (n_classes + 1)
        value = metric(predictions, rows.flip(0) if task == "regression" else target)
        metric.reset()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"metrics: {name}: {first_line(error)}") from error
    if not isinstance(value, Tensor) or value.ndim:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"metrics: {name}: it must give one number, got {shape}")
    return metric


def _metrics_for(task: Task) -> dict[str, Any]:
    """The classes of torchmetrics that are for a task, by their names."""
    package = "regression" if task == "regression" else "classification"
    of_package = import_module(f"torchmetrics.{package}")
    kinds = {name: getattr(of_package, name) for name in of_package.__all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if isclass(kind) and (task == "regression" or "task" in signature(kind.__new__).parameters)
    }


@torch.no_grad()
def values_of(
    metrics: Mapping[str, Metric], predictions: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """Each metric as a scalar, or `(K,)` of K networks; NaN where a prediction is not finite.

    Args:
        metrics: As `make_metrics` gives them.
        predictions: `(B, ...)`, or of K networks `(K, B, ...)`.
        target: `(B,)`, or of K networks `(K, B)`.
    """
    if target.ndim == 1:
        values = values_of(metrics, predictions.unsqueeze(0), target.unsqueeze(0))
        return {name: value[0] for name, value in values.items()}
    return {
        name: torch.stack([_value(metric, *each) for each in zip(predictions, target, strict=True)])
        for name, metric in metrics.items()
    }


def _value(metric: Metric, predictions: Tensor, target: Tensor) -> Tensor:
    """The metric of one network over rows."""
    if not predictions.isfinite().all():
        return torch.tensor(torch.nan, device=predictions.device)
    metric.to(predictions.device)
    metric.reset()
    metric.update(predictions, target)
    value: Tensor = metric.compute().detach().clone()
    metric.reset()
    return value
