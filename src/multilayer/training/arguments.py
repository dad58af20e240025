"""Whether what a config names accepts its arguments.

Those of Lightning's classes are recorded here, to check a config without importing it;
`test_recorded_arguments_are_those_of_the_real_ones` compares them with the signatures.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from multilayer.core.config_folder import choices_with
from multilayer.core.errors import did_you_mean
from multilayer.core.renamed import current_key
from multilayer.training.instantiate import HYDRA_KEYS, Node, resolve_target, target_nodes

_TRAINER = """
accelerator strategy devices num_nodes precision logger callbacks fast_dev_run max_epochs min_epochs
max_steps min_steps max_time limit_train_batches limit_val_batches limit_test_batches
limit_predict_batches overfit_batches val_check_interval check_val_every_n_epoch
num_sanity_val_steps log_every_n_steps enable_checkpointing enable_progress_bar enable_model_summary
accumulate_grad_batches gradient_clip_val gradient_clip_algorithm deterministic benchmark
inference_mode use_distributed_sampler profiler detect_anomaly barebones plugins sync_batchnorm
reload_dataloaders_every_n_epochs default_root_dir enable_autolog_hparams model_registry
"""

_MLFLOW_LOGGER = """
experiment_name run_name tracking_uri tags save_dir log_model prefix artifact_location run_id
synchronous
"""

_RECORDED: dict[str, list[str] | None] = {
    "multilayer.callbacks.NetworkSummary": None,
    "multilayer.callbacks.TrainingProgress": [],
    "multilayer.training.TensorBoard": ["save_dir"],
    "pytorch_lightning.Trainer": _TRAINER.split(),
    "pytorch_lightning.loggers.CSVLogger": [
        "save_dir",
        "name",
        "version",
        "prefix",
        "flush_logs_every_n_steps",
    ],
    "pytorch_lightning.loggers.MLFlowLogger": _MLFLOW_LOGGER.split(),
    "pytorch_lightning.loggers.WandbLogger": None,
    "pytorch_lightning.profilers.SimpleProfiler": ["dirpath", "filename", "extended"],
}
"""The names of the keyword arguments by the path of a class; None if it accepts any name."""


def argument_problems(config: Node) -> list[str]:
    """One line for each argument in a config that its target does not accept."""
    problems = []
    for key, node in target_nodes("", config):
        if _is_recorded(node["_target_"], set(node) - HYDRA_KEYS):
            continue  # without importing Lightning
        taken = _parameters_of(resolve_target(key, node["_target_"]))
        if taken is not None:
            known = {*HYDRA_KEYS, *taken}
            refused = [name for name in node if name not in known]
            problems += [_refusal(key, name, node["_target_"], taken) for name in refused]
    return problems


def _is_recorded(path: str, names: set[str]) -> bool:
    """Whether a class is recorded to accept arguments of these names.

    One that is not recorded to may accept them all the same, in a later version of Lightning.

    >>> _is_recorded("pytorch_lightning.Trainer", {"max_epochs"})
    True
    >>> _is_recorded("mine.Trainer", set())
    False
    """
    if path not in _RECORDED:
        return False
    known = _RECORDED[path]
    return known is None or names <= set(known)


def _refusal(key: str, name: str, path: str, taken: Sequence[str]) -> str:
    """The message for an argument that a target does not accept, with the nearest that fits."""
    others = choices_with(key, name)
    hint = f"{', '.join(others)} would" if others else did_you_mean(name, taken)
    now = current_key(f"{key}.{name}")
    hint = f"renamed to {now}" if now != f"{key}.{name}" else hint
    return f"{key}.{name}: {path} takes no argument {name}; {hint}"


@cache
def _parameters_of(target: Callable[..., Any]) -> list[str] | None:
    """The names of a target's keyword arguments; None if it accepts any name.

    A class that passes `**kwargs` on, as a data set does, accepts its parents' arguments too.
    """
    names: list[str] = []
    for callable_ in _init_chain(target):
        parameters = inspect.signature(callable_).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return [name for name in names if name != "self"]
    return None


def _init_chain(target: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function itself, or the constructors of a class and its parents in order."""
    if not inspect.isclass(target):
        return [target]
    constructors = [vars(parent).get("__init__") for parent in target.__mro__[:-1]]
    return [constructor for constructor in constructors if constructor is not None]
