"""Which process this is, and whether another one still runs."""

import os
import re
import secrets
import socket
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any


def new_name() -> str:
    """A name for a worker of this process, which no other has."""
    host = re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:64]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def describe_this_process() -> dict[str, Any]:
    """What others need to know to find out whether this process still runs."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "machine": _machine(),
        "started": _started(pid),
        "log": _printed_to(),
    }


def _printed_to() -> str | None:
    """The file that this process prints to; None if it is none, or the system does not say."""
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(1).st_mode):
            return os.readlink("/proc/self/fd/1")
    return None


@cache
def _machine() -> str:
    """This start of this machine, and within it the container whose processes are numbered alike.

    Empty where the system does not say.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None if it does not run."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        is_dead = fields[0] in "ZX"  # killed, and its parent has not looked yet
        return None if is_dead else int(fields[19])
    return None


def is_running(process: dict[str, Any]) -> bool | None:
    """Whether a process of this machine runs, or is only stopped; None for one of another machine.

    Args:
        process: As it described itself.
    """
    if not process["machine"] or process["machine"] != _machine():
        return None
    return bool(_started(process["pid"]) == process["started"])
