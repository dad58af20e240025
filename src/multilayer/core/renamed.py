"""What run folders and checkpoints of earlier versions call by another name than today."""

from typing import Any

TARGETS = {"multilayer.callbacks.LearningRateSweep": "multilayer.lr_sweep.LearningRateSweep"}
"""Classes and functions that have moved by themselves."""

MODULES = {
    "multilayer.activations": "multilayer.nn",
    "multilayer.embeddings": "multilayer.nn",
    "multilayer.loggers": "multilayer.training",
    "multilayer.losses": "multilayer.nn",
    "multilayer.mlp": "multilayer.nn",
    "multilayer.schedulers": "multilayer.training",
    "multilayer.sweeps.summary": "multilayer.reports",
}
"""Modules that have moved with all that a config may name of them."""


def with_new_names(node: Any) -> Any:
    """Plain data out of a config with each `_target_` as it is called today.

    >>> with_new_names({"loss": {"_target_": "multilayer.losses.CrossEntropy"}})
    {'loss': {'_target_': 'multilayer.nn.CrossEntropy'}}
    """
    if isinstance(node, list):
        return [with_new_names(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: new_target(value) if key == "_target_" else with_new_names(value)
        for key, value in node.items()
    }


def new_target(target: Any) -> Any:
    """The path of a class or function today."""
    if not isinstance(target, str):
        return target
    module, _, name = target.rpartition(".")
    return f"{MODULES[module]}.{name}" if module in MODULES else TARGETS.get(target, target)
