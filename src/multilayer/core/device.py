"""Which device to use, and whether it is there."""

import torch

from multilayer.core.errors import UserError
from multilayer.core.memory import free_memory_of_machine


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
    return free_memory_of_machine()
