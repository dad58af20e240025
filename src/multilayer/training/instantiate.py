"""From a config node to the object that its `_target_` names, and what may be named."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pkgutil import resolve_name
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from multilayer.core.config_folder import choices_with
from multilayer.core.errors import UserError, did_you_mean, first_line
from multilayer.data import DataModule
from multilayer.nn.losses import AutoLoss
from multilayer.runs.config import expand_env, map_values

ALLOWED = (
    "multilayer",
    "torch.nn",
    "torch.optim",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "torchmetrics",
)
"""What a config out of a run folder or a checkpoint may name, beside what the user allows."""

SAFE_TO_REBUILD = (nn.Module, DataModule, AutoLoss)
"""All that evaluating and predicting rebuild from such a config."""

TO_GO_ON: dict[str, tuple[type, ...]] = {
    "optimizer": (Optimizer,),
    "scheduler": (LRScheduler, ReduceLROnPlateau),
    "trainer": (pl.Trainer, Profiler),
    "callbacks": (pl.Callback,),
    "logger": (Logger,),
}
"""What going on with the training rebuilds too, by group."""

OF_TRAINER = ("pytorch_lightning.profilers", "pytorch_lightning.trainer")
"""Where the trainer's own come from; the trainer itself is named `pytorch_lightning.Trainer`."""

# How constructors refuse their arguments.
REFUSALS = (ValueError, TypeError, ImportError, MisconfigurationException)

Node = dict[str, Any]
# What Hydra itself reads in a node; not arguments of the target.
HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}


def make(key: str, node: Node, **arguments: Any) -> Any:
    """The object of a node, with further arguments.

    Raises `UserError`, naming `key`, where the target refuses its arguments.
    """
    built = {name: build(f"{key}.{name}", value) for name, value in node.items()}
    positional = built.pop("_args_", [])
    target = resolve(key, node["_target_"])
    for name in HYDRA_KEYS & set(built):
        del built[name]
    try:
        if node.get("_partial_"):
            return partial(target, *positional, **built, **arguments)
        return target(*positional, **built, **arguments)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    except REFUSALS as error:  # torch adds a stack of C++ in many lines
        raise UserError(f"{key}: {first_line(error)}") from error


def build(key: str, node: Any) -> Any:
    """The value of a node: the object that it names, and so on for all that is in it.

    `hydra.utils.instantiate` does this too, but turns plain data into a config of its own and back
    again, which takes more time than a sweep of small networks needs to train.
    """
    if isinstance(node, dict):
        if "_target_" in node:
            return make(key, node)
        return {name: build(f"{key}.{name}", value) for name, value in node.items()}
    if isinstance(node, list):
        return [build(f"{key}[{index}]", value) for index, value in enumerate(node)]
    return expand_env(key, node)


def fill(node: Any, values: Mapping[str, Any]) -> Any:
    """The node with placeholders such as `@n_features` replaced by what they stand for.

    Without the `@`, as earlier versions wrote them, too.

    >>> fill({"in_features": "@n_features", "bias": True}, {"n_features": 64})
    {'in_features': 64, 'bias': True}
    """

    def value_for(_: str, it: Any) -> Any:
        return values.get(it.removeprefix("@"), it) if isinstance(it, str) else it

    return map_values(node, value_for)


def nodes(key: str, node: Any) -> Iterator[tuple[str, Node]]:
    """Every node with a `_target_` in a config, with its key, outermost first."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from nodes(f"{key}.{name}" if key else str(name), value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nodes(f"{key}[{index}]", value)


def resolve(key: str, path: str) -> Any:
    """The class or function at a dotted path.

    Raises `UserError` where there is none.
    """
    try:
        found = resolve_name(path)
    except (ImportError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{key}._target_={path}: {error}") from error
    if not callable(found):
        raise UserError(f"{key}._target_={path}: not a class or function")
    return found


def argument_problems(config: Node) -> list[str]:
    """The arguments in a config that their targets do not take, one line each."""
    problems = []
    for key, node in nodes("", config):
        taken = parameters_of(resolve(key, node["_target_"]))
        if taken is not None:
            known = {*HYDRA_KEYS, *taken}
            refused = [name for name in node if name not in known]
            problems += [refusal(key, name, node["_target_"], taken) for name in refused]
    return problems


def refusal(key: str, name: str, path: str, taken: Sequence[str]) -> str:
    """Says that a target does not take an argument, and who does or what it takes."""
    others = choices_with(key, name)
    hint = f"{', '.join(others)} would" if others else did_you_mean(name, taken)
    return f"{key}.{name}: {path} takes no argument {name}; {hint}"


def parameters_of(target: Callable[..., Any]) -> list[str] | None:
    """The names of the keyword arguments; None where any name is taken.

    A class that hands the rest on, as a data set does, takes what its parents take.
    """
    names: list[str] = []
    for callable_ in init_chain(target):
        parameters = inspect.signature(callable_).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return [name for name in names if name != "self"]
    return None


def init_chain(target: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function itself, or the constructors of a class and its parents in order."""
    if not inspect.isclass(target):
        return [target]
    constructors = [vars(parent).get("__init__") for parent in target.__mro__[:-1]]
    return [constructor for constructor in constructors if constructor is not None]


def check_stranger(config: Node, allowed: Sequence[str]) -> None:
    """Refuse a config from a run folder or checkpoint that names more than it may.

    The object found must also come from an allowed package and be of a kind that is rebuilt:
    `torch.nn` reaches all of torch by its attributes.

    Raises `UserError`.
    """
    for key, node in nodes("", config):
        path, group = str(node["_target_"]), key.partition(".")[0]
        packages = (*ALLOWED, *allowed, *(OF_TRAINER if group == "trainer" else ()))
        if not is_below(path, packages) and (key, path) != ("trainer", "pytorch_lightning.Trainer"):
            raise UserError(
                f"the run's config names {path} for {key}, which is not on the list of what may "
                "be loaded; if you trust the run, add "
                f"trusted_packages=[{path.rpartition('.')[0] or path}]"
            )
        found = resolve(key, path)
        if not is_below(f"{found.__module__}.", packages) or not is_rebuilt(found, group, allowed):
            raise UserError(f"the run's config names {path} for {key}, which may not be loaded")


def is_below(path: str, packages: Sequence[str]) -> bool:
    """Whether a dotted path lies in one of the packages.

    >>> is_below("torch.nn.Linear", ["torch.nn"]), is_below("torch.nnx.Linear", ["torch.nn"])
    (True, False)
    """
    return any(path.startswith(f"{package}.") for package in packages)


def is_rebuilt(found: Any, group: str, allowed: Sequence[str]) -> bool:
    """Whether it is a class that is rebuilt for a group; a schedule may be made by a function."""
    if inspect.isfunction(found):
        makers = ("multilayer.training.schedulers", *allowed)
        return group in ("scheduler", "optimizer") and is_below(f"{found.__module__}.", makers)
    return inspect.isclass(found) and issubclass(found, TO_GO_ON.get(group, SAFE_TO_REBUILD))
