"""Files of fitted estimators: plain data, checked before anything is made of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.value_problems import format_problem
from multilayer.estimators.network import Array, as_tensor, give_weights
from multilayer.runs.checkpoint import read_plain, write_checkpoint

if TYPE_CHECKING:
    from multilayer.estimators.perceptron import MultilayerPerceptron

_Estimator = TypeVar("_Estimator", bound="MultilayerPerceptron")

_FORMAT = 1
"""The number of the format, as files have it."""

_KINDS = "biufUO"
"""Kinds of numpy's dtypes that classes may have."""

Number = int | float


class _Classes(BaseModel):
    """Classes, and the dtype of their array."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dtype: Annotated[str, Field(pattern=r"^[<|>=]?[biufUO]\d*$")]
    values: Annotated[list[str | bool | int | float], Field(min_length=2)]


class _File(BaseModel):
    """What a file holds."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    multilayer_estimator: int
    name: str
    params: dict[str, Any]
    n_features: PositiveInt
    n_outputs: PositiveInt
    feature_names: list[str] | None
    classes: _Classes | None
    link: str
    n_iter: PositiveInt
    n_steps: PositiveInt
    n_no_change: int
    loss_curve: Annotated[list[float], Field(min_length=1)]
    best_loss: float | None
    validation_scores: list[float] | None
    best_validation_score: float | None
    weights: Annotated[dict[str, Tensor], Field(min_length=1)]
    moments: dict[str, Tensor]


def save(estimator: "MultilayerPerceptron", path: Path) -> None:
    """Write a fitted estimator to a file; see `MultilayerPerceptron.save`."""
    classes = getattr(estimator, "classes_", None)
    names = getattr(estimator, "feature_names_in_", None)
    content = {
        "multilayer_estimator": _FORMAT,
        "name": type(estimator).__name__,
        "params": {key: _plain(key, each) for key, each in estimator.get_params().items()},
        "n_features": estimator.n_features_in_,
        "n_outputs": estimator.n_outputs_,
        "feature_names": None if names is None else [str(each) for each in names],
        "classes": None if classes is None else _plain_classes(classes),
        "link": estimator.out_activation_,
        "n_iter": estimator.n_iter_,
        "n_steps": estimator._n_steps,
        "n_no_change": estimator._n_no_change,
        "loss_curve": estimator.loss_curve_,
        "best_loss": estimator.best_loss_,
        "validation_scores": estimator.validation_scores_,
        "best_validation_score": estimator.best_validation_score_,
        "weights": {name: as_tensor(each) for name, each in estimator._weights.items()},
        "moments": {name: as_tensor(each) for name, each in estimator._optimizer_state.items()},
    }
    write_checkpoint(content, path)


def load(kind: type[_Estimator], path: Path) -> _Estimator:
    """Read a fitted estimator; see `MultilayerPerceptron.load`."""
    content = read_plain(path)
    if "multilayer_estimator" not in content:
        raise UserError(f"{path} holds no estimator that multilayer has saved")
    try:
        found = _File.model_validate(content)
    except ValidationError as error:
        problems = [str(format_problem(each)) for each in error.errors()[:8]]
        raise UserError("\n".join([f"{path} is not as multilayer saves it:", *problems])) from error
    if found.multilayer_estimator != _FORMAT:
        raise UserError(
            f"{path} has format {found.multilayer_estimator}, and this version reads {_FORMAT}"
        )
    if found.name != kind.__name__:
        raise UserError(f"{path} holds a {found.name}, not a {kind.__name__}")
    try:
        return _restored(kind, found)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} is not as multilayer saves it: {error}") from error


def _restored(kind: type[_Estimator], found: _File) -> _Estimator:
    """The estimator of a file; raises `ValueError` and the like for what does not fit."""
    estimator = kind(**found.params)
    estimator._validate_params()
    estimator.n_features_in_ = found.n_features
    if found.feature_names is not None:
        estimator.feature_names_in_ = np.array(found.feature_names, dtype=object)
    if found.classes is not None:
        estimator.classes_ = np.array(found.classes.values, dtype=found.classes.dtype)
    estimator.n_outputs_, estimator.out_activation_ = found.n_outputs, found.link
    estimator._check_outputs()
    weights = {name: _as_array(name, each) for name, each in found.weights.items()}
    dtype = next(iter(weights.values())).dtype
    network = estimator._network(dtype).network
    give_weights(network, weights)
    n_weights = sum(each.numel() for each in network.parameters())
    moments = {name: _as_array(name, each) for name, each in found.moments.items()}
    if any(each.shape != (n_weights,) for each in moments.values()):
        raise ValueError(f"the optimizer's moments must be ({n_weights},)")
    estimator._weights, estimator._optimizer_state = weights, moments
    estimator._n_steps, estimator._n_no_change = found.n_steps, found.n_no_change
    estimator.n_iter_, estimator.loss_curve_ = found.n_iter, found.loss_curve
    estimator.loss_, estimator.best_loss_ = found.loss_curve[-1], found.best_loss
    estimator.validation_scores_ = found.validation_scores
    estimator.best_validation_score_ = found.best_validation_score
    estimator.n_layers_ = len(estimator.coefs_) + 1
    return estimator


def _as_array(name: str, tensor: Tensor) -> Array:
    """A tensor of a file as an array of finite numbers."""
    if tensor.dtype not in (torch.float32, torch.float64, torch.int64):
        raise ValueError(f"{name} must be float32 or float64, got {tensor.dtype}")
    array: Array = tensor.detach().cpu().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers")
    return array


def _plain(key: str, value: Any) -> Any:
    """An argument as plain data; raises `ValueError` where it is none."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(key, each) for each in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    hint = "; use set_params(random_state=0), or None" if key == "random_state" else ""
    raise ValueError(f"{key} must be plain data to be saved, got {value!r}{hint}")


def _plain_classes(classes: Array) -> dict[str, Any]:
    """Classes as plain data."""
    if classes.dtype.kind not in _KINDS:
        raise ValueError(f"classes must be numbers or strings to be saved, got {classes.dtype}")
    values = [_plain("classes", each) for each in classes.tolist()]
    return {"dtype": classes.dtype.str, "values": values}
