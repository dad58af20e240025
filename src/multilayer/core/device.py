"""Which device to use, and how much memory is free on it.

torch is imported where it is needed: a config is checked without it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from multilayer.core.errors import UserError

if TYPE_CHECKING:
    import torch


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


def free_memory(device: torch.device | None = None) -> int:
    """Free bytes on a device; on the CPU, the default, within the limits of a container."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
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
