"""Builds data, network, loss, module and trainer from a plain config."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor, ModelSummary, ProgressBar
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import ReduceLROnPlateau

from multilayer.core.device import accelerator_problem, choose_device, size_problems
from multilayer.core.errors import UserError, raise_all
from multilayer.data import Dataset, Preprocessing
from multilayer.data.table import Columns
from multilayer.nn.embeddings import CategoryEmbeddings
from multilayer.nn.losses import Task, loss_for_task
from multilayer.runs.config import mask_config
from multilayer.runs.folder import RunFolder
from multilayer.training.checks import call_factory, check_trainable
from multilayer.training.epoch import KEPT_BYTES
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.history import History
from multilayer.training.instantiate import argument_problems, instantiate
from multilayer.training.lightning_adapter import lightning_callbacks
from multilayer.training.module import DTYPES, MODULE_OF_TASK, SupervisedModule
from multilayer.training.runtime import set_threads

Config = dict[str, Any]


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
    optimizer = call_factory("optimizer", make_optimizer(config), [torch.zeros(1)])
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
        raise_all(size_problems(n_weights, config, place, in_training=in_training))


def count_weights(config: Config, columns: Columns, preprocessing: Preprocessing) -> int:
    """The number of weights and buffers in the network for a table, counted without memory."""
    with torch.device("meta"):
        network = _assemble_network(config, columns, preprocessing)
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() for tensor in tensors if not is_lazy(tensor))


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
    _check_shape(network, preprocessing.n_features, columns)
    return network


def _assemble_network(config: Config, columns: Columns, preprocessing: Preprocessing) -> nn.Module:
    """The network for preprocessed rows of a table, after embeddings of categories if any."""
    n_features, sizes = preprocessing.n_features, preprocessing.category_sizes
    rest = {"n_outputs": columns.n_outputs, "n_numbers": preprocessing.n_numbers}
    if not sizes or config["data"].get("categorical_encoding") != "embedding":
        return make_network(config["model"], n_features=n_features, **rest)
    first = CategoryEmbeddings(n_features - sum(sizes), sizes)
    after = make_network(config["model"], n_features=first.n_features, **rest)
    return nn.Sequential(first, after)


def _check_shape(network: nn.Module, n_features: int, columns: Columns) -> None:
    """Raise `UserError` unless a network maps `n_features` features to a table's outputs."""
    n_outputs = columns.n_outputs
    training = network.training
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(2, n_features))
    except (RuntimeError, TypeError) as error:
        raise UserError(f"model: it does not take {n_features} features: {error}") from error
    network.train(training)
    if not isinstance(output, Tensor):
        raise UserError(f"model: it must give a tensor, got a {type(output).__name__}")
    shape = tuple(output.shape)
    if shape != (2, n_outputs) and (shape, n_outputs) != ((2,), 1):
        raise UserError(
            f"model: it must give {n_outputs} outputs a row for the task {columns.task}, "
            f"2 rows gave the shape {shape}"
        )


def make_loss(config: Config, task: Task, n_classes: int | None = None) -> nn.Module:
    """The loss; `UserError` if it does not fit the task or the number of classes."""
    try:
        # "balanced" becomes numbers once the training rows are known.
        loss = instantiate("loss", config["loss"], {"balanced": None})
        return loss_for_task(loss, task, n_classes)  # type: ignore[no-any-return]
    except ValueError as error:
        raise UserError(f"loss: {error}") from error


def _balance_class_weights(config: Config, data: Dataset) -> Config:
    """The config with numbers for `loss.class_weights=balanced`: n / (n_classes * class count).

    All classes then have the same weight in total, however few training rows they have.
    """
    if config["loss"].get("class_weights") != "balanced":
        return config
    classes, target = data.columns.classes, data.targets[data.rows["train"]]
    counts = target.long().bincount(minlength=len(classes)).tolist() if classes else []
    if not all(counts):
        label = classes[counts.index(0)]
        raise UserError(f"loss.class_weights=balanced: no training row is of class {label!r}")
    weights = [len(target) / (len(classes) * count) for count in counts] or None
    return config | {"loss": config["loss"] | {"class_weights": weights}}


