"""A worker of a sweep: it trains jobs of the sweep's ledger until none is left."""

import faulthandler
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path, PurePath
from threading import Event, Thread
from time import monotonic
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from multilayer.cli.config_loader import take_value
from multilayer.cli.open_jobs import train_open_jobs
from multilayer.composing.sweep_jobs import (
    SweepJobs,
    Words,
    key_of,
    launcher_words,
    sweep_folder,
)
from multilayer.core.errors import JobsFailedError, Terminated, UserError
from multilayer.core.text import counted, override_word
from multilayer.reports.summary import SweepFolder
from multilayer.runs.config import MASK, Config, map_values
from multilayer.runs.console import console
from multilayer.runs.manifest import ENDED
from multilayer.sweeps import Ledger, Session, identity
from multilayer.sweeps.job import count_states
from multilayer.sweeps.ledger import DEAD_AFTER
from multilayer.workers.engine import SECONDS_TO_SAVE

_BATCH = 1024
"""How many jobs a worker composes at a time."""

_STDERR = 2

_WATCH_SECONDS = 2.0
"""How often a worker looks whether the process that started it lives."""


def worker_arguments(config: Config, hydra: Sequence[str], config_dir: str | None) -> list[str]:
    """The arguments of `multilayer train` by which a process trains the jobs of a ledger.

    Args:
        config: As `conf/work.yaml` composes it.
        hydra: Hydra's own overrides on the command line.
        config_dir: The folder of `--config-dir`; None for the one of the sweep's command.

    Raises:
        UserError: The folder has no ledger, it cannot be read, or it leads to another place.
    """
    ledger = Ledger(Path(config["sweep"]).absolute())
    if not ledger.exists():
        raise UserError(f"sweep={config['sweep']}: there is no sweep with a ledger")
    if not config["trust"]:
        _check_links(ledger.folder)
    ledger.refresh()
    unknown: dict[str, Any] = {
        "folder": "",
        "config_dir": None,
        "hydra": [],
        "stack": False,
        "max_members": None,
    }
    command = unknown | ledger.commands[-1]
    trusted = command if config["trust"] else unknown
    folder = config_dir or trusted["config_dir"]
    words = [
        "hydra/launcher=lockstep",
        *launcher_words(command),
        *trusted["hydra"],
        *hydra,
        "hydra/sweeper=ledger",
        *(override_word(f"hydra.sweeper.{key}", config[key]) for key in _OPTIONS),
        override_word("hydra.sweep.dir", str(ledger.sweep)),
    ]
    last = {key_of(word): word for word in words}
    return ["-m", *(["--config-dir", folder] if folder else []), *last.values()]


_OPTIONS = ("n_workers", "max_failures", "parent", "trust", "overrides")
"""The keys of `conf/work.yaml` that the sweeper is given."""


