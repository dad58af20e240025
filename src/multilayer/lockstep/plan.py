"""Which jobs of a sweep train together, and which alone and why."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from multilayer.callbacks import LearningRate
from multilayer.composing.job_configs import Job
from multilayer.core.device import choose_device, free_memory
from multilayer.core.errors import raise_all
from multilayer.core.text import counted, name_jobs
from multilayer.data import Dataset
from multilayer.data.dataset import overridden_loader
from multilayer.runs.config import Config
from multilayer.runs.folder import as_begun
from multilayer.stacking.optimizers import arguments_that_vary, has_stacked_form
from multilayer.training.arguments import argument_problems
from multilayer.training.components import check_components, count_weights, make_data
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.instantiate import resolve_target
from multilayer.training.loss import n_outputs_for
from multilayer.training.trackers import shares_active_run

# Except for these, all of a config must be the same for jobs to stack. Each member has its own
# callbacks, loggers, schedule and order of the rows, and these numbers enter elementwise. So do
# those of the optimizer that its stacked form names.
_PER_MEMBER_GROUPS = ("seed", "callbacks", "logger", "monitor", "mode")
_PER_MEMBER_KEYS = {
    "data": ("shuffle_seed",),
    "model": ("dropout",),
    "loss": ("label_smoothing",),
    "trainer": ("max_epochs", "min_epochs"),
}

_REQUIRED_TRAINER = {
    "devices": (1,),
    "strategy": ("auto",),
    "precision": ("32-true", "32", 32, "bf16-mixed", "64-true"),
    "max_steps": (-1,),
    "max_time": (None,),
    "accumulate_grad_batches": (1,),
    "limit_val_batches": (1.0,),
    "check_val_every_n_epoch": (1,),
    "profiler": (None,),
    "detect_anomaly": (False,),
    "deterministic": (None, False),
}
"""What a job's trainer must say for it to stack: a stack has one loop for all."""

_ALLOWED_TRAINER_KEYS = {
    "_target_",
    "accelerator",
    "max_epochs",
    "min_epochs",
    "gradient_clip_val",
    "limit_train_batches",
    "log_every_n_steps",
    "num_sanity_val_steps",
}
"""Keys of the trainer that may have any value."""

_PRINTING = ("multilayer.callbacks.TrainingProgress", "multilayer.callbacks.NetworkSummary")
"""Our callbacks that only print; their classes are Lightning's."""

TENSORBOARD = "multilayer.training.TensorBoard"
"""The logger whose files a stack writes itself: its class is Lightning's."""

_SHARE_OF_MEMORY = 0.5
"""Of the memory that is free, how much the members of a stack may take."""


@dataclass(frozen=True)
class StackPlan:
    """Jobs that train together.

    Attributes:
        jobs: in the order in which they begin.
        data: what they share, read.
        n_slots: how many train at a time; the next one begins when one ends.
    """

    jobs: list[Job]
    data: Dataset
    n_slots: int


@dataclass(frozen=True)
class Plan:
    """What becomes of each job of a sweep.

    Attributes:
        stacks: those that train together.
        sequential: those that do not stack, each with the reason.
        invalid: those that cannot be trained, each with the error.
    """

    stacks: list[StackPlan]
    sequential: list[tuple[Job, str]]
    invalid: list[tuple[Job, Exception]]

    def describe(self) -> str:
        """A few lines for the user.

        >>> Plan([], [], []).describe()
        'lockstep: nothing stacks'
        """
        words = describe_stacks([len(each.jobs) for each in self.stacks])
        if any(each.n_slots < len(each.jobs) for each in self.stacks):
            words += f", {max(each.n_slots for each in self.stacks)} at a time"
        return "\n".join([f"lockstep: {words}", *self.reasons().splitlines()])

    def reasons(self) -> str:
        """A line for each reason why jobs train alone."""
        lines = []
        for reason in dict.fromkeys(reason for _, reason in self.sequential):
            numbers = [job.number for job, other in self.sequential if other == reason]
            lines.append(f"lockstep: {name_jobs(numbers)} alone: {reason}")
        return "\n".join(lines)


def make_plan(
    jobs: Sequence[Job], max_members: int | None = None, *, n_sharing: int = 1, stack: bool = True
) -> Plan:
    """Group the jobs by what stacks.

    Args:
        jobs: in the order in which they are to begin.
        max_members: bounds a stack; None for what fits into the memory of the device.
        n_sharing: the workers that train these jobs, each of which takes its part at first.
        stack: whether jobs are to stack at all.
    """
    plan = Plan([], [], [])
    groups: dict[str, list[Job]] = {}
    checked: set[str] = set()
    for job in jobs:
        config = as_begun(job.config, job.folder)
        try:
            reason = job.alone or (
                why_not_stackable(config) if stack else "hydra.launcher.stack=false"
            )
            if not reason:
                key = _stack_key(config)
                _check(config, key, checked)
        except Exception as error:  # a module of the user's own may raise anything
            plan.invalid.append((job, error))
            continue
        if reason:
            plan.sequential.append((job, reason))
        else:
            groups.setdefault(key, []).append(job)
    read: dict[str, Dataset] = {}
    for group in groups.values():
        try:
            data = _read_once(group[0].config, read)
            fit = _members_that_fit(group[0].config, data) if max_members is None else max_members
        except Exception as error:
            plan.invalid.extend((job, error) for job in group)
            continue
        plan.stacks.append(StackPlan(group, data, min(fit, ceil(len(group) / n_sharing))))
    return plan


