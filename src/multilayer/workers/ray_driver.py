"""The process that hands workers to Ray as tasks; `RayEngine` starts it and talks with it.

It is a process apart because Ray ends the process that it runs in when it loses its cluster, tries
for minutes to reach one that is not there, and handles SIGTERM in its own way.

It reads a line of JSON for each worker to start. When there is nothing more to read, as when the
process that writes is killed, it ends all workers, and the cluster if that is its own. It writes a
line of JSON when it is connected, when it cannot connect, and for each worker that has ended.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from time import monotonic, sleep
from typing import Any

from multilayer.workers.engine import SECONDS_TO_SAVE
from multilayer.workers.logs import describe_code

_POLL_SECONDS = 0.2
_MAX_RETRIES = 3
"""How often Ray does the task of a worker again whose node or process was lost; Ray's default."""

_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent dies."""


class PipeReader:
    """Reads lines of JSON that another process writes to a pipe.

    Args:
        descriptor: The pipe's.

    Attributes:
        is_over: Whether there is nothing more to read.
    """

    def __init__(self, descriptor: int) -> None:
        self.is_over = False
        self._descriptor = descriptor
        self._rest = b""

    def read(self, seconds: float = 0) -> list[dict[str, Any]]:
        """The lines that have come, or come within some seconds."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return []
        content = os.read(self._descriptor, 2**20)
        self.is_over = not content
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [json.loads(line) for line in lines]


class _Engine(PipeReader):
    """The process that asks for workers, by pipes."""

    def __init__(self) -> None:
        super().__init__(0)
        self._answers = os.dup(1)
        os.dup2(2, 1)  # what Ray prints is for the log

    def tell(self, line: dict[str, Any]) -> None:
        """Tell it something, if it is still there."""
        with suppress(BrokenPipeError):
            os.write(self._answers, json.dumps(line).encode() + b"\n")


def main() -> None:
    """Connect to Ray, and start workers until there is nothing more to read."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    engine = _Engine()
    try:
        ray = _connect(settings, engine)
        try:
            _serve(ray, settings["resources"], engine)
        finally:
            ray.shutdown()
    finally:
        if settings["is_local"]:  # where Ray has kept sockets and its own logs
            shutil.rmtree(settings["init"]["_temp_dir"], ignore_errors=True)


def _connect(settings: dict[str, Any], engine: _Engine) -> Any:
    """Ray, connected to a cluster; ends the process if it cannot be used."""
    try:
        ray = import_module("ray")  # which gives some of its functions no types
        ray.init(**settings["init"])
        n_gpus = ray.cluster_resources().get("GPU", 0)
        if settings["is_local"] and settings["n_gpus"] > n_gpus:  # they would wait for ever
            raise ValueError(
                f"GPUs that the workers need: {settings['n_gpus']:g}, and that are here: {n_gpus:g}"
            )
    except Exception as error:  # whatever it is, the user is to see it
        engine.tell({"error": describe_error(error)})
        sys.exit(1)
    engine.tell({"connected": True})
    return ray


def describe_error(error: Exception) -> str:
    r"""An error in one line: the last one that a library has quoted in its message.

    >>> describe_error(ValueError("no\n  File x\nray.exceptions.AuthenticationError: wrong token"))
    'AuthenticationError: wrong token'
    """
    lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    quoted = [line.removeprefix("ray.exceptions.") for line in lines if "Error: " in line]
    return (quoted or lines)[-1 if quoted else 0].strip()


def _serve(ray: Any, resources: dict[str, float], engine: _Engine) -> None:
    """Start the workers that are asked for, and tell which have ended."""
    task = ray.remote(max_retries=_MAX_RETRIES, **resources)(_work)
    running: dict[Any, int] = {}
    while not engine.is_over:
        for request in engine.read(_POLL_SECONDS):
            ref = task.remote(request["command"], request["cwd"], request["log"], SECONDS_TO_SAVE)
            running[ref] = request["worker"]
        _tell_ended(ray, running, engine)
    for ref in running:
        ray.cancel(ref)
    end = monotonic() + SECONDS_TO_SAVE
    while running and monotonic() < end:
        _tell_ended(ray, running, engine)
        sleep(_POLL_SECONDS)
    for ref in running:
        ray.cancel(ref, force=True)


def _tell_ended(ray: Any, running: dict[Any, int], engine: _Engine) -> None:
    """Tell which workers have ended since the last time, and how."""
    if not running:
        return
    ended, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
    for ref in ended:
        try:
            code = ray.get(ref)
            how = describe_code(code)
        except ray.exceptions.TaskCancelledError:
            how = ""
        except Exception as error:  # Ray's word for a lost process or node
            how = f"{type(error).__name__}: {describe_error(error)}"
        engine.tell({"ended": running.pop(ref), "how": how})


def _work(command: list[str], cwd: str, log: str, seconds_to_save: float) -> int:
    """A task of Ray's: run a worker, and end it with the task.

    Returns:
        Its exit code.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def end_with_parent() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    with open(log, "ab") as output:
        process = subprocess.Popen(  # noqa: S603  # our own command
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # a call of the system's, nothing of Python's
        )
    try:
        while process.poll() is None:
            sleep(0.2)  # a call of wait would not be interrupted when the task is cancelled
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds_to_save)
            except subprocess.TimeoutExpired:
                process.kill()
    return process.returncode


if __name__ == "__main__":
    main()
