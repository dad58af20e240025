"""What each command does once Hydra has composed its config: the tasks that Hydra starts.

torch takes seconds to import: a task imports what it needs, when it is called.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, Any

from multilayer.cli.exit_codes import RUN_FAILED, exit_code_of
from multilayer.cli.pipes import STREAM, files_for_streams, standard_input_named
from multilayer.core.errors import interrupt_behind, of_user, print_failure, raise_all
from multilayer.core.text import counted, name_jobs
from multilayer.training.runtime import gc_paused, using_threads

if TYPE_CHECKING:
    from multilayer.runs.folder import Result
    from multilayer.sweeps import Session


COMMANDS_PID: int | None = None
"""The process of the command; None in one that a launcher has started."""

_WATCH_SECONDS = 2.0
"""How often such a process looks whether its parent lives."""


def _train(config: Any) -> float | None:
    """One run, in the folder that Hydra chose; returns the monitored metric to the sweeper."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from multilayer.runs.config import recorded_overrides, to_plain

    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return _train_job(config, hydra)
    from multilayer.runs.console import print_run

    sys.argv[1:1] = ["train"]  # Lightning starts DDP's other processes with it
    folder, values = Path(hydra.runtime.output_dir), _from_start(to_plain(config), hydra)
    with _errors_printed(), _ready_to_train(folder, hydra.runtime.cwd):
        result = train(values, folder, recorded_overrides(hydra))
    print_run(folder, result)
    if "diverged" in [each.manifest["status"] for each in (result, result.refit) if each]:
        raise SystemExit(RUN_FAILED)
    return _value(values, result)


def _train_job(config: Any, hydra: Any) -> float | None:
    """A job of a sweep; None if it is not to begin any more, or another process trains it."""
    from multilayer.composing.sweep_jobs import config_dir_of, trusts_working_folder
    from multilayer.runs import manifest
    from multilayer.runs.config import problems_with, recorded_overrides, to_plain
    from multilayer.runs.console import print_job
    from multilayer.runs.folder import record_failure
    from multilayer.sweeps import outcome_of

    is_elsewhere = os.getpid() != COMMANDS_PID
    if is_elsewhere:
        _end_with_parent()
        manifest.CONFIG_DIR = config_dir_of(hydra)
    number, folder = hydra.job.num, Path(hydra.runtime.output_dir)
    values, overrides = _from_start(to_plain(config), hydra), recorded_overrides(hydra)
    own_modules = hydra.runtime.cwd if trusts_working_folder(hydra) else None
    with _errors_printed(number), _ready_to_train(folder, own_modules):
        session = _session_of(hydra)
        if session is not None:
            if is_elsewhere:
                session.max_failures = config.sweep.max_failures
            if not session.take([number], hydra.output_subdir):
                return session.ledger.jobs[number].value
            if session.goes_on(number):
                from multilayer.training.resume import config_to_go_on

                values = config_to_go_on(values, folder)
            folder.mkdir(parents=True, exist_ok=True)  # what was in the way is elsewhere now
            if hydra.job.chdir:
                os.chdir(folder)
        logging.getLogger("multilayer").setLevel(logging.WARNING)
        try:
            raise_all(problems_with("train", values, in_sweep=True))  # only one job was checked
            result = train(values, folder, overrides, quiet=True)
        except Exception as error:
            if interrupt := interrupt_behind(error):
                raise interrupt from None
            # A run's own hint would have the sweep's jobs go on from this one.
            error.__notes__ = [f"run folder: {os.path.relpath(folder, hydra.runtime.cwd)}"]
            if session is not None:
                session.record({number: outcome_of(values["monitor"], error)})
            if folder.is_dir():  # it may have been removed
                record_failure(folder, values, overrides, error)
            raise
        if session is not None:
            session.record({number: outcome_of(values["monitor"], result)})
    print_job(number, result.manifest, result.metrics)
    return _value(values, result)


def _from_start(values: dict[str, Any], hydra: Any) -> dict[str, Any]:
    """A config whose paths start from where the command was started, if a run's folder is entered.

    Args:
        values: The config, as plain data.
        hydra: Hydra's own node.
    """
    if not hydra.job.chdir:
        return values
    from multilayer.runs.config import with_absolute_paths

    resume = values["resume"]
    at = hydra.runtime.cwd
    resumed = None if resume is None else os.path.abspath(os.path.join(at, resume))
    return with_absolute_paths(values, at) | {"resume": resumed}


