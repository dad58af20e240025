"""Builds data, network, loss, optimizer and schedule from a plain config, with torch alone."""

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from inspect import unwrap
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from multilayer.core.config_problems import size_problems
from multilayer.core.device import accelerator_problem, choose_device, free_memory
from multilayer.core.errors import UserError, raise_all
from multilayer.core.text import counted
from multilayer.data import Dataset, Preprocessing
from multilayer.data.batches import BatchIterator
from multilayer.data.table import Columns
from multilayer.nn.embeddings import CategoryEmbeddings
from multilayer.nn.losses import Task
from multilayer.runs.config import Config, is_refit, mask_config
from multilayer.training.arguments import argument_problems
from multilayer.training.checks import call_factory, check_trainable
from multilayer.training.further_metrics import make_metrics
from multilayer.training.instantiate import if_imported, instantiate, resolve_target
from multilayer.training.loss import (
    balance_class_weights,
    make_loss,
    make_loss_for,
    n_outputs_for,
)
from multilayer.training.runtime import seed_everything, set_threads
from multilayer.training.task_model import TaskModel

AnyTaskModel = TypeVar("AnyTaskModel", bound=TaskModel)

_DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
"""The dtype of the weights, by `trainer.precision`; float32 for any other."""


def check_components(config: Config) -> Dataset:
    """Check what can be checked before any data is read, by building it.

    The network is built on torch's meta device, where weights take neither memory nor time.

    Returns:
        The data, not yet read.

    Raises:
        UserError: A component refuses its arguments, or does not fit the others.
    """
    problems = argument_problems(config)
    accelerator = config["trainer"]["accelerator"]
    if lacking := accelerator_problem(accelerator):
        problem = f"trainer.accelerator={accelerator}: {lacking}; use trainer=auto or trainer=cpu"
        problems.append(problem)
    raise_all(problems)
    data = make_data(config)
    if data.task is not None:
        make_loss(config, data.task)
    with torch.device("meta"):
        network = make_network(config["model"], n_features=2, n_outputs=2)
    check_trainable(network)
    optimizer = stand_in_optimizer(config)
    scheduler = call_factory("scheduler", make_scheduler(config, n_steps=100), optimizer)
    if isinstance(scheduler, ReduceLROnPlateau) and config["scheduler"]["interval"] == "step":
        raise UserError(
            "scheduler.interval=step: this schedule follows a metric of whole epochs; "
            "give scheduler.interval=epoch"
        )
    return data


def _check_size(config: Config, columns: Columns, preprocessing: Preprocessing) -> None:
    """Raise `UserError` if the network for a table will not fit into memory; it is not built."""
    n_weights = count_weights(config, columns, preprocessing)
    device = choose_device(config["trainer"]["accelerator"])
    for place, in_training in ((torch.device("cpu"), False), (device, True)):
        raise_all(size_problems(n_weights, config, free_memory(place), in_training=in_training))


_counted: dict[str, int] = {}
"""The weights in networks that were counted before, as in the runs of a sweep."""


def count_weights(config: Config, columns: Columns, preprocessing: Preprocessing) -> int:
    """The number of weights and buffers in the network for a table, counted without memory."""
    encoding = config["data"].get("categorical_encoding")
    n_outputs = n_outputs_for(config, columns)
    widths = [n_outputs, preprocessing.n_features, preprocessing.category_sizes]
    key = json.dumps([config["model"], encoding, *widths], default=repr)
    if key not in _counted:
        with torch.device("meta"):
            network = _assemble_network(config, columns, preprocessing)
        tensors = [*network.parameters(), *network.buffers()]
        _counted[key] = sum(tensor.numel() for tensor in tensors if not is_lazy(tensor))
    return _counted[key]


def make_data(
    config: Config, preprocessing: Preprocessing | None = None, known: Columns | None = None
) -> Dataset:
    """The Dataset, which has not read anything yet.

    Args:
        config: the run's config.
        preprocessing: a fitted one, to use instead of fitting another.
        known: the columns of an earlier training on the same data.
    """
    data: Dataset = instantiate("data", config["data"], preprocessing=preprocessing)
    data.known_columns = known
    data.joins_validation = is_refit(config)
    return data


def make_network(
    node: Config, *, n_features: int, n_outputs: int, n_numbers: int | None = None
) -> nn.Module:
    """The network of a `model` node.

    Args:
        node: the node.
        n_features: the width of its input.
        n_outputs: the width of its output.
        n_numbers: the number of numeric features, which come first; None if all are.
    """
    values = {
        "n_features": n_features,
        "n_outputs": n_outputs,
        "n_numbers": n_numbers or n_features,
    }
    return instantiate("model", node, values)  # type: ignore[no-any-return]


