"""Stacks that are ready to be trained, and how fast they are: training alone, without validation.

The work: digits (1257 rows), 64-128-64-10 relu, minibatches of 64, Adam.
"""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from measuring import config_of, seconds_of
from peers import synchronize
from sweeps import WORK
from torch import Tensor, nn

from multilayer import MLP
from multilayer.composing.job_configs import Job
from multilayer.core.device import choose_device
from multilayer.data import Dataset
from multilayer.lockstep.compilation import compile_in_time
from multilayer.lockstep.member import build_member
from multilayer.lockstep.stack import Stack
from multilayer.lockstep.writer import Writer
from multilayer.training.components import make_data
from multilayer.training.runtime import ready_memory

BARE = ("logger=none", "callbacks=none", "trainer.max_epochs=100000")
"""A stack that does nothing but train."""


def read_data() -> Dataset:
    """The digits."""
    data = make_data(config_of(*WORK))
    data.setup()
    return data


def make_parts() -> tuple[Any, ...]:
    """A new network, the loss, and what makes the optimizer, for those that are compared."""
    return MLP(64, 10, d_hidden=[128, 64]), nn.CrossEntropyLoss(), torch.optim.Adam


_AT_START: dict[Stack, list[Tensor]] = {}
"""What the members of a stack had when its rate was measured first."""


def _tensors(stack: Stack) -> list[Tensor]:
    """All tensors of a stack's members."""
    return [tensor for slots in stack.slots for tensor in slots.block.tensors()]


def make_stack(
    data: Dataset,
    n_members: int,
    *overrides: str,
    compile_mode: bool = True,
    bare: tuple[str, ...] = BARE,
) -> Stack:
    """A stack that is ready to be trained; each member has its own seed, and order of the rows."""
    config = config_of(*WORK, *bare, *overrides)
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    members = []
    for k in range(n_members):
        own = config | {"seed": k, "data": config["data"] | {"shuffle_seed": k}}
        members.append(build_member(Job(k, own, folder / str(k), ()), data))
    return Stack(members, Writer(), compile_mode=compile_mode, threads="auto")


def train_epoch(stack: Stack) -> None:
    """All minibatches once, without validation; if it is compiled, then from the first step on."""
    stack.begin_epoch()
    compile_in_time(stack, 0)
    stack.runner.use_compiled(sys.maxsize)
    stack.train_epoch()
    for member in stack.members():
        member.epoch += 1
    synchronize(stack.device)


def rate_of(stack: Stack, seconds: float) -> float:
    """Member-steps per second of whole epochs of training alone, from the first weights on.

    After thousands of epochs on the same rows gradients are so small that processors take several
    times as long with them; the peers begin anew each time, too.
    """
    if stack not in _AT_START:
        _AT_START[stack] = [each.clone() for each in _tensors(stack)]
    for tensor, first in zip(_tensors(stack), _AT_START[stack], strict=True):
        tensor.copy_(first)
    start, n_epochs = perf_counter(), 0
    while perf_counter() - start < seconds:
        train_epoch(stack)
        n_epochs += 1
    return n_epochs * stack.n_batches * len(stack.members()) / (perf_counter() - start)


def epoch_seconds(stack: Stack) -> tuple[float, float]:
    """How long an epoch's steps take, and all beside them: validation, callbacks and so on."""
    begin = seconds_of(stack.begin_epoch)

    def train() -> None:
        stack.train_epoch()
        synchronize(stack.device)

    steps = seconds_of(train)
    return steps, begin + seconds_of(stack.end_epoch)


def memory(data: Dataset, n_members: int, *overrides: str, compile_mode: bool = True) -> float:
    """What members add to a device's memory, in parts of their weights and Adam's moments."""
    device = choose_device(config_of(*overrides)["trainer"]["accelerator"])
    with ready_memory():  # which gives back what is free
        before = used_memory(device)
    stack = make_stack(data, n_members, *overrides, compile_mode=compile_mode)
    with ready_memory():
        built = used_memory(device)
        train_epoch(stack)
        trained = used_memory(device)
    weights = sum(each.numel() for each in stack.model.parameters())
    state = n_members * 3 * 4 * weights
    print(
        f"{n_members} members of {weights:,} weights: {state / 1e6:,.1f} MB of weights and moments"
    )
    for name, bytes_ in (("built", built), ("most, in an epoch", trained)):
        taken = bytes_ - before
        print(
            f"{name:>20s} {taken / 1e6:8,.1f} MB: {taken / n_members / 1e3:,.1f} kB a member, "
            f"{taken / state - 1:+.1%}",
            flush=True,
        )
    return (trained - before) / state


def used_memory(device: torch.device) -> int:
    """The bytes that this process has, or on a GPU its tensors at most since the last call."""
    if device.type == "cuda":
        gc.collect()
        most = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return most
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
