"""Names that configs of earlier versions use: they still load from run folders and checkpoints.

On the command line an old key is refused by a message that names the new one.
"""

from typing import Any

_TARGETS = {
    "multilayer.BinaryCrossEntropy": "multilayer.nn.BinaryCrossEntropy",
    "multilayer.CrossEntropy": "multilayer.nn.CrossEntropy",
    "multilayer.MLP": "multilayer.nn.MLP",
    "multilayer.PLRMLP": "multilayer.nn.PLRMLP",
    "multilayer.Perceptron": "multilayer.nn.Perceptron",
    **{
        f"multilayer.{where}{name}Data": f"multilayer.data.{name}Dataset"
        for where in ("", "data.")
        for name in ("Builtin", "Idx", "PassClass", "Table")
    },
    "multilayer.callbacks.LearningRateSweep": "multilayer.lr_sweep.LearningRateSweep",
    "multilayer.callbacks.TurningPoint": "multilayer.callbacks.BestEpochMarker",
}
"""Single classes and functions that have moved."""

_MODULES = {
    "multilayer.activations": "multilayer.nn",
    "multilayer.embeddings": "multilayer.nn",
    "multilayer.loggers": "multilayer.training",
    "multilayer.losses": "multilayer.nn",
    "multilayer.mlp": "multilayer.nn",
    "multilayer.schedulers": "multilayer.training",
    "multilayer.sweeps.summary": "multilayer.reports",
}
"""Modules that have moved with everything that a config may name in them."""

_KEYS = {
    "allow": "trusted_packages",
    "data.most_labels": "data.max_categories",
    "data.numbers": "data.numeric_scaling",
    "data.rare_below": "data.min_frequency",
    "data.train_rows": "data.max_train_rows",
    "keep": "keep_input_columns",
    "sweep": "hparams_search",
    "threads": "num_threads",
}
"""Config keys that are renamed whatever the class of the node they are in."""

_ARGUMENTS = {
    "callbacks.lr_sweep.mode": "callbacks.lr_sweep.method",
    "callbacks.lr_sweep.most_steps": "callbacks.lr_sweep.max_steps",
    "callbacks.lr_sweep.share": "callbacks.lr_sweep.fraction",
    "callbacks.lr_sweep.threads": "callbacks.lr_sweep.num_threads",
    "data.categorical": "data.categorical_columns",
    "data.categories": "data.categorical_encoding",
    "data.drop": "data.drop_columns",
    "data.group": "data.group_column",
    "scheduler.final": "scheduler.scheduler.final_fraction",
    "scheduler.warmup": "scheduler.scheduler.warmup_fraction",
}
"""Config keys that are renamed where their node is of a class of ours: a user's own class may have
an argument of the same name."""

_PLACEHOLDERS = (
    "checkpoint_folder",
    "figure_folder",
    "n_epochs",
    "n_features",
    "n_numbers",
    "n_outputs",
    "n_steps",
    "run_folder",
)
"""Values that are filled in when objects are built, and are written with an `@` today."""

_SCHEDULER_KEYS = ("", "scheduler", "interval", "frequency", "monitor", "name", "strict")
"""What stands next to the class in Lightning's shape of a scheduler's node, and "" for the node."""

_WITH_PLACEHOLDERS = ("callbacks", "logger", "model", "scheduler", "trainer")


def with_current_names(config: Any, key: str = "", *, rename_keys: bool = True) -> Any:
    """A config, or some of its top-level keys, as this version would have written it.

    >>> with_current_names({"threads": 2, "loss": {"_target_": "multilayer.losses.CrossEntropy"}})
    {'num_threads': 2, 'loss': {'_target_': 'multilayer.nn.CrossEntropy'}}
    >>> with_current_names({"scheduler": {"interval": "step", "_target_": "a.b", "n": "n_steps"}})
    {'scheduler': {'interval': 'step', 'scheduler': {'_target_': 'a.b', 'n': '@n_steps'}}}

    Args:
        config: plain data.
        key: the dotted key of it, if it is a part.
        rename_keys: whether keys are renamed too, or only classes and placeholders.
    """
    config = _renamed(key, config, rename_keys=rename_keys)
    schedule = config.get("scheduler") if rename_keys and isinstance(config, dict) else None
    if isinstance(schedule, dict) and "_target_" in schedule:  # which is one level deeper today
        interval = {"interval": schedule.pop("interval")} if "interval" in schedule else {}
        config["scheduler"] = {**interval, "scheduler": schedule}
    return config


def _renamed(key: str, node: Any, *, rename_keys: bool) -> Any:
    """The node at a dotted key."""
    if isinstance(node, list):
        return [_renamed(key, each, rename_keys=rename_keys) for each in node]
    if isinstance(node, dict):
        is_ours = str(node.get("_target_")).startswith("multilayer.")
        names = (_KEYS | _ARGUMENTS if is_ours else _KEYS) if rename_keys else {}
        current = {}
        for name, value in node.items():
            path = f"{key}.{name}" if key else str(name)
            new = names[path].rpartition(".")[2] if path in names else name
            current[new] = _renamed(path, value, rename_keys=rename_keys)
        return current
    if not isinstance(node, str):
        return node
    if key.endswith("_target_"):
        module, _, name = node.rpartition(".")
        return f"{_MODULES[module]}.{name}" if module in _MODULES else _TARGETS.get(node, node)
    is_filled_in = node in _PLACEHOLDERS and key.partition(".")[0] in _WITH_PLACEHOLDERS
    return f"@{node}" if is_filled_in else node


def current_key(key: str) -> str:
    """The dotted key of today for one of any version.

    >>> current_key("scheduler.warmup"), current_key("scheduler.gamma"), current_key("seed")
    ('scheduler.scheduler.warmup_fraction', 'scheduler.scheduler.gamma', 'seed')
    """
    group, _, name = key.partition(".")
    is_flat = group == "scheduler" and name.partition(".")[0] not in _SCHEDULER_KEYS
    return (_KEYS | _ARGUMENTS).get(key, f"scheduler.{key}" if is_flat else key)
