"""How much memory there is, and whether the training of a network fits into it.

Without torch: a network that is far too large is refused before anything is imported or allocated.
"""

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
"""Files that exist on a machine with a GPU that has its own memory."""


def free_memory_of_machine() -> int:
    """Bytes that can still be had, within the bounds of a container."""
    memory = Path("/proc/meminfo")
    if not memory.exists():  # no Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = dict(line.split(":") for line in memory.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024  # it is said in kB
    group = Path("/sys/fs/cgroup")  # a container's own, version 2
    try:
        bound = int((group / "memory.max").read_text())
        used = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # there is none, or it is "max"
        return free
    return min(free, bound - int(used["anon"]))


def size_problem(n_weights: int, config: Mapping[str, Any], *, free: int, n_copies: int) -> str:
    """What is wrong with so many weights for the memory that is free; "" where they fit.

    n_copies: how many numbers the training holds for each, at least.
    """
    needed = 4 * n_weights * n_copies
    if needed <= free:
        return ""
    widths = config["model"].get("d_hidden")
    key = f"model.d_hidden={widths}".replace(" ", "") if widths else "model"
    return (
        f"{key}: {n_weights:,} weights take at least {needed / 2**30:,.1f} GiB in training, and "
        f"{free / 2**30:,.1f} GiB are free; choose fewer"
    )


def copies_in_training(config: Mapping[str, Any]) -> int:
    """The weights, their gradients, and copies of those that were validated and of the best."""
    targets = [str((node or {}).get("_target_")) for node in config["callbacks"].values()]
    return 2 + 2 * any(target.endswith(".BestWeights") for target in targets)


def hidden_size_problem(config: Mapping[str, Any]) -> str:
    """What is wrong with the weights between hidden layers; "" where they fit, as far as is known.

    Where a GPU may train, only the weights themselves are in the machine's own memory.
    """
    has_gpu = any(Path(driver).exists() for driver in GPU_DRIVERS)
    on_cpu = config["trainer"]["accelerator"] == "cpu" or not has_gpu
    n_weights = sum(a * b for a, b in pairwise(config["model"].get("d_hidden") or []))
    n_copies = copies_in_training(config) if on_cpu else 1
    return size_problem(n_weights, config, free=free_memory_of_machine(), n_copies=n_copies)