def make_checked_network(
    config: Config, columns: Columns, preprocessing: Preprocessing
) -> nn.Module:
    """The network for preprocessed rows of a table; it has been called to check its shapes."""
    network = _assemble_network(config, columns, preprocessing)
    _check_shape(network, preprocessing.n_features, n_outputs_for(config, columns), columns.task)
    return network


def _assemble_network(config: Config, columns: Columns, preprocessing: Preprocessing) -> nn.Module:
    """The network for preprocessed rows of a table, after embeddings of categories if any."""
    n_features, sizes = preprocessing.n_features, preprocessing.category_sizes
    rest = {"n_outputs": n_outputs_for(config, columns), "n_numbers": preprocessing.n_numbers}
    if not sizes or config["data"].get("categorical_encoding") != "embedding":
        return make_network(config["model"], n_features=n_features, **rest)
    first = CategoryEmbeddings(n_features - sum(sizes), sizes)
    after = make_network(config["model"], n_features=first.n_features, **rest)
    return nn.Sequential(first, after)


def _check_shape(network: nn.Module, n_features: int, n_outputs: int, task: Task) -> None:
    """Raise `UserError` unless a network maps as many features to as many outputs."""
    training = network.training
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(2, n_features))
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"model: it does not take {counted(n_features, 'feature')}: {error}"
        ) from error
    network.train(training)
    if not isinstance(output, Tensor):
        raise UserError(f"model: it must give a tensor, got a {type(output).__name__}")
    shape = tuple(output.shape)
    if shape != (2, n_outputs) and (shape, n_outputs) != ((2,), 1):
        raise UserError(
            f"model: it must give {counted(n_outputs, 'output')} a row for the task "
            f"{task}, 2 rows gave the shape {shape}"
        )


def make_optimizer(config: Config) -> Any:
    """The function that makes the optimizer from parameters.

    `fused=auto` is true unless float16 gradients are clipped: they are scaled, and a fused
    optimizer unscales them itself, too late for clipping.
    """
    trainer = config["trainer"]
    is_scaled = str(trainer["precision"]).startswith("16")
    values = {"auto": not (is_scaled and trainer["gradient_clip_val"])}
    return instantiate("optimizer", config["optimizer"], values)


def with_lr(config: Config, lr: float) -> Config:
    """The config with another learning rate of the optimizer."""
    return config | {"optimizer": config["optimizer"] | {"lr": lr}}


def stand_in_optimizer(config: Config, params: Sequence[Tensor] | None = None) -> Optimizer:
    """An optimizer of the configured class, with all its defaults, that takes no steps.

    One of torch's own is made without importing torch._dynamo, which takes a second. It is of a
    subclass with the class's name, and schedules of torch run over it.

    Args:
        config: the run's config.
        params: its parameters; one zero by default.

    Raises:
        UserError: The optimizer refuses its arguments.
    """
    make = make_optimizer(config)
    kind = getattr(make, "func", None)
    if isinstance(kind, type) and issubclass(kind, Optimizer) and _is_torchs(kind):
        make = partial(_without_dynamo(kind), *make.args, **make.keywords)  # type: ignore[arg-type]
    found: Any = call_factory("optimizer", make, [torch.zeros(1)] if params is None else params)
    found._opt_called = True  # else torch's schedules warn of an optimizer that takes no step
    return found  # type: ignore[no-any-return]


def _is_torchs(kind: type) -> bool:
    """Whether torch defines a class."""
    return kind.__module__.startswith("torch.")


@cache
def _without_dynamo(kind: type[Optimizer]) -> type[Optimizer]:
    """A subclass whose `add_param_group` is not wrapped by `torch._disable_dynamo`.

    The wrapper imports torch._dynamo when it is first called, as every constructor does. If a later
    torch does something else, test_a_stand_in_optimizer_does_not_import_dynamo fails.
    """
    own = {
        "__module__": kind.__module__,
        "_stands_for": kind,
        "add_param_group": unwrap(kind.add_param_group),
    }
    return type(kind.__name__, (kind,), own)


def optimizer_class(optimizer: Optimizer) -> type[Optimizer]:
    """The class of an optimizer; of a stand-in, the class that it stands for."""
    return getattr(optimizer, "_stands_for", type(optimizer))


def make_scheduler(config: Config, *, n_steps: int) -> Any:
    """The function that makes the schedule from an optimizer.

    Args:
        config: the run's config.
        n_steps: the optimizer steps of the whole training. A schedule that moves once an epoch gets
            the number of epochs for `@n_steps`.
    """
    n_epochs = config["trainer"]["max_epochs"] or -1
    by_epoch = config["scheduler"]["interval"] == "epoch" and n_epochs > 0
    values = {"n_steps": n_epochs if by_epoch else n_steps, "n_epochs": n_epochs}
    return instantiate("scheduler", config["scheduler"]["scheduler"], values)


