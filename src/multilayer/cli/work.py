"""A worker of a sweep: it trains jobs of the sweep's ledger until none is left."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from multilayer.cli.open_jobs import train_open_jobs
from multilayer.composing.sweep_jobs import SweepJobs, Words, key_of, sweep_folder
from multilayer.core.errors import JobsFailedError, Terminated, UserError
from multilayer.core.text import as_override
from multilayer.reports.summary import SweepFolder
from multilayer.runs.config import MASK, Config
from multilayer.runs.console import console
from multilayer.sweeps import Ledger, Session, identity
from multilayer.sweeps.job import count_states
from multilayer.workers.engine import SECONDS_TO_SAVE

_BATCH = 1024
"""How many jobs a worker composes at a time."""

_WATCH_SECONDS = 2.0
"""How often a worker looks whether the process that started it lives."""

_READ_FROM_LEDGER = ("hydra.searchpath", "hydra.job.chdir", "hydra.output_subdir")
"""Hydra's keys that are taken from a ledger, which may be a stranger's."""


def worker_arguments(config: Config, hydra: Sequence[str], config_dir: str | None) -> list[str]:
    """The arguments of `multilayer train` by which a process trains the jobs of a ledger.

    The working folder becomes that of the sweep's command, where its data is, if it exists here;
    but not if a process of the sweep has started this one in its own.

    Args:
        config: As `conf/work.yaml` composes it.
        hydra: Hydra's own overrides on the command line.
        config_dir: The folder of `--config-dir`; None for the one of the sweep's command.

    Raises:
        UserError: The folder has no ledger, or it cannot be read.
    """
    ledger = Ledger(Path(config["sweep"]).absolute())
    if not ledger.exists():
        raise UserError(f"sweep={config['sweep']}: there is no sweep with a ledger")
    ledger.refresh()
    unknown: dict[str, Any] = {
        "folder": "",
        "config_dir": None,
        "hydra": [],
        "stack": False,
        "max_members": None,
    }
    command = unknown | ledger.commands[-1]
    if config["parent"] is None and os.path.isdir(command["folder"]):
        os.chdir(command["folder"])
    recorded = command["config_dir"]
    folder = config_dir or (recorded if recorded and os.path.isdir(recorded) else None)
    kept = [word for word in command["hydra"] if key_of(word) in _READ_FROM_LEDGER]
    words = [
        "hydra/launcher=lockstep",
        *(_word(f"hydra.launcher.{key}", command[key]) for key in ("stack", "max_members")),
        *kept,
        *hydra,
        "hydra/sweeper=ledger",
        *(_word(f"hydra.sweeper.{key}", config[key]) for key in _OPTIONS),
        _word("hydra.sweep.dir", str(ledger.sweep)),
    ]
    last = {key_of(word): word for word in words}
    return ["-m", *(["--config-dir", folder] if folder else []), *last.values()]


_OPTIONS = ("n_workers", "max_failures", "parent", "trusted_packages")
"""The keys of `conf/work.yaml` that the sweeper is given."""


def _word(key: str, value: Any) -> str:
    """An override in Hydra's grammar."""
    if isinstance(value, str | list):
        return shlex.split(as_override(key, value))[0]
    return f"{key}={'null' if value is None else str(value).lower()}"


