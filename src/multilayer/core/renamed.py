"""Renamed classes: `_target_`s in run folders and checkpoints of earlier versions still load."""

from typing import Any

_TARGETS = {"multilayer.callbacks.LearningRateSweep": "multilayer.lr_sweep.LearningRateSweep"}
"""Classes and functions that moved, by their old path."""

_MODULES = {
    "multilayer.activations": "multilayer.nn",
    "multilayer.embeddings": "multilayer.nn",
    "multilayer.loggers": "multilayer.training",
    "multilayer.losses": "multilayer.nn",
    "multilayer.mlp": "multilayer.nn",
    "multilayer.schedulers": "multilayer.training",
    "multilayer.sweeps.summary": "multilayer.reports",
}
"""Modules that moved, with everything in them that a config may name."""


def rename_targets(node: Any) -> Any:
    """The config with the current path in each `_target_`.

    >>> rename_targets({"loss": {"_target_": "multilayer.losses.CrossEntropy"}})
    {'loss': {'_target_': 'multilayer.nn.CrossEntropy'}}
    """
    if isinstance(node, list):
        return [rename_targets(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _current_target(value) if key == "_target_" else rename_targets(value)
        for key, value in node.items()
    }


def _current_target(target: Any) -> Any:
    """The current path of a class or function."""
    if not isinstance(target, str):
        return target
    module, _, name = target.rpartition(".")
    return f"{_MODULES[module]}.{name}" if module in _MODULES else _TARGETS.get(target, target)
