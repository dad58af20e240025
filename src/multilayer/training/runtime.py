"""How the process runs a training: threads, compiling, garbage collection, memory, warnings.

Nothing here is decided by a clock: threads and compiling change the last bits of a result, and the
same command gives the same bits. torch is imported where it is needed, since the command line
answers without it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import random
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from multilayer.core.text import counted

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

_SMALL_STEP = 50_000_000
"""Parameters times rows of a minibatch, below which a step is given one thread.

Such a step takes a few milliseconds, and synchronizing threads costs more than they save. On a
machine with other work it costs a hundred times more: 96 ms a step against 0.6 ms (64-128-64-10,
64 rows, 2 busy cores).
"""

_WORK_PER_THREAD = 6_000_000
"""Parameters times rows, summed over a block's members, that justify one thread of a stack.

Two threads are no faster than one below 8 million, and 1.5 times as fast at 18 million (2 idle
cores, 64-128-64-10).
"""

_MEMBERS_WORTH_THREADS = 4
"""Members from which a block is divided among threads; a smaller one is small matrix products."""

_STEPS_WORTH_COMPILING = 100_000
"""Compiling costs 5 to 20 seconds and saves about 0.2 ms a step (2 CPU cores)."""

WITHOUT_TIMING: dict[str, Any] = {"deterministic": True}
"""Compiler options for a GPU, where torch would time several kernels and take the fastest."""

_KNOWN_WARNINGS = (
    # Lightning calls a part of torch that torch has since renamed.
    r".*isinstance\(treespec, LeafSpec\).*",
    # A small data set has few minibatches an epoch: the losses are logged each epoch anyway.
    r"The number of training batches .* is smaller than the logging interval",
    # torch's compiler imports a part of torch that torch has since deprecated.
    r"`torch.jit.script_method` is deprecated",
    # A machine with Slurm: one process trains a run there, whether srun has started it or not.
    r"The `srun` command is available on your system but is not used",
)

_LARGEST_KEPT_BLOCK = 2**25 - 2**12
"""Bytes, just below the most that glibc raises its threshold to (DEFAULT_MMAP_THRESHOLD_MAX)."""


def set_threads(choice: int | str, network: nn.Module, n_rows: int) -> int:
    """Set torch's CPU threads for training a network.

    Sums differ in their last digit with the number of threads, so a run is evaluated with as many
    as it was trained with.

    Args:
        choice: the number, or "auto" to decide by the size of a step.
        network: the network to be trained.
        n_rows: the rows of a minibatch.

    Returns:
        The number of threads.
    """
    import torch

    n_threads = n_threads_for(choice, count_parameters(network) * n_rows)
    torch.set_num_threads(n_threads)
    return n_threads


def usable_threads(n_threads: int) -> int:
    """The threads that a run was trained with, at most as many as torch's default here.

    A run from a machine of 64 cores would be evaluated a hundred times slower on one of 4, where
    threads wait for each other.
    """
    return min(n_threads, _default_threads())


@cache
def _default_threads() -> int:
    """The number that torch starts with on this machine."""
    import torch

    return torch.get_num_threads()


def n_threads_for(choice: int | str, work: int, n_members: int = 1) -> int:
    """How many threads a training step uses: `choice`, or for "auto" by the step's size alone.

    Which number is fastest also depends on what else the machine does. If it were found by trial,
    the same command would give other last digits each time.

    Args:
        choice: the number, or "auto".
        work: parameters times rows of a minibatch, summed over all members.
        n_members: the members of a stack's block.

    Returns:
        The number of threads.

    >>> n_threads_for("auto", 17_226 * 64), n_threads_for(3, 17_226 * 64)
    (1, 3)
    """
    most = n_threads_at_most(choice)
    if choice != "auto":
        return most
    if n_members < _MEMBERS_WORTH_THREADS:
        return 1 if work < _SMALL_STEP else most
    return min(most, max(1, work // _WORK_PER_THREAD))


def n_threads_at_most(choice: int | str) -> int:
    """How many threads may be used: `choice`, or for "auto" those that torch starts with."""
    default = _default_threads()  # to be asked before any other number is set
    return default if choice == "auto" else int(choice)


@contextmanager
def using_threads(n_threads: int) -> Iterator[None]:
    """Set the number of torch's threads; afterwards it is what it was."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python, as Lightning's function of this name does.

    The variables are read by Lightning: processes that it starts begin with the same seed.
    """
    import numpy as np
    import torch

    os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"] = str(seed), "0"
    random.seed(seed)
    np.random.seed(seed)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # for devices that are not there torch notes the seeds too, each with a stack trace
        torch.default_generator.manual_seed(seed)


def autocast_of(precision: Any, device: torch.device) -> AbstractContextManager[Any]:
    """What Lightning runs network and loss in for `bf16-mixed`; nothing for other precisions."""
    import torch

    if precision == "bf16-mixed":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def count_parameters(network: nn.Module) -> int:
    """The number of weights and biases that are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def compile_if_worthwhile(
    network: nn.Module, choice: bool | str, *, n_steps: int, device: torch.device
) -> bool:
    """Compile a network in place if asked to, or if "auto" finds that the steps ahead repay it.

    Args:
        network: the network.
        choice: whether to compile it, or "auto".
        n_steps: the planned optimizer steps.
        device: where it is trained.

    Returns:
        Whether it is compiled.
    """
    if choice == "auto":
        choice = n_steps >= _STEPS_WORTH_COMPILING and can_compile(device)
        verb = "compiling" if choice else "not compiling"
        log.info(f"compile=auto: {verb}, with {counted(n_steps, 'step')} ahead on {device.type}")
    if choice:
        network.compile(options=None if device.type == "cpu" else WITHOUT_TIMING)
    return bool(choice)


def can_compile(device: torch.device) -> bool:
    """Whether the tools for compiling are installed: on the CPU, a C++ compiler."""
    compiler = sysconfig.get_config_var("CXX") or "c++"
    return device.type != "cpu" or any(map(shutil.which, (str(compiler).split()[0], "g++")))


@contextmanager
def gc_paused() -> Iterator[None]:
    """Import without garbage collection, and exempt what was imported from later collections.

    torch and the packages on top of it create half a million objects that stay until the end.
    Going through them again and again takes a quarter of the time of importing them.
    """
    was_enabled, n_modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > n_modules:
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def ready_memory() -> Iterator[None]:
    """Keep Python and the C library from returning and collecting memory between steps.

    A step allocates and frees a few megabytes. glibc returns such blocks to the system, which
    fills them with zeros each time, until a block of `_LARGEST_KEPT_BLOCK` was freed once; that
    alone took up to half of a step. Python's garbage collector went through everything that was
    imported, unless `gc_paused` has exempted it. Memory left over from building the stack is
    returned first.
    """
    import torch

    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # glibc's; musl has none
    torch.empty(_LARGEST_KEPT_BLOCK, dtype=torch.uint8)
    gc.collect()
    was_frozen = gc.get_freeze_count() > 0
    if not was_frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not was_frozen:
            gc.unfreeze()


def quiet_lightning() -> None:
    """Hide Lightning's tips and the known warnings that no user can act on."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
