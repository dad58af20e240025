"""Whether to compile a network, decided by the work ahead."""

import logging
import shutil
import sysconfig
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

# Compiling costs 5 to 20 seconds and saves about 0.2 ms a step (measured on 2 CPU cores): below
# so many steps it costs more than it brings.
STEPS_WORTH_COMPILING = 100_000

# On a GPU torch's compiler would time some variants of a kernel, and take the fastest.
WITHOUT_TIMING: dict[str, Any] = {"deterministic": True}


def compile_if_worthwhile(
    network: nn.Module, choice: bool | str, *, n_steps: int, device: torch.device
) -> bool:
    """Compile a network in place, if `choice` is true, or "auto" and the work ahead pays for it.

    Returns whether it is compiled.
    """
    if choice == "auto":
        choice = n_steps >= STEPS_WORTH_COMPILING and can_compile(device)
        words = "compiling" if choice else "not compiling"
        log.info(f"compile=auto: {words}, with {n_steps:,} steps ahead on {device.type}")
    if choice:
        network.compile(options=None if device.type == "cpu" else WITHOUT_TIMING)
    return bool(choice)


def can_compile(device: torch.device) -> bool:
    """Whether what compiling needs is there: a C++ compiler, on the CPU."""
    compiler = sysconfig.get_config_var("CXX") or "c++"
    return device.type != "cpu" or any(map(shutil.which, (str(compiler).split()[0], "g++")))