class Work:
    """What one worker does of a sweep.

    Args:
        context: Hydra's, of the command.
        master: The config of the sweep, which has none of its jobs' values.
        launcher: Trains jobs: ours.
        n_workers: How many workers share the jobs.
        max_failures: How many jobs of the sweep may fail before no further one is taken.
        parent: The worker of the process that has started this one, with which it ends.
        trusted_packages: Further packages whose classes the jobs may name. Those of a worker that
            was started by a process of the sweep may name any.
    """

    def __init__(
        self,
        context: HydraContext,
        master: DictConfig,
        launcher: Any,
        n_workers: int,
        max_failures: int | None,
        parent: str | None,
        trusted_packages: Sequence[str],
    ) -> None:
        self.loader: Any = context.config_loader
        self.master = master
        self.launcher = launcher
        self.n_workers = n_workers
        self.parent = parent
        self.trusted_packages = list(trusted_packages)
        session = Session.of(sweep_folder(master.hydra))
        assert session is not None, "worker_arguments has found a ledger"
        session.max_failures = max_failures
        self.session = session

    def run(self) -> None:
        """Train jobs of the ledger until none is open.

        A worker without a parent also waits for the jobs that others train, and goes on with those
        of a worker that dies.

        Raises:
            UserError: A job is another one here than where it was registered, or names a class that
                is not trusted; or the ledger cannot be read or written.
            JobsFailedError: Jobs of the sweep have failed, and there is no parent to say so.
        """
        SweepFolder.path = None  # the table is for the process that the user started
        if self.trusted_packages:
            sys.path.append(os.getcwd())
        n_known = -1
        with self._ending_with_parent():
            while n_known != len(self._jobs()):  # others may register further ones meanwhile
                n_known = len(self._jobs())
                self._train()
        if self.parent is None:
            counts = count_states(self._jobs())
            words = ", ".join(f"{count} {state}" for state, count in counts.items())
            console().print(f"sweep: {n_known} jobs: {words}")
            if "failed" in counts:
                raise JobsFailedError

    def _jobs(self) -> Mapping[int, Any]:
        """The jobs of the ledger as of now."""
        self.session.ledger.refresh()
        return self.session.ledger.jobs

    def _train(self) -> None:
        """Train the open jobs.

        Of many more than are composed at a time, workers begin at different ones.
        """
        numbers = list(self.session.ledger.jobs)
        if len(numbers) > _BATCH:
            first = hash(self.session.worker.info.name) % len(numbers)
            numbers = [*numbers[first:], *numbers[:first]]
        words_of = {n: self.session.ledger.jobs[n].overrides for n in numbers}
        waits = self.parent is None
        for _ in train_open_jobs(
            words_of, self.launcher, self.session, _BATCH, prepare=self._prepare, waits=waits
        ):
            pass

    def _prepare(self, batch: Mapping[int, Words]) -> None:
        """Check jobs that are trained next, and how many workers share them."""
        jobs = self.session.ledger.jobs
        for number, words in batch.items():
            if any(MASK in word for word in words):
                raise UserError(
                    f"job {number}: its overrides have a secret, which the ledger does not record: "
                    "give it as a reference to the environment, '${oc.env:NAME}'"
                )
        composed = SweepJobs.compose(self.loader, self.master, list(batch.values()))
        for number, described in zip(batch, composed.described, strict=True):
            if identity(described.config) != jobs[number].identity:
                raise UserError(
                    f"job {number}: its config is another one here than where the sweep was begun: "
                    "run this in the same folder, with the same config files, environment and "
                    "version of multilayer"
                )
            if self.parent is None:
                self._check_targets(described.config)
        composed.keep_folders(self.loader, jobs, list(batch))
        n_open = sum(job.is_open for job in jobs.values())
        self.launcher.n_sharing = ceil(self.n_workers * len(batch) / n_open)

    def _check_targets(self, config: Config) -> None:
        """Raise `UserError` if a job names a class that is not trusted: it may be a stranger's."""
        from multilayer.training.instantiate import check_trusted_targets

        check_trusted_targets(config, self.trusted_packages)

    @contextmanager
    def _ending_with_parent(self) -> Iterator[None]:
        """End this process, as by SIGTERM, once the one that has started it has ended.

        Raises:
            UserError: It has ended. The exit code is not SIGTERM's, after which Slurm would let the
                worker begin again.
        """
        if self.parent is None:
            yield
            return
        is_alive = self.session.ledger.watch(self.parent)
        message = "the process of the sweep that has started this worker has ended"
        if not is_alive():
            raise UserError(message)
        is_alone, is_over = Event(), Event()

        def look() -> None:
            while not is_over.wait(_WATCH_SECONDS):
                if not is_alive():
                    is_alone.set()
                    os.kill(os.getpid(), signal.SIGTERM)
                    if not is_over.wait(SECONDS_TO_SAVE):  # it hangs in a user's callback
                        os.kill(os.getpid(), signal.SIGKILL)

        Thread(target=look, name="parent", daemon=True).start()
        try:
            yield
        except Terminated as error:
            if is_alone.is_set():
                raise UserError(message) from error
            raise
        finally:
            is_over.set()
