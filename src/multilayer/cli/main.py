"""The `multilayer` command: checks the command line, then hands over to the command's module.

torch takes seconds to import: only the commands' own modules import it, after the checks.
"""

import atexit
import logging
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from multilayer.cli.exit_codes import (
    DONE,
    RUN_FAILED,
    describe_interrupt,
    exit_code_of,
    signals_raise,
)
from multilayer.cli.help import COMMANDS, help_of, usage
from multilayer.core.errors import (
    PRINTED_FIRST,
    JobsFailedError,
    UserError,
    first_line,
    print_failure,
    raise_all,
    unknown_name,
)
from multilayer.core.text import as_override
from multilayer.training.runtime import gc_paused

if TYPE_CHECKING:
    from multilayer.runs.folder import Result
    from multilayer.sweeps import Session


def command(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command, and end the process with its exit code, as Python ends it.

    But leave the memory to the system: Python looks for garbage among half a million objects, and
    frees them one by one, which takes 1 to 2 seconds. A profiler or a debugger, which has yet to
    speak, gets the usual end. tests/cli/test_main.py watches Python's two private functions.
    """
    code = main(arguments)
    if sys.gettrace() or sys.getprofile():
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, and ends executors
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code, one of `multilayer.cli.exit_codes`."""
    # Figures go to files. Jupyter exports a backend that only its own kernel knows.
    os.environ["MPLBACKEND"] = "agg"
    # Waiting threads sleep. Busy waiting takes cores from the very threads that are waited for if
    # the machine has other work: a step took up to 18 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _code_of(words)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; Python would complain at its own end too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _code_of(words: list[str]) -> int:
    """Run a command; returns its exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return DONE
    if words[0] == "-sc":  # Hydra's completion asks so, with the command in the line
        app, _, line = os.environ.get("COMP_LINE", "multilayer train").partition(" ")
        command, _, rest = line.partition(" ")
        if command not in COMMANDS:
            print(*[name for name in COMMANDS if name.startswith(command)])
            return DONE
        os.environ["COMP_LINE"] = f"{app} {rest}"
        words = [command, *words]
    if words[0] == "--version":
        print(f"multilayer {version('multilayer')}")
        return DONE
    try:
        if words[0] not in COMMANDS:
            raise UserError(unknown_name("command", words[0], COMMANDS))
        with signals_raise():
            return _run(words[0], words[1:])
    except UserError as error:
        print_failure(error)
        return exit_code_of(error)
    except KeyboardInterrupt as error:
        print(f"multilayer: {describe_interrupt(error)}", file=sys.stderr)
        return exit_code_of(error)


def _run(command: str, arguments: list[str]) -> int:
    """Check the command line, then let Hydra compose the config and start the task."""
    from hydra._internal.utils import get_args_parser  # Hydra has no public way to its own flags

    flags = get_args_parser().parse_intermixed_args(arguments)
    given = flags.overrides
    if command in _POSITIONAL and flags.overrides and "=" not in flags.overrides[0]:
        folder = shlex.split(as_override(_POSITIONAL[command], flags.overrides[0]))
        flags.overrides = [*folder, *flags.overrides[1:]]
    if flags.config_name or flags.config_path:
        raise UserError("--config-name and --config-path are not for multilayer; see --config-dir")
    if flags.help:
        print(help_of(command, flags.config_dir), end="")
        return DONE
    if flags.multirun and (flags.cfg or flags.run):
        raise UserError("-m goes with neither --cfg nor --run: they are for a single run")
    if not (flags.hydra_help or flags.shell_completion or flags.info):
        from multilayer.cli.check import check_command_line

        config = check_command_line(
            command, flags.overrides, config_dir=flags.config_dir, sweep=flags.multirun
        )
        if command == "work" and not flags.cfg:
            from multilayer.cli.work import worker_arguments

            assert config is not None, "it is no sweep for a sweeper of another kind"
            of_hydra = [word for word in flags.overrides if word.lstrip("+~").startswith("hydra")]
            return _start_hydra("train", worker_arguments(config, of_hydra, flags.config_dir))
    # Hydra itself wants its flags before the overrides.
    options = [word for word in arguments if word not in given]
    return _start_hydra(command, options + flags.overrides)


_POSITIONAL = {"sweeps": "folder", "work": "sweep"}
"""The keys that may be left out before a command's first word."""


def _start_hydra(command: str, arguments: list[str]) -> int:
    """Run the command's task under Hydra; returns the exit code."""
    import hydra._internal.hydra
    from hydra.core.utils import JobReturn
    from hydra.errors import HydraException

    from multilayer.cli.compose import CachingConfigLoader
    from multilayer.core.config_folder import conf_dir
    from multilayer.reports.summary import SweepFolder, print_sweep
    from multilayer.sweeps import close_sessions

    # Hydra has no public setting for the loader of its configs.
    hydra._internal.hydra.ConfigLoaderImpl = CachingConfigLoader  # type: ignore[attr-defined]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    returned: Any = JobReturn
    returned.return_value = returned.return_value.getter(_value_of)
    sys.argv[1:] = arguments  # where Hydra looks for them
    SweepFolder.path = None
    PRINTED_FIRST.clear()
    hydra_main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)
    try:
        hydra_main(_TASKS[command])()
    except JobsFailedError:
        return RUN_FAILED
    except HydraException as error:  # a job that cannot be composed: none has started
        raise UserError(f"a job of the sweep: {first_line(error)}") from error
    except BrokenPipeError:
        raise
    except Exception as error:
        if "was_printed" not in vars(error):  # not a job's
            if isinstance(error, OSError):  # the folder for the run or the sweep
                raise UserError(str(error)) from error
            if SweepFolder.path is None or isinstance(error, UserError):
                raise
            print_failure(error)  # the launcher's or the sweeper's
            return exit_code_of(error)
        return RUN_FAILED
    finally:
        close_sessions()
        if SweepFolder.path is not None:
            print_sweep(SweepFolder.path)
    return DONE


