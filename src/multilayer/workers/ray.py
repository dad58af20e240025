"""Workers that are tasks of Ray, on a cluster of this machine or one that is joined."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from multilayer.core.errors import UserError
from multilayer.workers.logs import last_line
from multilayer.workers.ray_driver import PipeReader

_OBJECT_STORE_BYTES = 80 * 2**20
"""Of a local cluster; workers put nothing there, and Ray takes no fewer than 75 MiB."""

_SECONDS_TO_STOP = 90.0
"""How long workers may take to save, and a local cluster to end."""


class RayEngine:
    """Starts workers as tasks of Ray; see `Engine`.

    They run on the cluster that the variable RAY_ADDRESS names. If there is none, a local one is
    started, which is reached from this machine alone and with a token made for it, and which ends
    with this process. A worker whose process or node is lost is started again by Ray.

    Args:
        n: How many workers there are to be.
        options: `num_cpus` and `num_gpus`, of a worker, as Ray has them.
        timeout: Seconds within which the cluster has to answer.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """

    waits = "for room on the Ray cluster"

    def __init__(self, n: int, options: Mapping[str, Any], *, timeout: float = 50.0) -> None:
        self.n = n
        self.options = options
        self.timeout = timeout
        address = os.environ.get("RAY_ADDRESS", "")
        self.address = "" if address == "local" else address
        self._logs: list[Path] = []
        self._ended: dict[int, str] = {}
        self._driver: _Driver | None = None
        for name in ("num_cpus", "num_gpus"):
            if not isinstance(options[name], int | float) or options[name] < 0:
                words = f"hydra.launcher.ray.{name}={options[name]}"
                raise UserError(f"{words}: must be a number of at least 0")
        if find_spec("ray") is None:
            raise self._error("needs Ray: pip install 'multilayer[ray]'")
        if self.address:
            self._probe()

    def start(self, command: Sequence[str], cwd: Path, logs: Path, n: int) -> None:
        """Hand workers to Ray; see `Engine`."""
        self.n_alive()
        if self._driver is None:
            self._driver = _Driver(
                self._settings(), self._environment(), logs / f"ray-driver-{os.getpid()}.log"
            )
            self._await_connection(self._driver)
        for _ in range(n):
            worker = len(self._logs)
            log = logs / f"ray-{os.getpid()}-{worker}.log"
            self._logs.append(log)
            request = {"worker": worker, "command": [*command], "cwd": str(cwd), "log": str(log)}
            self._driver.ask(request)

    def n_alive(self) -> int:
        """How many run, or wait for a place on the cluster."""
        if self._driver is not None:
            is_lost = self._driver.has_ended()
            while lines := self._driver.read():
                self._ended |= {line["ended"]: line["how"] for line in lines}
            if is_lost:
                how = f"Ray has ended: {last_line(self._driver.log)}"
                self._ended = dict.fromkeys(range(len(self._logs)), how) | self._ended
                self._driver.close()
                self._driver = None
        return len(self._logs) - len(self._ended)

    def n_waiting(self) -> int:
        """How many wait for a place; one that begins makes its log."""
        logs = [log for worker, log in enumerate(self._logs) if worker not in self._ended]
        return sum(not log.exists() for log in logs)

    def last_words(self) -> str:
        """What the last worker that failed printed last, and how Ray calls its end."""
        for worker, how in reversed(self._ended.items()):
            if how:
                return f"{last_line(self._logs[worker])} ({how})".strip()
        return ""

    def how_ended(self, log: str) -> str:
        """How a worker ended; see `Engine`."""
        names = [each.name for each in self._logs]
        name = Path(log).name
        return self._ended.get(names.index(name), "") if name in names else ""

    def stop(self) -> None:
        """End all workers, and the cluster if it is local."""
        if self._driver is not None:
            self._driver.end(_SECONDS_TO_STOP)
            self.n_alive()

    def _probe(self) -> None:
        """Refuse an address where nobody listens: Ray tries for minutes to reach one."""
        host, _, port = self.address.rpartition("://")[2].rpartition(":")
        if self.address == "auto":  # Ray looks for a cluster of this machine
            return
        try:
            number = int(port)
        except ValueError:
            raise self._error("must be HOST:PORT") from None
        try:
            socket.create_connection((host.strip("[]"), number), timeout=self.timeout).close()
        except (OSError, OverflowError) as error:
            raise self._error(f"no cluster answers: {error}") from error

    def _settings(self) -> dict[str, Any]:
        """What the driver has to know."""
        resources = {key: self.options[key] for key in ("num_cpus", "num_gpus")}
        init: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self.address:
            init["address"] = self.address
        else:
            init |= {"address": "local", "num_cpus": self.n * resources["num_cpus"]}
            init |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
            # For sockets, which cannot have such long names as a sweep's folder would give them.
            init["_temp_dir"] = tempfile.mkdtemp(prefix="ray-")
        n_gpus = self.n * resources["num_gpus"]
        return {
            "is_local": not self.address,
            "init": init,
            "resources": resources,
            "n_gpus": n_gpus,
        }

    def _await_connection(self, driver: _Driver) -> None:
        """Wait until the driver is connected to the cluster, and refuse one that cannot be."""
        answer = driver.first_line(self.timeout)
        if answer is not None and "connected" in answer:
            return
        driver.end(0)
        driver.close()
        self._driver = None
        if answer is None:
            raise self._error(f"the cluster has not answered within {self.timeout:g} s")
        reason = answer.get("error") or last_line(driver.log)
        raise self._error(f"the cluster cannot be used: {reason}")

    def _environment(self) -> dict[str, str]:
        """The variables of the driver, and with it of a local cluster."""
        environment = {"RAY_USAGE_STATS_ENABLED": "0", **os.environ}  # nothing is sent anywhere
        if not self.address:
            for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
                environment.pop(name, None)
            environment["RAY_AUTH_MODE"] = "token"
            environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            # By which Ray listens at 127.0.0.1 instead of at all addresses of the machine.
            environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        return environment

    def _error(self, message: str) -> UserError:
        """A mistake of the user's, or of the cluster."""
        where = f"RAY_ADDRESS={self.address}: " if self.address else ""
        return UserError(f"hydra.launcher.workers=ray:{self.n}: {where}{message}")


class _Driver:
    """The process `multilayer.workers.ray_driver`, which see.

    Args:
        settings: As it reads them.
        environment: Its variables.
        log: The file for what it and Ray print.

    Attributes:
        read: Returns the lines that it has written; see `PipeReader.read`.
    """

    def __init__(self, settings: dict[str, Any], environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._folder = settings["init"].get("_temp_dir")
        words = [sys.executable, "-m", "multilayer.workers.ray_driver", json.dumps(settings)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                words,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the engine, which then ends it
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.read = PipeReader(self._answers.fileno()).read

    def ask(self, request: dict[str, Any]) -> None:
        """Ask it to start a worker; if it has ended, `has_ended` says so."""
        with suppress(BrokenPipeError):
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()

    def first_line(self, seconds: float) -> dict[str, Any] | None:
        """Its first line, empty if it has ended without one; None if none comes in time."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            if lines := self.read(left):
                return lines[0]
            if self.has_ended():
                return {}
        return None

    def has_ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def end(self, seconds: float) -> None:
        """Let it end all workers and itself; after some seconds it is killed."""
        with suppress(BrokenPipeError):
            self._requests.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Forget it, once it has ended; and remove what it has left if it was killed."""
        with suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
