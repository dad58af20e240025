"""Which device to use, and whether it is there."""

import os
from pathlib import Path

import torch

from multilayer.errors import UserError


def accelerator_problem(accelerator: str) -> str | None:
    """What an accelerator, by Lightning's name, lacks on this machine; None where it is there."""
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        return "no NVIDIA GPU found"
    if accelerator == "mps" and not torch.backends.mps.is_available():
        return "no Apple GPU found"
    return None


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "gpu" or "mps"; auto takes a GPU where there is one.

    Raises `UserError` for one that is not there.
    """
    problem = accelerator_problem(name)
    if problem:
        raise UserError(f"device={name}: {problem}; use device=auto or device=cpu")
    if name == "auto":
        available = torch.accelerator.current_accelerator(check_available=True)
        return available or torch.device("cpu")
    return torch.device("cuda" if name == "gpu" else name)


def trainer_device(accelerator: str) -> torch.device:
    """The device that a Trainer with this accelerator trains on."""
    return choose_device("gpu" if accelerator == "cuda" else accelerator)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device, on the CPU within the bounds of a container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
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
