"""When a stack's step is compiled and when that is used, by counts of its steps.

Neither a clock nor what was compiled before decides it: compiling changes the last digits.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import TYPE_CHECKING

from multilayer.core.device import choose_device
from multilayer.lockstep.plan import StackPlan
from multilayer.lockstep.rows import TrainingRows, training_rows
from multilayer.lockstep.schedule import Schedule
from multilayer.runs.config import Config
from multilayer.runs.folder import as_begun
from multilayer.stacking.block import Block, make_block
from multilayer.stacking.compat import freeze_unused_parameters
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import group_of, stack_optimizer
from multilayer.stacking.runner import Builds, StepRunner
from multilayer.stacking.step import Step
from multilayer.training.components import make_task_model, optimizer_class
from multilayer.training.instantiate import target_nodes
from multilayer.training.runtime import autocast_of
from multilayer.training.steps import epochs_to_train

if TYPE_CHECKING:
    from multilayer.lockstep.stack import Stack

_LEFT_OUT_IF_ZERO = (
    ("model", "dropout"),
    ("loss", "label_smoothing"),
    ("optimizer", "weight_decay"),
    ("optimizer", "momentum"),
)
"""What a step has no operation for where it is 0 for all members."""


@contextmanager
def compiling_ahead(plan: StackPlan) -> Iterator[Builds]:
    """Begin to compile the step of a stack that is planned, while its members are built.

    It is the step of a member like the first job's. If the stack's turns out to be another one,
    this is not used. At the end of the block, whatever is compiled in vain ends.

    Yields:
        What is being compiled, for the stack's `StepRunner` to take.
    """
    builds: Builds = {}
    try:
        if len(plan.jobs) > 1 and _is_ours(plan.jobs[0].config):
            with suppress(Exception):  # what is wrong is said when the members are built
                _begin(plan, builds)
        yield builds
    finally:
        for build in builds.values():
            build.close()


def _is_ours(config: Config) -> bool:
    """Whether a step may be compiled, and is of a network that is not the user's own.

    What such a network does while it is built, or called, is to happen to a job that has begun.
    """
    nodes = [node for key in ("model", "loss") for _, node in target_nodes(key, config[key])]
    is_known = all(node["_target_"].startswith(("multilayer.", "torch.")) for node in nodes)
    return is_known and config["compile"] is not False


def _begin(plan: StackPlan, builds: Builds) -> None:
    """Begin to compile the step of a block of members like those of the first jobs."""
    jobs = plan.jobs[: plan.n_slots]
    config = _config_like_all([as_begun(job.config, job.folder) for job in jobs])
    trainer = config["trainer"]
    device = choose_device(trainer["accelerator"])
    if device.type != "cpu":
        return
    task_model = make_task_model(config, plan.data)
    freeze_unused_parameters([task_model], plan.data)
    optimizer = Schedule(config, n_steps=1).optimizer
    group = group_of(optimizer)
    model = StackedModel([task_model])
    stacked = stack_optimizer(optimizer_class(optimizer), [group])
    step = Step(model, stacked, clips=bool(trainer["gradient_clip_val"]))
    runner = StepRunner(
        step, choice=config["compile"], threads=config["num_threads"], device=device, say=_nothing
    )
    size = runner.block_size(len(jobs))
    block = make_block(model, [task_model] * size, [0] * size, stacked, [group] * size)
    n_epochs = [epochs_to_train(job.config) for job in plan.jobs]
    try:
        with autocast_of(str(trainer["precision"]), device):
            _prepare(
                runner,
                block,
                training_rows(plan.data, trainer, device, task_model.dtype),
                n_epochs=max(n_epochs),
                n_epochs_left=max(n_epochs),
                n_epochs_waiting=sum(n_epochs[len(jobs) :]),
                n_blocks=ceil(len(jobs) / size),
            )
    finally:
        builds |= {build.path: build for _, build in runner.pending.values()}


def _nothing(words: str) -> None:
    """Say nothing: the stack's own runner will."""


def _config_like_all(configs: list[Config]) -> Config:
    """The first config, with what a step leaves out if it is 0 for all as large as any has it."""
    config = configs[0]
    for key, name in _LEFT_OUT_IF_ZERO:
        if name in config[key]:
            largest = max(each[key][name] for each in configs)
            config = config | {key: config[key] | {name: largest}}
    return config


def compile_in_time(stack: "Stack", first: int) -> None:
    """Compile the steps of a stack if that pays, and use those that are due; see `StepRunner`.

    Members that go on from checkpoints use them from the same step on as those before.

    Args:
        stack: before some minibatches of an epoch.
        first: the number of the first of them.
    """
    members, runner = stack.members(), stack.runner
    with autocast_of(stack.precision, stack.device):
        _prepare(
            runner,
            stack.blocks()[0].block,
            stack.rows,
            n_epochs=max(each.max_epochs for each in members),
            n_epochs_left=max(each.max_epochs - each.epoch for each in members),
            n_epochs_waiting=stack.n_epochs_waiting,
            n_blocks=len(stack.slots),
            first=stack.reshaped_at,
        )
    runner.close_ahead()
    runner.use_compiled(n_steps_done(stack) + first)


def n_steps_done(stack: "Stack") -> int:
    """The steps in the whole epochs of the member that has come furthest."""
    return max(each.epoch for each in stack.members()) * stack.n_batches


def _prepare(
    runner: StepRunner,
    block: Block,
    rows: TrainingRows,
    *,
    n_epochs: int,
    n_epochs_left: int,
    n_epochs_waiting: int,
    n_blocks: int,
    first: int = 0,
) -> None:
    """Begin to compile a block's steps, of minibatches of each shape, if the work ahead pays.

    Args:
        runner: of the stack.
        block: one of the stack's.
        rows: of an epoch.
        n_epochs: those of the longest training that is planned.
        n_epochs_left: those that are left of the longest.
        n_epochs_waiting: those of jobs that will take the slots of members that leave, in all.
        n_blocks: how many blocks the stack has.
        first: the step at which blocks got their size.
    """
    n_planned = n_epochs * rows.n_batches
    for n_rows, n_an_epoch in rows.shapes().items():
        n_left = n_an_epoch * (n_epochs_left * n_blocks + n_epochs_waiting // len(block))
        n_before = runner.n_not_compiled(block, n_rows, n_planned, n_blocks)
        runner.prepare(block, rows.features, rows.target, n_rows, n_left, first + n_before)