def make_optimizer(config: Config) -> Any:
    """The function that makes the optimizer from parameters.

    `fused=auto` is true unless float16 gradients are clipped: they are scaled, and a fused
    optimizer unscales them itself, too late for clipping.
    """
    trainer = config["trainer"]
    is_scaled = str(trainer["precision"]).startswith("16")
    values = {"auto": not (is_scaled and trainer["gradient_clip_val"])}
    return instantiate("optimizer", config["optimizer"], values)


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


def make_trained_module(config: Config, data: Dataset, n_steps: int) -> SupervisedModule:
    """The module to be trained; its weights and all later random numbers follow from the seed.

    Args:
        config: the run's config.
        data: the data, read.
        n_steps: the optimizer steps of the whole training.
    """
    _check_size(config, data.columns, data.preprocessing)
    pl.seed_everything(config["seed"], verbose=False)
    module = make_module(
        _balance_class_weights(config, data),
        data.columns,
        data.preprocessing,
        data_fingerprint=data.fingerprint,
        optimizer=make_optimizer(config),
        scheduler=make_scheduler(config, n_steps=n_steps),
        scheduler_interval=config["scheduler"]["interval"],
        monitor=config["monitor"],
        # Rows that do not fit into memory have outputs that do not either.
        kept_bytes=None if data.stream is None else KEPT_BYTES,
    )
    n_rows = data.train_minibatches().batch_size
    module.metadata["threads"] = set_threads(config["num_threads"], module.network, n_rows)
    return module


def make_module(
    config: Config,
    columns: Columns,
    preprocessing: Preprocessing,
    *,
    data_fingerprint: str,
    **training: Any,
) -> SupervisedModule:
    """The LightningModule for the task of a table, with its network and loss.

    Args:
        config: the run's config.
        columns: of the table.
        preprocessing: fitted to the training rows.
        data_fingerprint: of the data; with the config and the columns it is saved in checkpoints.
        training: how it is trained; without that the module can only predict.
    """
    network = make_checked_network(config, columns, preprocessing)
    module = MODULE_OF_TASK[columns.task](
        network,
        loss=make_loss(config, columns.task, len(columns.classes)),
        preprocessing=preprocessing,
        metadata={
            "config": mask_config(config),
            "columns": columns.to_dict(),
            "data_fingerprint": data_fingerprint,
        },
        **training,
    )
    # Lightning would convert after loading a checkpoint, and so round its values.
    return module.to(DTYPES.get(str(config["trainer"]["precision"]), torch.float32))


def make_trainer(config: Config, run: RunFolder, *, quiet: bool = False) -> pl.Trainer:
    """The Trainer with the callbacks and loggers of the config, which write to the run folder."""
    values = run.placeholders()
    loggers = _make_all("logger", config["logger"], values, Logger)
    callbacks = _make_all("callbacks", config["callbacks"], values, pl.Callback, EpochCallback)
    if not loggers:  # Lightning refuses to monitor rates that nothing logs
        callbacks = [item for item in callbacks if not isinstance(item, LearningRateMonitor)]
    if quiet:
        callbacks = [item for item in callbacks if not isinstance(item, ModelSummary)]
    callbacks = lightning_callbacks(*callbacks, History(folder=run.path))
    trainer: pl.Trainer = instantiate(
        "trainer",
        config["trainer"],
        values,
        logger=loggers,
        callbacks=callbacks,
        default_root_dir=str(run.path),
        # Only what the config names, without Lightning's defaults.
        enable_checkpointing=has(callbacks, Checkpoint),
        enable_progress_bar=has(callbacks, ProgressBar),
        enable_model_summary=has(callbacks, ModelSummary),
        use_distributed_sampler=False,
    )
    return trainer


def _make_all(key: str, group: Config, values: dict[str, str], *kinds: type) -> list[Any]:
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


def has(callbacks: Sequence[pl.Callback], kind: type[pl.Callback]) -> bool:
    """Whether one of the callbacks is an instance of a class."""
    return any(isinstance(callback, kind) for callback in callbacks)