def _value_of(job: Any) -> Any:
    """The return value of one of Hydra's jobs; raises the error that ended it.

    That error has been printed. Hydra would add the overrides, with the secrets in them.
    """
    if isinstance(job._return_value, Exception):
        raise job._return_value
    return job._return_value


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
    folder, values = Path(hydra.runtime.output_dir), to_plain(config)
    with _errors_printed(), _ready_to_train(folder):
        result = train(values, folder, recorded_overrides(hydra))
    print_run(folder, result.manifest, result.metrics)
    if result.manifest["status"] == "diverged":
        raise SystemExit(RUN_FAILED)
    return _value(values, result)


def _train_job(config: Any, hydra: Any) -> float | None:
    """A job of a sweep; None if it is not to begin any more, or another process trains it."""
    from multilayer.runs.config import problems_with, recorded_overrides, to_plain
    from multilayer.runs.console import print_job
    from multilayer.runs.folder import record_failure
    from multilayer.sweeps import outcome_of

    number, folder = hydra.job.num, Path(hydra.runtime.output_dir)
    values, overrides = to_plain(config), recorded_overrides(hydra)
    with _errors_printed(number), _ready_to_train(folder):
        session = _session_of(hydra)
        if session is not None:
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
            # A run's own hint would have the sweep's jobs go on from this one.
            error.__notes__ = [f"run folder: {os.path.relpath(folder, hydra.runtime.cwd)}"]
            if folder.is_dir():  # it may have been removed
                record_failure(folder, values, overrides, error)
            if session is not None:
                session.record({number: outcome_of(values["monitor"], error)})
            raise
        if session is not None:
            session.record({number: outcome_of(values["monitor"], result)})
    print_job(number, result.manifest, result.metrics)
    return _value(values, result)


def _session_of(hydra: Any) -> "Session | None":
    """What this process does of the sweep of a job; None where its sweeper keeps no ledger."""
    from multilayer.composing.sweep_jobs import sweep_folder
    from multilayer.sweeps import Session

    keeps_ledger = str(hydra.sweeper._target_).startswith("hydra_plugins.multilayer_")
    return Session.of(sweep_folder(hydra)) if keeps_ledger else None


def _value(config: dict[str, Any], result: "Result") -> float:
    """What a sweeper gets as the value of a run."""
    from multilayer.runs.folder import objective

    return objective(config["monitor"], result.metrics)


@contextmanager
def _ready_to_train(folder: Path) -> Iterator[None]:
    """What any training needs; a folder that stays empty is removed."""
    sys.path.append(os.getcwd())  # where a project's own networks and data are
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
    """Train one run as a plain config says, by its engine, and leave its run folder.

    Args:
        config: the composed config.
        folder: the run folder.
        overrides: what the config was composed from, for the manifest.
        quiet: whether to show no progress, and no summary of the network, as in a sweep.

    Returns:
        How it ended.

    Raises:
        UserError: The config or the data is wrong; nothing was written yet.
    """
    with gc_paused():
        if config["engine"] == "lockstep":
            from multilayer.lockstep.train import train_stack_of_one as train_run
        else:
            from multilayer.training.run import train as train_run

    return train_run(config, folder, overrides, quiet=quiet)


def _evaluate(config: Any) -> None:
    """Print the metrics of a run."""
    from multilayer.runs.config import to_plain
    from multilayer.runs.console import print_metrics
    from multilayer.runs.folder import find_checkpoint

    with _errors_printed():
        find_checkpoint(config.run)
        _trust_working_folder(config)
        with gc_paused():
            from multilayer.training.evaluate import evaluate

        evaluation = evaluate(to_plain(config))
    print_metrics({evaluation.rows: evaluation.metrics})


def _predict(config: Any) -> None:
    """Write the predictions, and print how many."""
    from multilayer.data.table_files import check_input, check_output
    from multilayer.runs.config import to_plain
    from multilayer.runs.folder import find_checkpoint

    with _errors_printed():
        find_checkpoint(config.run)
        check_input(config.input)
        check_output(config.output)
        _trust_working_folder(config)
        with gc_paused():
            from multilayer.training.predict import predict

        table = predict(to_plain(config))
    print(f"{table.height} predictions in {config.output}")


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


_TASKS: dict[str, Callable[[Any], Any]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "report": _report,
    "sweeps": _sweeps,
}


@contextmanager
def _errors_printed(job: int | None = None) -> Iterator[None]:
    """Print an error at once; then exit, or in a sweep leave the failed job to Hydra."""
    try:
        yield
    except Exception as error:
        print_failure(error, job)
        if job is None:
            raise SystemExit(exit_code_of(error)) from error
        raise


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove the folders that Hydra made if the run does not begin: a signal may come first."""
    try:
        yield
    finally:
        with suppress(OSError):  # one that is not empty, or is gone
            for empty in (folder, folder.parent, folder.parent.parent):
                empty.rmdir()
