"""Workers that Slurm starts: the tasks of a job array, which submitit submits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from multilayer.core.errors import UserError, first_line
from multilayer.workers.engine import SECONDS_TO_SAVE
from multilayer.workers.logs import last_line

if TYPE_CHECKING:
    import submitit

_HELD = "launch failed requeued held"
"""Slurm's reason, taken as a state, of a job that waits until an administrator lets it go."""

_FAILED = frozenset(
    ("BOOT_FAIL", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT", _HELD)
)
"""Slurm's states of a worker that has failed."""

_ENDED = _FAILED - {_HELD} | {"CANCELLED", "COMPLETED", "PREEMPTED", "GONE"}
"""Its states of one that has ended; GONE is ours, of one that Slurm has forgotten."""

_REQUEUE = [
    "code=$?",
    "job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}",
    'state=$(squeue --noheader --job="$job" --format=%T)',
    'if [ $code = 143 ] && [ "$state" = RUNNING ]; then scontrol requeue "$job"; fi',
    "exit $code",
]
"""Lines of shell after a worker has ended: one that Slurm has asked to end, by SIGTERM before its
time limit or when it is preempted, goes back into the queue. One that is cancelled is not RUNNING,
and neither is one that Slurm has put back into the queue itself."""

_OF_SLURM = ("srun: ", "slurmstepd", "submitit ")
"""How lines begin that Slurm and submitit add to what a worker prints."""


class SlurmEngine:
    """Starts workers as tasks of a job array of Slurm; see `Engine`.

    A worker that is preempted, or that comes near its time limit, saves what it trains, ends, and
    waits in the queue again. How they stand is asked of `squeue`: submitit asks `sacct`, which
    knows of no job where Slurm keeps no accounts.

    Args:
        n: How many workers there are to be.
        options: `partition`, `timeout_min`, `cpus_per_task`, `gpus_per_node`, `mem_gb`, `setup` and
            `additional_parameters`, as submitit has them; null for what Slurm takes by itself.
        timeout: Seconds within which Slurm has to answer.
        poll_seconds: How often Slurm is asked at most.

    Raises:
        UserError: submitit is not installed, or there is no Slurm.
    """

    waits = "in Slurm's queue"

    def __init__(
        self,
        n: int,
        options: Mapping[str, Any],
        *,
        timeout: float = 50.0,
        poll_seconds: float = 5.0,
    ) -> None:
        self.n = n
        self.options = options
        self.timeout = timeout
        self.poll_seconds = poll_seconds
        self._jobs: dict[str, submitit.Job[Any]] = {}
        self._states: dict[str, str] = {}
        self._failed: list[str] = []
        self._asked_at = -poll_seconds
        if find_spec("submitit") is None:
            raise self._error("needs submitit: pip install 'multilayer[slurm]'")
        try:
            asked = self._run("sinfo", "--noheader")
        except FileNotFoundError:
            raise self._error("there is no Slurm here: sinfo was not found") from None
        except subprocess.TimeoutExpired:
            raise self._error(f"Slurm has not answered within {timeout:g} s") from None
        if asked.returncode:
            raise self._error(f"Slurm does not answer: {first_line(ValueError(asked.stderr))}")

    def start(self, command: Sequence[str], cwd: Path, logs: Path, n: int) -> None:
        """Submit workers; see `Engine`."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            executor = submitit.AutoExecutor(logs, cluster="slurm")
            executor.update_parameters(**self._parameters(cwd, n))
            # Only plain strings and a function of Python's are pickled. The worker takes the place
            # of submitit's process, so that a signal of Slurm's reaches it, and once.
            words = [*_environment(self.options["cpus_per_task"]), *command]
            jobs = self._answer(lambda: executor.map_array(os.execvp, ["env"] * n, [words] * n))
        except TimeoutError:
            raise self._error(f"sbatch has not answered within {self.timeout:g} s") from None
        except (FailedJobError, FailedSubmissionError) as error:
            raise self._error(f"Slurm refuses the workers: {first_line(error)}") from error
        except (AssertionError, NameError, RuntimeError, ValueError) as error:  # of an option
            raise self._error(first_line(error)) from error
        self._jobs |= {job.job_id: job for job in jobs}
        self._states |= dict.fromkeys((job.job_id for job in jobs), "PENDING")

    def _answer(self, submit: Callable[[], list[submitit.Job[Any]]]) -> list[submitit.Job[Any]]:
        """The jobs that are submitted; submitit waits for `sbatch` without an end.

        Raises:
            TimeoutError: There is no answer in time.
        """
        answer: Future[list[submitit.Job[Any]]] = Future()

        def wait() -> None:
            try:
                answer.set_result(submit())
            except Exception as error:  # it is raised where the answer is waited for
                answer.set_exception(error)

        Thread(target=wait, name="sbatch", daemon=True).start()
        return answer.result(self.timeout)

    def n_alive(self) -> int:
        """How many run, or wait in the queue."""
        if monotonic() - self._asked_at >= self.poll_seconds:
            self._ask()
            self._asked_at = monotonic()
        return len(self._left(_ENDED | {_HELD}))

    def n_waiting(self) -> int:
        """How many wait in the queue, as of the last time that Slurm was asked."""
        return len(self._left(_ENDED | {_HELD, "RUNNING", "COMPLETING"}))

    def last_words(self) -> str:
        """What the last worker that failed printed last, and how Slurm calls its end."""
        if not self._failed:
            return ""
        job_id = self._failed[-1]
        said = last_line(self._jobs[job_id].paths.stdout, but=_OF_SLURM)
        return f"{said} (Slurm's job {job_id}: {self._states[job_id]})".strip()

    def how_ended(self, log: str) -> str:
        """How a worker ended, by Slurm's state of it; see `Engine`."""
        names = {job.paths.stdout.name: job_id for job_id, job in self._jobs.items()}
        state = self._states.get(names.get(Path(log).name, ""), "")
        return state if state in _FAILED else ""

    def stop(self) -> None:
        """Cancel all workers, and wait until they have ended."""
        end = monotonic() + SECONDS_TO_SAVE  # Slurm's KillWait is half of it by default
        self._ask()
        while self._left(_ENDED) and monotonic() < end:
            if left := self._left(_ENDED | {"COMPLETING"}):
                self._query("scancel", "--quiet", *left)
            sleep(min(1.0, self.poll_seconds))
            self._ask()
        for job in self._jobs.values():
            job.paths.submitted_pickle.unlink(missing_ok=True)

    def _parameters(self, cwd: Path, n: int) -> dict[str, Any]:
        """The parameters of the job array, as submitit names them."""
        of_slurm = {"signal": "TERM@90", "requeue": True, "chdir": str(cwd)}
        n_cpus = self.options["cpus_per_task"]
        return {
            "name": "multilayer",
            "stderr_to_stdout": True,
            **{key: self.options[key] for key in ("timeout_min", "cpus_per_task", "mem_gb")},
            "gpus_per_node": self.options["gpus_per_node"],
            "slurm_partition": self.options["partition"],
            "slurm_array_parallelism": n,
            "slurm_setup": list(self.options["setup"]),
            # Which Slurm 22.05 and later do not take from the job.
            "slurm_srun_args": [f"--cpus-per-task={n_cpus}"] if n_cpus else [],
            "slurm_teardown": _REQUEUE,
            "slurm_additional_parameters": of_slurm | dict(self.options["additional_parameters"]),
        }

    def _left(self, over: frozenset[str]) -> list[str]:
        """The jobs that are in none of some states."""
        return [job_id for job_id, state in self._states.items() if state not in over]

    def _ask(self) -> None:
        """Ask Slurm how the workers stand; as before if it does not answer."""
        ids = {job_id.partition("_")[0] for job_id in self._jobs}
        words = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
        answer = self._query("squeue", *words, f"--jobs={','.join(sorted(ids))}") if ids else None
        if answer is None or (answer.returncode and "Invalid job id" not in answer.stderr):
            return
        found = {}
        for line in answer.stdout.splitlines():
            job_id, state, reason = line.split("|", 2)
            found[job_id] = _HELD if reason == _HELD else state
        for job_id, before in self._states.items():
            self._states[job_id] = found.get(job_id, before if before in _ENDED else "GONE")
            if self._states[job_id] in _FAILED and job_id not in self._failed:
                self._failed.append(job_id)

    def _query(self, *words: str) -> subprocess.CompletedProcess[str] | None:
        """Run a command of Slurm's; None if it does not answer, as while Slurm restarts."""
        try:
            return self._run(*words)
        except (OSError, subprocess.TimeoutExpired):
            return None

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm's."""
        return subprocess.run(  # noqa: S603  # our own words
            words, capture_output=True, text=True, timeout=self.timeout, check=False
        )

    def _error(self, message: str) -> UserError:
        """A mistake of the user's, or of the cluster."""
        return UserError(f"hydra.launcher.workers=slurm:{self.n}: {message}")


def _environment(n_cpus: int | None) -> list[str]:
    """The words before a worker's command that set its environment."""
    words = ["env", "SLURM_JOB_NAME=interactive"]  # by which Lightning leaves Slurm's tasks alone
    if n_cpus and "OMP_NUM_THREADS" not in os.environ:
        words.append(f"OMP_NUM_THREADS={n_cpus}")
    return words
