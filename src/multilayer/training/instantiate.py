"""Instantiating the object that a config node's `_target_` names, and which may be named."""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from pkgutil import resolve_name
from traceback import extract_tb
from types import ModuleType
from typing import Any

from torch import nn

from multilayer.core.errors import UserError, first_line
from multilayer.core.text import as_override
from multilayer.data import Dataset
from multilayer.nn.losses import AutoLoss
from multilayer.runs.config import expand_env

_ALLOWED = (
    "multilayer",
    "torch.nn",
    "torch.optim",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "torchmetrics",
)
"""Packages that a run folder's or checkpoint's config may name, besides those the user trusts."""

_REBUILT_TO_PREDICT = (nn.Module, Dataset, AutoLoss)
"""The classes that evaluating and predicting instantiate from such a config."""

_REBUILT_TO_RESUME = {
    "optimizer": ("torch.optim.Optimizer",),
    "scheduler": (
        "torch.optim.lr_scheduler.LRScheduler",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
    ),
    "trainer": ("pytorch_lightning.Trainer", "pytorch_lightning.profilers.Profiler"),
    "callbacks": (
        "pytorch_lightning.Callback",
        "multilayer.training.epoch_callback.EpochCallback",
    ),
    "logger": ("pytorch_lightning.loggers.Logger",),
}
"""The classes that resuming a training instantiates too, by group.

A subclass has imported its parent, so that they need not be imported here.
"""

_TRAINER_PACKAGES = ("pytorch_lightning.profilers", "pytorch_lightning.trainer")
"""Packages of the trainer's arguments; the trainer is named `pytorch_lightning.Trainer`."""

_REFUSALS = (ValueError, TypeError, ImportError)
"""What constructors raise for wrong arguments, and Lightning's own error."""

_LIGHTNINGS_REFUSAL = "lightning_fabric.utilities.exceptions.MisconfigurationException"

Node = dict[str, Any]
HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}
"""Keys of a node that Hydra itself reads; they are not arguments of the target."""


def instantiate(
    key: str, node: Node, values: Mapping[str, Any] | None = None, /, **arguments: Any
) -> Any:
    """Instantiate the object that a node names.

    Args:
        key: the node's dotted key, for messages.
        node: a `_target_` and its arguments, which may contain further nodes.
        values: what placeholders such as `@n_features` stand for, by their names. They are also
            found without the `@`, as earlier versions wrote them.
        arguments: more keyword arguments.

    Returns:
        The object, or with `_partial_` what makes it.

    Raises:
        UserError: The target cannot be found, or refuses its arguments.

    >>> node = {"_target_": "torch.nn.Linear", "in_features": "@n_features", "out_features": 3}
    >>> instantiate("model", node, {"n_features": 64})
    Linear(in_features=64, out_features=3, bias=True)
    """
    built = {name: _build(f"{key}.{name}", each, values or {}) for name, each in node.items()}
    positional = built.pop("_args_", [])
    target = resolve_target(key, node["_target_"])
    for name in HYDRA_KEYS & set(built):
        del built[name]
    try:
        if node.get("_partial_"):
            return partial(target, *positional, **built, **arguments)
        return target(*positional, **built, **arguments)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    except (*_REFUSALS, *if_imported(_LIGHTNINGS_REFUSAL)) as error:
        # torch adds a stack of C++ in many lines.
        hint = _hint_at_lacking(error, values or {})
        raise UserError(f"{_key_of(key, node, error)}: {first_line(error)}{hint}") from error


def _hint_at_lacking(error: Exception, values: Mapping[str, Any]) -> str:
    """Where arguments go that a constructor lacks, and what is filled in there."""
    if not re.search(r"missing \d+ required", str(error)):
        return ""
    names = ", ".join(f'"@{name}"' for name in values)
    where = f", where {names} {'is' if len(values) == 1 else 'are'} filled in" if names else ""
    return f"; give them below its _target_{where}"


def _key_of(key: str, node: Node, error: Exception) -> str:
    """The key that an error of a constructor is about: an argument with an unknown name, or all.

    >>> _key_of("model", {"activation": "rely"}, ValueError("unknown activation 'rely'"))
    'model.activation'
    """
    named = re.match(r"unknown (\w+) ", first_line(error))
    return f"{key}.{named[1]}" if named and named[1] in node else key


def _build(key: str, node: Any, values: Mapping[str, Any]) -> Any:
    """The value of a config, in which every node with a `_target_` is instantiated.

    `hydra.utils.instantiate` would convert plain data to an OmegaConf config and back, which takes
    longer than training a sweep of small networks.
    """
    if isinstance(node, dict):
        if "_target_" in node:
            return instantiate(key, node, values)
        return {name: _build(f"{key}.{name}", each, values) for name, each in node.items()}
    if isinstance(node, list):
        return [_build(f"{key}[{index}]", each, values) for index, each in enumerate(node)]
    if not isinstance(node, str):
        return node
    return expand_env(key, values.get(node.removeprefix("@"), node))