@cache  # once in a process
def _end_with_parent() -> None:
    """End this process, which a launcher such as joblib has started, once its parent has ended."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            sleep(_WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=look, name="parent", daemon=True).start()


def _session_of(hydra: Any) -> "Session | None":
    """What this process does of the sweep of a job; None where its sweeper keeps no ledger."""
    from multilayer.composing.sweep_jobs import keeps_ledger, sweep_folder
    from multilayer.sweeps import Session

    return Session.of(sweep_folder(hydra)) if keeps_ledger(hydra) else None


def _value(config: dict[str, Any], result: "Result") -> float:
    """What a sweeper gets as the value of a run."""
    from multilayer.runs.folder import objective

    return objective(config["monitor"], result.metrics)


@contextmanager
def _ready_to_train(folder: Path, own_modules: str | None) -> Iterator[None]:
    """What any training needs; a folder that stays empty is removed.

    Args:
        folder: The run folder.
        own_modules: The folder with a project's own networks and data; None if it is not trusted.
    """
    if own_modules is not None:
        sys.path.append(own_modules)
    with _removed_if_empty(folder):
        with gc_paused():
            from multilayer.training.runtime import quiet_lightning

        quiet_lightning()
        yield


def train(
    config: dict[str, Any],
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> "Result":
    """Train one run, as `multilayer train` does, and leave its run folder.

    With `refit=true` its refit is trained too. All random numbers follow from the config's seed;
    torch's, numpy's and Python's are seeded. torch's number of threads is afterwards what it was.

    Args:
        config: of the run, as `compose` gives it.
        folder: the run folder; it must not hold a run yet.
        overrides: what the config was composed from, for the manifest.
        quiet: whether to show no progress, and no summary of the network, as in a sweep.

    Returns:
        How it ended: its metrics, by split and name, and its manifest.

    Raises:
        UserError: The config, the data or the folder is wrong; nothing was written yet.

    >>> import tempfile, multilayer
    >>> config = multilayer.compose("train", ["data=iris", "trainer.max_epochs=1"])
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     result = multilayer.train(config, f"{parent}/run", quiet=True)
    >>> result.manifest["status"], list(result.metrics)
    ('done', ['train', 'validation', 'test'])
    """
    from multilayer.runs.config import check_config

    config = check_config(config)
    with gc_paused():
        import torch

        if config["engine"] == "lockstep":
            from multilayer.lockstep.train import train_stack_of_one as train_run
        else:
            from multilayer.training.run import train as train_run
        from multilayer.training.refit import train_with_refit

    whole = partial(train_with_refit, train_run) if config["refit"] is True else train_run
    with using_threads(torch.get_num_threads()):
        return whole(config, folder, overrides, quiet=quiet)


def _evaluate(config: Any) -> None:
    """Print the metrics of a run."""
    from multilayer.runs.config import to_plain
    from multilayer.runs.console import print_metrics
    from multilayer.runs.folder import find_checkpoint

    values = to_plain(config)
    given = values["data"]["path"]
    with (
        files_for_streams(given, key="data.path") as (path, _),
        _errors_printed(),
        standard_input_named(given, path),
    ):
        find_checkpoint(config.run)
        _trust_working_folder(config)
        with gc_paused():
            from multilayer.training.evaluate import evaluate

        evaluation = evaluate(values | {"data": {"path": path}})
    rows = evaluation.rows
    if given == STREAM:
        rows = rows.replace(f" of {path}", " of the standard input")
    print_metrics({rows: evaluation.metrics})


def _predict(config: Any) -> None:
    """Write the predictions, and print how many."""
    from multilayer.data.table_files import check_input, check_output
    from multilayer.runs.config import to_plain
    from multilayer.runs.folder import find_checkpoint

    values = to_plain(config)
    with (
        files_for_streams(config.input, config.output) as (source, output),
        _errors_printed(),
        standard_input_named(config.input, source),
    ):
        find_checkpoint(config.run)
        check_input(source, "input")
        check_output(output)
        _trust_working_folder(config)
        with gc_paused():
            from multilayer.training.predict import predict

        table = predict(values | {"input": source, "output": output})
    is_file = config.output != STREAM
    where = config.output if is_file else "the standard output"
    print(
        f"{counted(table.height, 'prediction')} in {where}",
        file=sys.stdout if is_file else sys.stderr,
    )


def _report(config: Any) -> None:
    """Write the report of a sweep, and print its summary."""
    from multilayer.reports.sweep import find_sweep
    from multilayer.runs.config import to_plain

    with _errors_printed(), gc_paused():  # reading many small files too: a tenth of the time
        find_sweep(config.sweep)
        from multilayer.reports.report import report

        report(to_plain(config))


def _sweeps(config: Any) -> None:
    """Print how far the sweeps below a folder are."""
    from multilayer.reports.sweep_list import list_sweeps, print_sweeps

    with _errors_printed(), gc_paused():
        rows = list_sweeps(Path(config.folder))
    print_sweeps(rows)
    if not rows:
        print(f"no sweep with a ledger below {config.folder}")


def _trust_working_folder(config: Any) -> None:
    """Let classes be imported from the working folder if the user trusts any package."""
    if config.trusted_packages:
        sys.path.append(os.getcwd())


TASKS: dict[str, Callable[[Any], Any]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "report": _report,
    "sweeps": _sweeps,
    "work": _train,  # the jobs of a sweep; see `multilayer.cli.work`
}


@contextmanager
def _errors_printed(job: int | None = None) -> Iterator[None]:
    """Print an error at once; then exit, or in a sweep leave the failed job to Hydra."""
    try:
        yield
    except Exception as raised:
        if interrupt := interrupt_behind(raised):
            raise interrupt from None
        error = of_user(raised)
        print_failure(error, None if job is None else name_jobs([job]))
        if job is None:
            raise SystemExit(exit_code_of(error)) from raised
        if error is not raised:
            raise error from raised
        raise


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove the folders that Hydra made if the run does not begin: a signal may come first."""
    try:
        yield
    finally:
        here = Path.cwd()
        with suppress(OSError):  # one that is not empty, or is gone
            for empty in (folder, folder.parent, folder.parent.parent):
                if empty not in (here, *here.parents):
                    empty.rmdir()
