"""A network with its loss, preprocessing and metadata: what predicts and evaluates, torch alone."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from multilayer.core.errors import UserError, first_line
from multilayer.core.metric_names import CROSS_ENTROPY
from multilayer.data.batches import Minibatch
from multilayer.data.preprocessing import Preprocessing
from multilayer.nn.losses import (
    AutoLoss,
    Task,
    WeightedLoss,
    check_outputs,
    is_cross_entropy,
    is_plain,
    levels_of,
    loss_for_task,
    total_weight,
    with_weights,
)
from multilayer.nn.metrics import HEADLINE, cross_entropy, metrics_of
from multilayer.nn.quantiles import check_quantiles, in_order
from multilayer.training.epoch_outputs import EpochOutputs
from multilayer.training.further_metrics import Metric, values_of

Value = TypeVar("Value", float, Tensor)

Batch = tuple[Tensor, ...]
"""Features `(B, n_features)` and targets `(B,)`, and weights `(B,)` if the loss has them."""

_RAW_WEIGHTS = (
    "preprocessing: these weights have learnt from raw columns, and the data are preprocessed; "
    "give them raw columns, as in DataLoader(TensorDataset(columns, target)), or train a new module"
)


class TaskModel(nn.Module):
    """A network that maps features `(B, n_features)` to outputs `(B, n_outputs)`, ready for use.

    `forward` takes raw columns, and so does evaluation, with targets in their own units. Only the
    minibatches of a `Dataset` are already preprocessed. Predictions are for the task

    - binary: probabilities of class 1, `(B,)`;
    - multiclass: probabilities, `(B, n_classes)`;
    - regression: values in the units of the target, `(B,)`; or its quantiles, `(B, n_levels)`.

    Args:
        network: the `nn.Module`.
        task: "binary", "multiclass" or "regression".
        loss: called with outputs and targets of one minibatch; None for the task's usual loss.
        preprocessing: fitted, from raw columns to features. None takes over that of the first
            `Dataset`, or its loaders, that the model is used with; features from elsewhere are
            unchanged.
        metadata: plain data that is saved in checkpoints, under the key "multilayer".
        metrics: of torchmetrics, by the names that they are reported as, next to the task's own.

    Raises:
        UserError: The loss is for another task.

    >>> from multilayer import MLP
    >>> model = TaskModel(MLP(4, 3), "multiclass")
    >>> columns, target = torch.zeros(6, 4), torch.arange(6) % 3
    >>> model(columns).shape
    torch.Size([6, 3])
    >>> round(model.evaluate([(columns, target)])["accuracy"], 3)
    0.333
    """

    task: Task

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        *,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        preprocessing: Preprocessing | None = None,
        metadata: dict[str, Any] | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        super().__init__()
        self.task = task
        self.network = network
        self.loss: Any = loss_for_task(loss or AutoLoss(), task)
        self.preprocessing = preprocessing or nn.Identity()
        self.metadata = metadata or {}
        self.further_metrics = dict(metrics or {})
        if metrics and (self.levels or isinstance(self.loss, WeightedLoss)):
            what, key = ("quantiles", "loss") if self.levels else ("weights of rows", "data.weight")
            raise UserError(
                f"metrics: those of torchmetrics ({', '.join(metrics)}) take no {what}; "
                f"leave them out, or {key}"
            )
        self.raw_weights: Literal["", "loaded", "trained"] = ""  # without a preprocessing

    @property
    def levels(self) -> list[float] | None:
        """The levels of the quantiles that are predicted; None if it is not quantiles."""
        return levels_of(self.loss)

    @property
    def headline(self) -> str:
        """The one metric that is shown next to the loss where there is little room."""
        return "pinball_loss" if self.levels else HEADLINE[self.task]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        first = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network's weights; torch's default if it has none."""
        dtypes = (each.dtype for each in self.network.parameters())
        return next((each for each in dtypes if each.is_floating_point), torch.get_default_dtype())

    def predictions(self, output: Tensor, /) -> Tensor:
        """Map the network's output, `(B,)` or `(B, n_classes)`, to predictions of the same shape.

        They are what the metrics and the user take. Quantiles `(B, n_levels)` are in order, also
        where the outputs cross.
        """
        if self.task == "binary":
            return output.sigmoid()
        if self.task == "multiclass":
            # Across a few classes torch's softmax is 20 times slower than down the rows.
            return output.mT.contiguous().softmax(dim=-2).mT
        if self.levels:
            quantiles = output.unsqueeze(-1) if len(self.levels) == 1 else output
            return in_order(self._in_units(quantiles))
        return self._in_units(output)

    def targets(self, target: Tensor, /) -> Tensor:
        """The targets of a minibatch as the metrics take them; those of regression are scaled."""
        values, _ = self.split_target(target)
        return self._in_units(values) if self.task == "regression" else values

    def split_target(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """The targets of a minibatch, and the weights that come with them if the loss has any."""
        return self.loss.split(target) if isinstance(self.loss, WeightedLoss) else (target, None)

    def _in_units(self, scaled: Tensor) -> Tensor:
        """Scaled values `(B,)` in the units of the target."""
        if isinstance(self.preprocessing, Preprocessing):
            return self.preprocessing.unscale_target(scaled)
        return scaled

    def take_preprocessing(self, fitted: Preprocessing) -> None:
        """Take over the preprocessing of the data if this module has none, unless it must not.

        A network that has learnt from raw columns keeps them.
        """
        if not isinstance(self.preprocessing, Preprocessing) and self._accepts_preprocessing():
            self.preprocessing = deepcopy(fitted).to(self.device)

    def _accepts_preprocessing(self) -> bool:
        """Whether the weights have not learnt from raw columns."""
        return not self.raw_weights

    def check_data(self, data: Any) -> None:
        """Raise `UserError` if the data are preprocessed differently than this module expects.

        Args:
            data: minibatches, or a collection of loaders.
        """
        for other in preprocessings_of(data):
            self.take_preprocessing(other)
            own = self.preprocessing
            if not isinstance(own, Preprocessing):
                raise UserError(_RAW_WEIGHTS)
            if own is not other and not own.is_like(other):
                raise UserError(
                    "preprocessing: the module has another one than the data; give the data the "
                    "module's, as in BuiltinData(..., preprocessing=module.preprocessing), or "
                    "train a new module"
                )

    def output(self, features: Tensor) -> Tensor:
        """The network's output."""
        features = features.to(self.device, self.dtype)
        if features.ndim < 2:
            raise UserError(f"features must be (B, n_features), got {tuple(features.shape)}")
        try:
            return _squeeze_single(self.network(features))
        except (RuntimeError, ValueError) as error:
            _refuse_shape(features, self.network, error)
            raise

    def forward(self, columns: Tensor) -> Tensor:
        """Predictions for raw columns `(B, n_features)`, in float32 or wider."""
        return self.predict_features(self.preprocessing(columns))

    def predict_features(self, features: Tensor) -> Tensor:
        """Predictions for preprocessed features `(B, n_features)`, in float32 or wider."""
        return self.predictions(_at_least_float32(self.output(features)))

    def step(self, batch: Batch, epoch: EpochOutputs) -> Tensor:
        """The loss of a minibatch, whose outputs are kept for the metrics of the epoch."""
        features, target = batch if isinstance(batch, Minibatch) else self.prepared(batch)
        output = self.output(features)
        self._check_outputs(output, target)
        loss = self.loss_of(output, target)
        epoch.add(loss, output, target, total_weight(self.loss, target))
        return loss

    def _check_outputs(self, output: Tensor, target: Tensor, *, values: bool = False) -> None:
        """Raise `UserError` if outputs and targets do not fit; see `losses.check_outputs`."""
        wanted, _ = self.split_target(target)
        if self.levels:
            check_quantiles(output, wanted, len(self.levels))
        else:
            check_outputs(self.task, output, wanted, values=values)

    def prepared(self, batch: Batch) -> Minibatch:
        """A minibatch of raw columns as the network and its loss take it."""
        n_parts = 3 if isinstance(self.loss, WeightedLoss) else 2
        columns, target, *weights = _check_batch(batch, n_parts)
        features = self.preprocessing(columns)
        if self.task == "regression":
            if isinstance(self.preprocessing, Preprocessing):
                target = self.preprocessing.scale_target(target)
            target = target.to(torch.promote_types(self.dtype, torch.float32))
        return Minibatch(features, with_weights(target, *weights))

    def loss_of(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, in float32 or wider; bfloat16 has only three digits."""
        output = _at_least_float32(output)
        loss: Tensor = self.loss(output, _target_for(output, target))
        if loss.ndim:
            raise UserError(
                f"loss: must be one number for a minibatch, the mean over its rows, got the shape "
                f"{tuple(loss.shape)}; use reduction='mean'"
            )
        return loss

    @torch.no_grad()
    def summarize(self, epoch: EpochOutputs) -> dict[str, Tensor]:
        """The loss and every metric over an epoch, as scalars on the device."""
        outputs, target = torch.cat(epoch.outputs), torch.cat(epoch.targets)
        self._check_outputs(_at_least_float32(outputs), target, values=True)
        loss = epoch.mean_loss()
        return {"loss": loss, **self.metrics_of_outputs(outputs, target, loss)}

    def metrics_of_outputs(
        self, outputs: Tensor, target: Tensor, loss: Tensor
    ) -> dict[str, Tensor]:
        """Every metric of the task as a scalar, or `(K,)` of K networks.

        Args:
            outputs: of the network, `(B, ...)` or `(K, B, ...)`.
            target: of its minibatches, `(B,)` or `(K, B)`.
            loss: over the same rows, which a plain cross entropy is not worked out twice for.
        """
        outputs = _at_least_float32(outputs)
        values, weights = self.split_target(target)
        judged = self.predictions(outputs), self.targets(target)
        metrics = metrics_of(self.task, *judged, weights=weights, levels=self.levels)
        metrics |= values_of(self.further_metrics, *judged)
        if self.task == "regression":
            return metrics
        plain = loss if is_plain(self.loss) else cross_entropy(outputs, values, weights)
        return {CROSS_ENTROPY: plain, **metrics}

    def tested(self, metrics: Mapping[str, Value]) -> dict[str, Value]:
        """The metrics of test rows, whose loss is one that others can compare theirs with.

        A cross entropy is neither smoothed nor weighted by class there, whatever is trained on.
        """
        plain = {"loss": metrics[CROSS_ENTROPY]} if is_cross_entropy(self.loss) and metrics else {}
        return {**metrics, **plain}

    @torch.no_grad()
    def evaluate(self, minibatches: Iterable[Batch], *, tests: bool = False) -> dict[str, float]:
        """The loss and every metric over minibatches, without learning from them.

        Args:
            minibatches: of any rows.
            tests: whether the rows test the network; see `tested`.
        """
        self.check_data(minibatches)
        training = self.training
        self.eval()
        epoch = EpochOutputs()
        for batch in minibatches:
            self.step(batch, epoch)
        values = {name: float(value) for name, value in self.summarize(epoch).items()}
        self.train(training)
        return self.tested(values) if tests else values

    def checkpoint_entries(self) -> dict[str, Any]:
        """What a checkpoint holds besides the weights, to be rebuilt from it alone."""
        entries: dict[str, Any] = {"multilayer": self.metadata, "task": self.task}
        if isinstance(self.preprocessing, Preprocessing):
            entries["preprocessing"] = self.preprocessing.options()
        return entries

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a change of precision, but keep the loss in float32 or wider."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        buffers = self.loss.buffers() if isinstance(self.loss, nn.Module) else ()
        if {each.dtype for each in buffers} & {torch.float16, torch.bfloat16}:
            self.loss.float()
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, *found: Any
    ) -> None:
        """Create a preprocessing if one comes with the weights."""
        begin = f"{prefix}preprocessing."
        own = {
            key.removeprefix(begin): each
            for key, each in state_dict.items()
            if key.startswith(begin)
        }
        if strict and not own:
            if isinstance(self.preprocessing, Preprocessing):
                raise UserError(_RAW_WEIGHTS)
            self.raw_weights = self.raw_weights or "loaded"
        elif own and not isinstance(self.preprocessing, Preprocessing):
            self.preprocessing = Preprocessing.for_state(own).to(self.device)
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *found)


def _squeeze_single(output: Tensor) -> Tensor:
    """A network's output, `(B, 1)` -> `(B,)` if it is a single one."""
    return output.squeeze(1) if output.ndim == 2 and output.shape[1] == 1 else output


def _target_for(output: Tensor, target: Tensor) -> Tensor:
    """The target as the loss takes it: a single output is compared with a number, not an index."""
    return target.to(output.dtype) if output.ndim == 1 else target


def _at_least_float32(output: Tensor) -> Tensor:
    """A network's output, widened where it is float16 or bfloat16."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _check_batch(batch: Any, n_parts: int) -> list[Tensor]:
    """The features and the target of a minibatch, and with 3 parts the weights of its rows."""
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) != n_parts or not all(isinstance(part, Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        expected = "two tensors, features and target"
        if n_parts == 3:
            expected = "three tensors, features, target and the weights of the rows"
        raise UserError(f"a minibatch must be {expected}, got {kinds}")
    return parts


def _refuse_shape(features: Tensor, network: nn.Module, error: Exception) -> None:
    """Raise `UserError` if an error of torch comes from the shape of a minibatch."""
    shape = tuple(features.shape)
    widths = [each.in_features for each in network.modules() if isinstance(each, nn.Linear)]
    if widths and (features.ndim != 2 or shape[1] != widths[0]):
        raise UserError(
            f"features of the shape {shape} do not fit the network, whose first layer takes "
            f"(B, {widths[0]}): {first_line(error)}"
        ) from error
    if shape[:1] == (1,) and isinstance(error, ValueError):  # as batch normalization raises
        raise UserError(
            f"a minibatch of one row: {first_line(error)}; use DataLoader(..., drop_last=True)"
        ) from error


def preprocessings_of(data: Any) -> list[Preprocessing]:
    """The preprocessings of a `Dataset`, of minibatches, or of a collection of them."""
    found = [getattr(each, "preprocessing", None) for each in tree_leaves(data)]
    return [each for each in found if isinstance(each, Preprocessing)]