def _check(config: Config, key: str, checked: set[str]) -> None:
    """Check the components of a job; all of them for the first of those that differ in numbers.

    The others' are checked when they are built. What was checked is noted by the key of the stack.
    """
    key += config["scheduler"]["scheduler"]["_target_"]
    if key in checked:
        raise_all(argument_problems(config))
    else:
        check_components(config)
        checked.add(key)


def _read_once(config: Config, read: dict[str, Dataset]) -> Dataset:
    """The data of a config, which groups share that differ in something else.

    read: what was read before, by its node.
    """
    node = json.dumps({**config["data"], "shuffle_seed": None}, sort_keys=True)
    if node not in read:
        data = make_data(config)
        data.setup()
        read[node] = data
    return read[node]


def _stack_key(config: Config) -> str:
    """All of a config that members of one stack share, as text."""
    shared = {key: value for key, value in config.items() if key not in _PER_MEMBER_GROUPS}
    optimizer = resolve_target("optimizer", config["optimizer"]["_target_"])
    for key, names in (_PER_MEMBER_KEYS | {"optimizer": arguments_that_vary(optimizer)}).items():
        shared[key] = config[key] | {name: None for name in names if name in config[key]}
    shared["scheduler"] = config["scheduler"]["interval"]
    shared["trainer"]["gradient_clip_val"] = bool(config["trainer"]["gradient_clip_val"])
    return json.dumps(shared, sort_keys=True)


def why_not_stackable(config: Config) -> str | None:
    """Why a job cannot be in a stack; None where it can.

    Raises `UserError` where the config names what is not there.
    """
    if config["resume"] is not None:  # first: the names in a checkpoint may be a stranger's
        return "it goes on from a checkpoint (resume)"
    if module := config.get("module"):
        return f"module {module['_target_']} may train in its own way"
    optimizer = config["optimizer"]["_target_"]
    if not has_stacked_form(resolve_target("optimizer", optimizer)):
        return f"optimizer {optimizer} has no stacked form"
    changed = overridden_loader(resolve_target("data", config["data"]["_target_"]))
    if changed:
        return f"data {config['data']['_target_']} has a {changed} of its own"
    if config["data"].get("stream"):
        return "data.stream=true"
    trainer = config["trainer"]
    for key, value in trainer.items():
        if key not in _ALLOWED_TRAINER_KEYS and value not in _REQUIRED_TRAINER.get(key, (None,)):
            return f"trainer.{key}={value}"
    callbacks = (_callback_reason(*each) for each in config["callbacks"].items())
    loggers = (_logger_reason(*each) for each in config["logger"].items())
    return next(filter(None, (*callbacks, *loggers)), None)


def _logger_reason(name: str, node: Config | None) -> str | None:
    """Why a logger keeps its job from stacking; None if it does not."""
    target = (node or {}).get("_target_")
    if node is None or target in (None, TENSORBOARD):  # without importing Lightning
        return None
    is_shared = shares_active_run(resolve_target(f"logger.{name}", target), node)
    return f"logger.{name} has one active run a process ({target})" if is_shared else None


def _callback_reason(name: str, node: Config | None) -> str | None:
    """Why a callback keeps its job from stacking; None if it does not."""
    if node is None or "_target_" not in node or is_shown_for_all(name, node):
        return None
    key, target = f"callbacks.{name}", node["_target_"]
    kind = resolve_target(key, target)
    if not isinstance(kind, type):
        return None  # which is refused when it is built
    if kind is LearningRate:
        by_step = node.get("logging_interval") == "step"
        return f"{key} logs every step" if by_step else None
    if not issubclass(kind, EpochCallback):
        is_one = any(each.__name__ == "Callback" for each in kind.__mro__)
        return f"{key} is a callback of Lightning's ({target})" if is_one else None
    acts = kind.within_epochs == "always"
    return f"{key} has a hook in each step (within_epoch)" if acts else None


def is_shown_for_all(name: str, node: Config) -> bool:
    """Whether a callback only prints: a stack has one progress bar for all."""
    target = node.get("_target_")
    if target is None or target in _PRINTING:  # without importing Lightning
        return target is not None
    kinds = getattr(resolve_target(f"callbacks.{name}", target), "__mro__", ())
    return not {"ProgressBar", "ModelSummary"}.isdisjoint(kind.__name__ for kind in kinds)


def _members_that_fit(config: Config, data: Dataset) -> int:
    """How many members the memory of the device takes, by a share of what is free."""
    columns = data.columns
    n_weights = count_weights(config, columns, data.preprocessing)
    n_rows = sum(data.count_rows().values())
    # Weights, gradients, the best weights and at most three numbers of the optimizer's for each;
    # the outputs of an epoch, and the order of its rows.
    numbers = 6 * n_weights + n_rows * (n_outputs_for(config, columns) + 4)
    free = free_memory(choose_device(config["trainer"]["accelerator"]))
    size = 8 if config["trainer"]["precision"] == "64-true" else 4
    return max(1, int(_SHARE_OF_MEMORY * free / (size * numbers)))


def describe_stacks(sizes: Sequence[int]) -> str:
    """How many stacks of how many runs.

    >>> describe_stacks([64]), describe_stacks([3, 3, 2]), describe_stacks([1, 1])
    ('1 stack of 64 runs', '3 stacks of 3, 3, 2 runs', '2 stacks of 1 run each')
    """
    if not sizes:
        return "nothing stacks"
    n, is_even = len(sizes), len(set(sizes)) == 1
    each = str(sizes[0]) if is_even else ", ".join(map(str, sizes))
    runs = "run" if is_even and sizes[0] == 1 else "runs"
    return f"{counted(n, 'stack')} of {each} {runs}{' each' * (is_even and n > 1)}"