def make_own_module(config: Config, task: Task) -> Callable[..., Any] | None:
    """What makes the module that a config names; None if it names none.

    Args:
        config: the run's config.
        task: of its data.

    Returns:
        It is called with the network and what else `SupervisedModule` takes.

    Raises:
        UserError: The config names something else, or a module for another task.
    """
    node = config.get("module")
    if node is None:
        return None
    path = node["_target_"]
    kind = resolve_target("module", path)
    parents = if_imported("multilayer.training.module.SupervisedModule")  # as its subclass has
    if not (isinstance(kind, type) and issubclass(kind, parents)):
        raise UserError(f"module._target_={path}: it must be a subclass of SupervisedModule")
    own = getattr(kind, "task", None)
    if own != task:
        raise UserError(
            f"module._target_={path}: it is for the task {own}, and the data's is {task}"
        )

    def make(network: nn.Module, **parts: Any) -> Any:
        return instantiate("module", node, network=network, **parts)

    return make


def make_task_model(config: Config, data: Dataset) -> TaskModel:
    """The network to be trained; its weights and all later random numbers follow from the seed.

    Args:
        config: the run's config.
        data: the data, read.

    Raises:
        UserError: A component is wrong, does not fit the data, or does not fit into memory.
    """
    return make_seeded(partial(TaskModel, task=data.columns.task), config, data)


def make_seeded(make: Callable[..., AnyTaskModel], config: Config, data: Dataset) -> AnyTaskModel:
    """What `make_task_model` says, for any kind of task model.

    Args:
        make: makes it from `network`, `loss`, `preprocessing` and `metadata`.
        config: the run's config.
        data: the data, read.
    """
    _check_size(config, data.columns, data.preprocessing)
    seed_everything(config["seed"])
    task_model = assemble(
        make,
        balance_class_weights(config, data),
        data.columns,
        data.preprocessing,
        data_fingerprint=data.fingerprint,
    )
    minibatches = data.train_minibatches()
    _check_batch_normalization(task_model.network, minibatches)
    threads = set_threads(config["num_threads"], task_model.network, minibatches.batch_size)
    task_model.metadata["threads"] = threads
    return task_model


def _check_batch_normalization(network: nn.Module, minibatches: BatchIterator) -> None:
    """Raise `UserError` for a minibatch of one row; torch would in the middle of an epoch."""
    normalizes = any(isinstance(layer, nn.BatchNorm1d) for layer in network.modules())
    n_rows, batch_size = minibatches.n_rows, minibatches.batch_size
    if normalizes and (batch_size == 1 or n_rows % batch_size == 1):
        raise UserError(
            f"data.batch_size={batch_size}: of {counted(n_rows, 'row')} a minibatch has only "
            "one, and batch normalization needs 2; choose another size, or "
            "model.normalization=layer"
        )


def assemble(
    make: Callable[..., AnyTaskModel],
    config: Config,
    columns: Columns,
    preprocessing: Preprocessing,
    *,
    data_fingerprint: str,
) -> AnyTaskModel:
    """A task model for a table, with a new network and loss.

    Args:
        make: makes it from `network`, `loss`, `preprocessing` and `metadata`.
        config: the run's config.
        columns: of the table.
        preprocessing: fitted to the training rows.
        data_fingerprint: of the data; with the config and the columns it is saved in checkpoints.
    """
    task_model = make(
        make_checked_network(config, columns, preprocessing),
        loss=make_loss_for(config, columns),
        metrics=make_metrics(config.get("metrics") or [], columns.task, len(columns.classes)),
        preprocessing=preprocessing,
        metadata={
            "config": mask_config(config),
            "columns": columns.to_dict(),
            "data_fingerprint": data_fingerprint,
        },
    )
    # Lightning would convert after loading a checkpoint, and so round its values.
    return task_model.to(_DTYPES.get(str(config["trainer"]["precision"]), torch.float32))


def make_all(key: str, group: Config, values: dict[str, str], *kinds: type) -> list[Any]:
    """The components of a group that has several by name; a null leaves one out.

    Raises:
        UserError: One names no class, or is of none of these kinds.
    """
    named = {f"{key}.{name}": node for name, node in group.items() if node is not None}
    for name, node in named.items():
        if "_target_" not in node:
            raise UserError(f"{name}: has no _target_; choose the file of {key} that defines it")
    made = {name: instantiate(name, node, values) for name, node in named.items()}
    for name, component in made.items():
        if not isinstance(component, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            found = type(component).__name__
            raise UserError(f"{name}: must be of a subclass of {expected}, got {found}")
    return list(made.values())
