"""Checks of a training before it starts, and of what a user gives to a module: one message each."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from multilayer.core.errors import UserError, did_you_mean
from multilayer.core.metric_names import COVERAGE, NEEDED, more_is_better
from multilayer.core.text import counted, plural
from multilayer.data import Dataset
from multilayer.data.split import Split
from multilayer.nn.losses import levels_of
from multilayer.nn.metrics import is_defined, names_of_metrics
from multilayer.runs.config import is_refit
from multilayer.training.further_metrics import make_metrics
from multilayer.training.instantiate import if_imported
from multilayer.training.loss import make_loss
from multilayer.training.steps import limited_batches, steps_per_epoch


def check_training(
    config: dict[str, Any], callbacks: Sequence[Any], data: Dataset, n_steps: int
) -> None:
    """Check that a training can come to its end with a best epoch, whatever its network.

    Args:
        config: the run's config.
        callbacks: of its trainer, epoch callbacks without their adapters.
        data: the data.
        n_steps: the optimizer steps of the whole training.

    Raises:
        UserError: Averaged weights are not validated, nothing is although something waits for it,
            or no metric decides which epoch is best.
    """
    check_averaging(callbacks)
    if is_refit(config):
        _check_without_validation(callbacks, data)
    else:
        _check_validations(config, callbacks, data, n_steps)
        _check_monitor(config, data)


def _check_validations(
    config: dict[str, Any], callbacks: Sequence[Any], data: Dataset, n_steps: int
) -> None:
    """Check that a training is validated at least once if a callback or a schedule relies on it.

    A training that `max_steps` ends within its first epoch is accepted: it may be resumed.
    """
    limits, n_batches = config["trainer"], len(data.train_minibatches())
    limited_batches(limits, len(data.minibatches("validation")), "limit_val_batches")
    interval, n_limited = limits.get("val_check_interval"), limited_batches(limits, n_batches)
    if isinstance(interval, int) and interval > n_limited:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has only "
            f"{counted(n_limited, 'minibatch')}"
        )
    every = limits["check_val_every_n_epoch"]
    n_epochs = n_steps / steps_per_epoch(limits, n_batches)
    waiting = _waiting(callbacks)
    if config["scheduler"]["scheduler"]["_target_"].endswith("ReduceLROnPlateau"):
        waiting.append("scheduler=plateau")
    if waiting and every > 1 and n_epochs < every:
        raise UserError(
            f"trainer.check_val_every_n_epoch={every}: a training of {n_epochs:.4g} "
            f"{plural('epoch', n_epochs)} is never validated, and {', '.join(waiting)} would "
            "wait for it; give "
            f"{max(1, int(n_epochs))} at most, or train longer"
        )


def _check_without_validation(callbacks: Sequence[Any], data: Dataset) -> None:
    """Check that a refit trains on all rows but the test rows, and no callback needs others."""
    if len(data.rows["validation"]):
        raise UserError(
            f"refit=true: {type(data).__name__} divides the rows itself and keeps validation rows "
            "apart; have it look at joins_validation, or use Dataset's own setup"
        )
    if waiting := _waiting(callbacks):
        raise UserError(
            f"callbacks: a refit has no validation rows, and {', '.join(waiting)} would wait for "
            "their metrics; leave that out"
        )


def _waiting(callbacks: Sequence[Any]) -> list[str]:
    """The names of the callbacks that do nothing before the first validation."""
    theirs = if_imported("pytorch_lightning.callbacks.EarlyStopping")
    return [
        type(each).__name__
        for each in callbacks
        if isinstance(each, theirs) or getattr(each, "waits_for_validation", False)
    ]


def _check_monitor(config: dict[str, Any], data: Dataset) -> None:
    """Raise `UserError` for a metric that cannot decide which epoch is best, as `SPLIT/NAME`."""
    task, monitor, mode = data.columns.task, config["monitor"], config["mode"]
    further = make_metrics(config.get("metrics") or [], task, len(data.columns.classes))
    levels = levels_of(make_loss(config, task, len(data.columns.classes)))
    names = ("loss", *names_of_metrics(task, levels), *further)
    logged = [f"{split}/{name}" for split in ("train", "validation") for name in names]
    if levels and COVERAGE in monitor:
        raise UserError(
            f"monitor={monitor}: a coverage is best where it is its level, not as the least or the "
            "most; use monitor=validation/pinball_loss mode=min"
        )
    if monitor not in logged:
        raise UserError(f"monitor={monitor}: no such metric, {did_you_mean(monitor, logged)}")
    is_more = more_is_better(monitor.rpartition("/")[2])
    if is_more is not None and is_more != (mode == "max"):
        raise UserError(f"mode={mode}: of {monitor} {'more' if is_more else 'less'} is better")
    split, _, name = monitor.partition("/")
    target = data.target_values(cast(Split, split))
    if name in NEEDED and not is_defined(name, task, target, len(data.columns.classes)):
        raise UserError(
            f"monitor={monitor}: it is not defined for the {counted(len(target), f'{split} row')}, "
            f"since {NEEDED[name]}; use monitor={split}/loss mode=min"
        )


def check_averaging(callbacks: Sequence[Any]) -> None:
    """Refuse averaged weights that are never validated, where others are kept.

    Args:
        callbacks: of a trainer, epoch callbacks without their adapters.

    Raises:
        UserError: which names the callback that has them validated.
    """
    averaging = if_imported("pytorch_lightning.callbacks.StochasticWeightAveraging")
    if not any(isinstance(each, averaging) for each in callbacks):
        return
    theirs = if_imported("pytorch_lightning.callbacks.Checkpoint")
    if any(isinstance(each, theirs) or getattr(each, "keeps_weights", False) for each in callbacks):
        raise UserError(
            "callbacks: StochasticWeightAveraging puts averaged weights in place after the last "
            "validation, so that others are validated and kept; use "
            "pytorch_lightning.callbacks.WeightAveraging, which has the averaged ones validated"
        )


def check_arguments(network: Any, loss: Any, optimizer: Any, scheduler: Any, interval: str) -> None:
    """Raise `UserError` for a class where an object is needed, or the reverse."""
    if network is None:
        raise UserError("network: is missing, as in load_from_checkpoint(path, network=MLP(4, 3))")
    if not isinstance(network, nn.Module):
        raise UserError(f"network: must be a torch.nn.Module, got {_described(network)}")
    if interval not in ("epoch", "step"):
        raise UserError(f"scheduler_interval: must be 'epoch' or 'step', got {interval!r}")
    called = "an object that is called with outputs and targets, such as torch.nn.MSELoss()"
    maker = "what makes one from the {}, such as functools.partial({})".format
    for name, given, refused, expected in (
        ("loss", loss, type, called),
        ("optimizer", optimizer, Optimizer, maker("parameters", "torch.optim.Adam, lr=0.001")),
        ("scheduler", scheduler, LRScheduler, maker("optimizer", "StepLR, step_size=10")),
    ):
        if isinstance(given, refused) or not (given is None or callable(given)):
            raise UserError(f"{name}: must be {expected}, got {_described(given)}")


def call_factory(name: str, factory: Callable[[Any], Any], argument: Any) -> Any:
    """Call what makes an optimizer or a schedule; `UserError` with its name if that fails."""
    try:
        made = factory(argument)
    except (ValueError, TypeError) as error:
        given = getattr(factory, "keywords", {}) if isinstance(error, TypeError) else {}
        words = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise UserError(f"{name}: {error}{words and f'; given were {words}'}") from error
    if isinstance(made, type) or not hasattr(made, "state_dict"):
        raise UserError(f"{name}: what makes it must return it, got {_described(made)}")
    return made


def _described(value: Any) -> str:
    """A value in a few words.

    >>> _described(nn.Linear), _described(0.1)
    ('the class Linear', 'an object of type float')
    """
    is_class = isinstance(value, type)
    return (
        f"the class {value.__name__}" if is_class else f"an object of type {type(value).__name__}"
    )


def check_trainable(network: nn.Module) -> None:
    """Raise `UserError` if a network has no weight that is trained."""
    weights = list(network.parameters())
    if not any(weight.requires_grad for weight in weights):
        has = f"all {len(weights)} of its parameters are frozen" if weights else "it has none"
        raise UserError(
            f"model: {type(network).__name__} has no weights to train: {has}; "
            "set requires_grad=True for some"
        )