def target_nodes(key: str, node: Any) -> Iterator[tuple[str, Node]]:
    """Every node with a `_target_` in a config, with its dotted key, outermost first."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from target_nodes(f"{key}.{name}" if key else str(name), value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from target_nodes(f"{key}[{index}]", value)


def resolve_target(key: str, path: str) -> Any:
    """The class or function at a dotted path.

    Raises:
        UserError: There is none; the message names `key`.
    """
    try:
        is_known = path.startswith(("multilayer.", "torch."))
        found = _resolve_once(path) if is_known else resolve_name(path)
    except (ImportError, SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{key}._target_={path}: {_reason_of(error)}") from error
    if not callable(found):
        raise UserError(f"{key}._target_={path}: not a class or function")
    return found


_resolve_once = cache(resolve_name)
"""Of packages that nobody writes while a command runs, which the runs of a sweep name again."""


def _reason_of(error: Exception) -> str:
    """Why a name cannot be resolved.

    Where importing a module fails, `pkgutil.resolve_name` says that its package has no such
    attribute: the module is imported once more for the error, which has the line of the file.
    """
    if not (isinstance(error, AttributeError) and isinstance(error.obj, ModuleType)):
        return str(error)
    name = f"{error.obj.__name__}.{error.name}"
    try:
        import_module(name)
    except ImportError as hidden:
        frames = [each for each in extract_tb(hidden.__traceback__) if "<" not in each.filename]
        if hidden.name != name:
            return f"{hidden} ({frames[-1].filename}, line {frames[-1].lineno})"
    return str(error)


def check_trusted_targets(config: Node, allowed: Sequence[str]) -> None:
    """Check that the config of a run folder or checkpoint names only what may be instantiated.

    The object itself must also be defined in a trusted package and be of an expected class:
    attributes of `torch.nn` lead to all of torch.

    Args:
        config: the run's config, or some groups of it.
        allowed: further packages that the user trusts.

    Raises:
        UserError: It names something else.
    """
    for key, node in target_nodes("", config):
        path, group = str(node["_target_"]), key.partition(".")[0]
        packages = (*_ALLOWED, *allowed, *(_TRAINER_PACKAGES if group == "trainer" else ()))
        if not _is_within(path, packages) and (key, path) != (
            "trainer",
            "pytorch_lightning.Trainer",
        ):
            trusted = as_override("trusted_packages", [path.rpartition(".")[0] or path])
            raise UserError(
                f"the run's config names {path} for {key}, which is not on the list of what may "
                f"be loaded; if you trust the run, add {trusted}"
            )
        found = resolve_target(key, path)
        if not _is_within(f"{found.__module__}.", packages) or not _is_rebuilt(
            found, group, allowed
        ):
            raise UserError(f"the run's config names {path} for {key}, which may not be loaded")


def untrusted_packages(config: Node) -> list[str]:
    """The packages that a run's config names and a user has to trust to load it."""
    paths = (str(node["_target_"]) for key, node in target_nodes("", config) if key != "trainer")
    return sorted({path.rpartition(".")[0] for path in paths if not _is_within(path, _ALLOWED)})


def _is_within(path: str, packages: Sequence[str]) -> bool:
    """Whether a dotted path is inside one of the packages.

    >>> _is_within("torch.nn.Linear", ["torch.nn"]), _is_within("torch.nnx.Linear", ["torch.nn"])
    (True, False)
    """
    return any(path.startswith(f"{package}.") for package in packages)


def _is_rebuilt(found: Any, group: str, allowed: Sequence[str]) -> bool:
    """Whether a group may instantiate it; a schedule or an optimizer may come from a function."""
    if inspect.isfunction(found):
        makers = ("multilayer.training.schedulers", *allowed)
        return group in ("scheduler", "optimizer") and _is_within(f"{found.__module__}.", makers)
    paths = _REBUILT_TO_RESUME.get(group)
    parents = _REBUILT_TO_PREDICT if paths is None else if_imported(*paths)
    return inspect.isclass(found) and issubclass(found, parents)


def if_imported(*paths: str) -> tuple[Any, ...]:
    """The classes at dotted paths whose modules are imported: nothing is of the others.

    >>> isinstance("text", if_imported("builtins.str", "no_such_module.Class"))
    True
    """
    parts = (path.rpartition(".") for path in paths)
    found = (getattr(sys.modules.get(module), name, None) for module, _, name in parts)
    return tuple(each for each in found if each is not None)