class Work:
    """What one worker does of a sweep.

    Args:
        context: Hydra's, of the command.
        master: The config of the sweep, which has none of its jobs' values.
        launcher: Trains jobs: ours.
        n_workers: How many workers share the jobs.
        max_failures: How many jobs of the sweep may fail before no further one is taken: from now
            on, or with a parent in all.
        parent: The worker of the process that has started this one, with which it ends.
        trust: Whether the jobs may name any class, place and address; else what a run's config may
            that comes from a stranger.
        overrides: Further ones for a job that comes out otherwise than it was registered.
    """

    def __init__(
        self,
        context: HydraContext,
        master: DictConfig,
        launcher: Any,
        n_workers: int,
        max_failures: int | None,
        parent: str | None,
        trust: bool,
        overrides: Sequence[str],
    ) -> None:
        self.loader: Any = context.config_loader
        self.master = master
        self.launcher = launcher
        self.n_workers = n_workers
        self.parent = parent
        self.trust = trust
        self.overrides = overrides
        session = Session.of(sweep_folder(master.hydra), parent)
        assert session is not None, "worker_arguments has found a ledger"
        if parent is None:
            session.ledger.refresh()
            session.allow_failures(max_failures)
        else:
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
        if self.trust:
            sys.path.append(os.getcwd())
        if self.parent is not None:
            faulthandler.enable(_STDERR)  # its log then says where it died of a signal
        n_known = -1
        try:
            with self._ending_with_parent():
                while n_known != len(self._jobs()):  # others may register further ones meanwhile
                    n_known = len(self._jobs())
                    self._train()
        except KeyboardInterrupt as interrupt:
            # A run's own hint would have the sweep's jobs go on from this one.
            folder = shlex.quote(os.path.relpath(self.session.ledger.sweep))
            hint = [] if self.parent else [f"to go on: multilayer work {folder}"]
            interrupt.__notes__ = hint
            raise
        if self.parent is None:
            counts = count_states(self._jobs())
            words = ", ".join(f"{count} {state}" for state, count in counts.items())
            console().print(f"sweep: {counted(n_known, 'job')}: {words}")
            if not counts.keys() <= {*ENDED}:
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

    def _prepare(self, batch: dict[int, Words]) -> None:
        """Check jobs that are trained next, and how many workers share them.

        A job that comes out otherwise than it was registered is given the further overrides.
        """
        jobs = self.session.ledger.jobs
        for number, words in batch.items():
            if any(MASK in word for word in words):
                raise UserError(
                    f"job {number}: its overrides have a secret, which the ledger does not record: "
                    "give it as a reference to the environment, '${oc.env:NAME}'"
                )
        begun_in = self.session.ledger.commands[-1].get("folder")
        composed = SweepJobs.compose(self.loader, self.master, list(batch.values()))
        changed = [
            (number, words)
            for (number, words), described in zip(batch.items(), composed.described, strict=True)
            if identity(described.config) != jobs[number].identity
        ]
        if changed and self.overrides:
            for number, words in changed:
                further = [word for word in self.overrides if word not in words]
                batch[number] = [*words, *further]
            composed = SweepJobs.compose(self.loader, self.master, list(batch.values()))
        for number, described in zip(batch, composed.described, strict=True):
            if identity(described.config) != jobs[number].identity:
                raise UserError(
                    f"job {number}: its config is another one here than where the sweep was begun: "
                    f"run this in the same folder ({begun_in}), with the same config files and "
                    "environment; old values of defaults that have changed since are given as "
                    "\"overrides=['KEY=VALUE']\" (CHANGELOG.md has those of multilayer)"
                )
            if not self.trust:
                link = _find_link(self.session.ledger.sweep, jobs[number].subdir)
                _check_untrusted(number, batch[number], described.config, link)
        composed.keep_folders(self.loader, jobs, list(batch))
        n_open = sum(job.is_open for job in jobs.values())
        self.launcher.n_sharing = ceil(self.n_workers * len(batch) / n_open)

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
            read_at = monotonic()
            while not is_over.wait(_WATCH_SECONDS):
                try:
                    lives = is_alive()
                    read_at = monotonic()
                except UserError:  # a shared folder cannot be read for a moment
                    lives = monotonic() - read_at < DEAD_AFTER
                if not lives:
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


def _check_links(ledger: Path) -> None:
    """Raise `UserError` if anything in a ledger lies elsewhere; its files are only added to."""
    paths = (ledger, *ledger.glob("*"), *ledger.glob("claims/*"))
    if link := next(filter(Path.is_symlink, paths), None):
        raise UserError(f"{_LINK.format(link)}{_NOT_DONE}")


_LINK = "{} is a link to another place"

_NOT_DONE = (
    ": this is not done for a sweep that may be a stranger's; if it is yours, add trust=true"
)


def _find_link(sweep: Path, subdir: str) -> Path | None:
    """A link in the folder of a run, or on the way to it, by which files could lie elsewhere."""
    path = sweep
    for part in PurePath(subdir).parts:
        path /= part
        if path.is_symlink():
            return path
    return next(filter(Path.is_symlink, path.glob("*")), None)


def _check_untrusted(number: int, words: Words, config: Config, link: Path | None) -> None:
    """Raise `UserError` if a job names what it may not where its sweep may be a stranger's."""
    from multilayer.training.instantiate import check_trusted_targets

    problems = [word for word in words if key_of(word).startswith("hydra")]
    if link is not None:
        problems.append(_LINK.format(link))

    def look(key: str, value: Any) -> None:
        if value != "???" and take_value(key, value) == "???":
            problems.append(f"{key}={value}")

    map_values(config, look)
    try:
        check_trusted_targets(config, ())
    except UserError as error:
        problems.append(str(error).partition(";")[0])
    if problems:
        raise UserError(f"job {number}: {problems[0]}{_NOT_DONE}")
