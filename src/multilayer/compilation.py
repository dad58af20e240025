"""Whether to compile a network, decided by the work ahead."""

import logging
import shutil
import sysconfig

import torch
from torch import nn

log = logging.getLogger(__name__)

# Compiling costs 5 to 20 seconds and saves about 0.2 ms a step (measured on 2 CPU cores): below
# so many steps it costs more than it brings.
STEPS_WORTH_COMPILING = 100_000


def compile_if_worthwhile(
    network: nn.Module, choice: bool | str, *, n_steps: int, device: torch.device
) -> None:
    """Compile a network in place, if `choice` is true, or "auto" and the work ahead pays for it."""
    if choice == "auto":
        choice = n_steps >= STEPS_WORTH_COMPILING and can_compile(device)
        log.info(
            "compile=auto: %s, %s steps are planned on %s",
            "compiling" if choice else "not compiling",
            f"{n_steps:,}",
            device.type,
        )
    if choice:
        network.compile()


def can_compile(device: torch.device) -> bool:
    """Whether what compiling needs is there: a C++ compiler, on the CPU."""
    compiler = sysconfig.get_config_var("CXX") or "c++"
    return device.type != "cpu" or any(map(shutil.which, (str(compiler).split()[0], "g++")))
