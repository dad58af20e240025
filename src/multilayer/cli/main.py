"""The `multilayer` command: checks the command line, then has Hydra start the command's task.

torch takes seconds to import: only the tasks import it, after the checks.
"""

import atexit
import logging
import os
import shlex
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

from multilayer.cli import tasks
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
    interrupt_behind,
    of_user,
    print_failure,
    unknown_name,
)
from multilayer.core.text import override_word

if TYPE_CHECKING:
    from multilayer.cli.flags import CommandLine


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
            if stream is not None:  # closed from the start
                stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code, one of `multilayer.cli.exit_codes`."""
    # Figures go to files. Jupyter exports a backend that only its own kernel knows.
    os.environ["MPLBACKEND"] = "agg"
    # On a machine's first run it would say that it has listed the fonts.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # Waiting threads sleep. Busy waiting takes cores from the very threads that are waited for if
    # the machine has other work: a step took up to 18 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _code_of(words)
        if sys.stdout is not None:  # closed from the start
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; Python would complain at its own end too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _code_of(words: list[str]) -> int:
    """Run a command; returns its exit code."""
    if words[:1] == ["help"] and words[1:2] and words[1] in COMMANDS:
        words = [words[1], "--help"]
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
            raise UserError(_no_command(words))
        with signals_raise():
            return _run(words[0], words[1:])
    except (Exception, KeyboardInterrupt) as raised:
        error = of_user(raised) if isinstance(raised, Exception) else raised
        interrupt = error if isinstance(error, KeyboardInterrupt) else interrupt_behind(error)
        if interrupt is not None:
            print(f"multilayer: {describe_interrupt(interrupt)}", file=sys.stderr)
            return exit_code_of(interrupt)
        if not isinstance(error, UserError):
            raise
        print_failure(error)
        return exit_code_of(error)


def _no_command(words: Sequence[str]) -> str:
    """The message for a command line that does not begin with a command."""
    if "=" in words[0] or words[0].startswith("-"):
        line = shlex.join(["multilayer", "train", *words])
        return f"{words[0]}: no command; did you mean {line}?"
    if words[0] in _OTHER_COMMANDS:
        return f"unknown command {words[0]!r}: did you mean {_OTHER_COMMANDS[words[0]]}?"
    return unknown_name("command", words[0], COMMANDS)


def _run(command: str, arguments: list[str]) -> int:
    """Check the command line, then let Hydra compose the config and start the task."""
    from multilayer.cli.flags import CommandLine

    line = CommandLine(command, arguments)
    flags = line.flags
    if command in _POSITIONAL and line.words and "=" not in line.words[0]:
        line.words[0] = override_word(_POSITIONAL[command], line.words[0])
    if flags.config_name or flags.config_path:
        raise UserError("--config-name and --config-path are not for multilayer; see --config-dir")
    if flags.help:
        from multilayer.cli.search_path import folders_of, search_path_in

        named = [f"file://{flags.config_dir}"] if flags.config_dir else []
        print(help_of(command, folders_of([*named, *search_path_in(line.words)])), end="")
        return DONE
    if flags.multirun and command != "train":
        raise UserError(
            f"-m is for multilayer train: give multilayer {command} once for each run or sweep"
        )
    if flags.multirun and (flags.cfg or flags.run):
        raise UserError("-m goes with neither --cfg nor --run: they are for a single run")
    if line.others or not (flags.hydra_help or flags.shell_completion or flags.info):
        from multilayer.cli.check import check_command_line

        config = check_command_line(
            command,
            line.words,
            config_dir=flags.config_dir,
            sweep=flags.multirun,
            options=line.options,
            flags=line.others,
        )
        if command == "work" and not flags.cfg:
            from multilayer.cli.work import worker_arguments

            assert config is not None, "it is no sweep for a sweeper of another kind"
            of_hydra = [word for word in line.words if word.lstrip("+~").startswith("hydra")]
            arguments = worker_arguments(config, of_hydra, flags.config_dir)
            return _start_hydra("train", CommandLine("train", arguments))
    return _start_hydra(command, line)


_OTHER_COMMANDS = {"fit": "train", "run": "train", "test": "evaluate", "validate": "evaluate"}
"""What other programs call a command."""

_POSITIONAL = {"sweeps": "folder", "work": "sweep"}
"""The keys that may be left out before a command's first word."""


def _start_hydra(command: str, line: "CommandLine") -> int:
    """Run the command's task under Hydra; returns the exit code."""
    import hydra._internal.hydra
    from hydra.core.utils import JobReturn
    from hydra.errors import HydraException

    from multilayer.cli.config_loader import CachingConfigLoader
    from multilayer.cli.search_path import search_path_in
    from multilayer.core.config_folder import conf_dir
    from multilayer.reports.summary import SweepFolder, print_sweep
    from multilayer.runs import manifest
    from multilayer.sweeps import close_sessions

    manifest.CONFIG_DIR = line.flags.config_dir
    CachingConfigLoader.further = search_path_in(line.words)
    # Hydra has no public setting for the loader of its configs.
    hydra._internal.hydra.ConfigLoaderImpl = CachingConfigLoader  # type: ignore[attr-defined]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    returned: Any = JobReturn
    returned.return_value = returned.return_value.getter(_value_of)
    sys.argv[1:] = [*line.options, *line.words]  # where Hydra looks for them, in this order
    tasks.COMMANDS_PID = os.getpid()
    SweepFolder.path = None
    PRINTED_FIRST.clear()
    hydra_main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)
    try:
        hydra_main(tasks.TASKS[command])()
    except JobsFailedError:
        return RUN_FAILED
    except HydraException as error:  # a job that cannot be composed: none has started
        raise UserError(f"a job of the sweep: {first_line(error)}") from error
    except BrokenPipeError:
        raise
    except Exception as error:
        if interrupt_behind(error):
            raise
        if "was_printed" not in vars(error):  # not a job's
            if isinstance(error, OSError):  # the folder for the run or the sweep
                raise UserError(str(error)) from error
            if SweepFolder.path is None or isinstance(error, UserError):
                raise
            print_failure(error)  # the launcher's or the sweeper's
            return exit_code_of(error)
        return RUN_FAILED
    finally:
        CachingConfigLoader.further = ()
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
