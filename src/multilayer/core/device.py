"""Which device to use, and how much memory is free on it.

torch is imported where it is needed: a network that is far too large is refused before that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multilayer.core.errors import UserError

if TYPE_CHECKING:
    import torch

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
"""Files that exist on a machine whose GPU has its own memory."""


def accelerator_problem(accelerator: str) -> str | None:
    """Why an accelerator, by Lightning's name for it, cannot be used here; None if it can."""
    import torch

    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        return "no NVIDIA GPU found"
    if accelerator == "mps" and not torch.backends.mps.is_available():
        return "no Apple GPU found"
    return None


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "gpu", "cuda" or "mps"; "auto" prefers a GPU.

    Raises:
        UserError: The machine has no such device.
    """
    import torch

    problem = accelerator_problem(name)
    if problem:
        raise UserError(f"device={name}: {problem}; use device=auto or device=cpu")
    if name == "auto":
        available = torch.accelerator.current_accelerator(check_available=True)
        return available or torch.device("cpu")
    return torch.device("cuda" if name == "gpu" else name)


def free_memory(device: torch.device) -> int:
    """Free bytes on a device; on the CPU, within the limits of a container."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_host_memory()


def _free_host_memory() -> int:
    """Free bytes of the machine, within the limits of a container."""
    memory = Path("/proc/meminfo")
    if not memory.exists():  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = dict(line.split(":") for line in memory.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024  # given in kB
    group = Path("/sys/fs/cgroup")  # a container's own, version 2
    try:
        limit = int((group / "memory.max").read_text())
        used = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return free
    return min(free, limit - int(used["anon"]))


def size_problem(n_weights: int, config: Mapping[str, Any], *, free: int, n_copies: int) -> str:
    """Why a network does not fit into memory.

    Args:
        n_weights: the number of its weights.
        config: the run's config.
        free: bytes.
        n_copies: numbers that the training holds for each weight, at least.

    Returns:
        The problem; "" if it fits.
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


def training_copies(config: Mapping[str, Any]) -> int:
    """The numbers that a training holds for each weight, at least.

    They are the weight, its gradient and, for `BestWeights`, copies of the validated and the best.
    """
    targets = [str((node or {}).get("_target_")) for node in config["callbacks"].values()]
    return 2 + 2 * any(target.endswith(".BestWeights") for target in targets)


def hidden_size_problem(config: Mapping[str, Any]) -> str:
    """Why the weights between hidden layers do not fit into memory; "" if they do.

    If the run may train on a GPU, only the weights themselves count: the rest is in its memory.
    """
    has_gpu = any(Path(driver).exists() for driver in _GPU_DRIVERS)
    on_cpu = config["trainer"]["accelerator"] == "cpu" or not has_gpu
    n_weights = sum(a * b for a, b in pairwise(config["model"].get("d_hidden") or []))
    n_copies = training_copies(config) if on_cpu else 1
    return size_problem(n_weights, config, free=_free_host_memory(), n_copies=n_copies)
