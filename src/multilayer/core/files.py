"""Files written whole or not at all, and small ones read, which may be damaged or crafted."""

import errno
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from multilayer.core.errors import UserError, first_line

_HINTS_IF_FULL = {
    errno.ENOSPC: "; free some space",
    errno.EDQUOT: "; free some of your quota",
    errno.EFBIG: "; `ulimit -f` says how large a file may be",
}
"""What to do when a disk accepts no more, by the system's error number."""

CHECKS_BEFORE_WRITING: list[Callable[[Path], None]] = []
"""Called with the path of each file that is about to be written, or to appear; raise an error, or
end the process, if this process must not write it. See `multilayer.sweeps.worker`."""

PARTIAL = ".partial."
"""How the names of files begin that are not yet complete; host and process follow."""

_OF_A_PROCESS = re.compile(r"\.partial\.((?P<host>[\w-]+)\.)?(?P<pid>\d{1,9})\.\w*", re.ASCII)
"""What `partial_of` names, with the host and, by earlier versions, without it."""

_LEFT_AFTER = 60.0
"""Seconds after which a file that another host has not completed counts as left over."""

_HINTS = _HINTS_IF_FULL | {errno.ENOENT: "; its folder was removed"}

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C if PyYAML was built with it

_MOST_BYTES = 2**20
"""The size of the largest file read; a run's files have a few thousand bytes."""

_MOST_DEPTH = 50
"""The deepest nesting of YAML; libyaml recurses in C, and a full stack ends the process."""

_MOST_CHARACTERS = 10_000
"""The longest scalar of YAML; an integer of a million digits would take hours to parse."""


def names_stream(path: str | Path) -> bool:
    """Whether a path is that of a pipe, or of a standard stream.

    >>> names_stream("-"), names_stream("/dev/stdin"), names_stream("my.csv")
    (True, True, False)
    """
    is_named = re.fullmatch(r"-|/dev/std(in|out)|(/dev|/proc/self)/fd/\d+", str(path))
    return is_named is not None or Path(path).is_fifo()


def said_path(path: Path) -> str:
    """A path as messages have it: from the working folder; absolute where it is that folder.

    With `hydra.job.chdir=true` a run's folder is the working folder while it trains.
    """
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative == os.curdir else relative


@contextmanager
def whole_file(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes `path` once it is complete and on the disk.

    It is written next to `path`, never in `$TMPDIR`, which may be full or on another disk. The
    folder of `path` is created if it is missing, but no folder above it. After an error nothing is
    left behind, and an earlier file at `path` is unchanged.

    Args:
        path: where the file appears.
        replace: whether an earlier file is replaced. If several processes write with
            `replace=False` at the same time, one succeeds.

    Raises:
        UserError: The file cannot be written.
        FileExistsError: `path` exists, and `replace` is false.
    """
    partial = partial_of(path)
    try:
        check_before_writing(path)
        path.parent.mkdir(exist_ok=True)
        partial.unlink(missing_ok=True)  # a link of that name would be written through
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_before_writing(path)
        (os.replace if replace else _move_if_new)(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        if not replace and isinstance(error, FileExistsError) and path.exists():
            raise
        raise write_error(error, path) from error
    finally:
        with suppress(OSError):  # its folder may be gone
            partial.unlink(missing_ok=True)


def partial_of(path: Path, pid: int | None = None) -> Path:
    """Where a process of this host writes a file until it is complete.

    Args:
        path: The file. The name has only its ending: TensorBoard reads any name with "tfevents" in
            it, even a partial file.
        pid: The process; None for this one.
    """
    return path.with_name(f"{PARTIAL}{_host()}.{pid or os.getpid()}.{path.suffix[1:]}")


@cache
def _host() -> str:
    """This host's name, as it is in names of files."""
    return re.sub(r"[^\w-]", "_", socket.gethostname(), flags=re.ASCII)[:64]


def remove_leftovers(folder: Path, *, below: bool = True) -> None:
    """Remove the partial files of processes that were killed, and of no process that writes.

    Args:
        folder: Where, which was just written to: by the clock of its file system it is known
            whether another host's file is old.
        below: Whether also in the folders in it.
    """
    folders = [folder, *(path for path in folder.glob("*/") if below and not path.is_symlink())]
    for partial in [path for each in folders for path in each.glob(f"{PARTIAL}*")]:
        name = _OF_A_PROCESS.fullmatch(partial.name)
        with suppress(OSError):
            if name and _is_left_over(partial, name["host"], int(name["pid"]), folder):
                partial.unlink()


def _is_left_over(partial: Path, host: str | None, pid: int, folder: Path) -> bool:
    """Whether nobody writes a partial file any more."""
    if host != _host():
        return folder.stat().st_mtime - partial.lstat().st_mtime > _LEFT_AFTER
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def check_before_writing(path: Path) -> None:
    """Have it checked whether this process may write a file."""
    for check in list(CHECKS_BEFORE_WRITING):
        check(path)


def _move_if_new(partial: Path, path: Path) -> None:
    """Move a file to a path that must not exist.

    Raises:
        FileExistsError: It exists.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, where two processes may pass this test
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(partial, path)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, if its file system supports that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_error(error: OSError, path: Path) -> UserError:
    """One line with the file, what the system says, and what to do about it."""
    reason = error.strerror or str(error)
    return UserError(f"{path}: cannot be written: {reason}{_HINTS.get(error.errno or 0, '')}")


def explain_write_error(error: Exception, folder: Path) -> Exception:
    """A `UserError` in place of an error caused by a full disk or by the removal of `folder`.

    Args:
        error: what a library that writes into the folder raised.
        folder: the folder.

    Returns:
        The new error, or `error` itself if it has another cause.
    """
    if not isinstance(error, OSError):
        return error
    name = error.filename if isinstance(error.filename, str | bytes) else folder
    path = Path(os.fsdecode(name))  # TensorBoard's names are bytes
    is_removed = error.errno == errno.ENOENT and path.is_relative_to(folder)
    is_explained = is_removed or error.errno in _HINTS_IF_FULL or not folder.is_dir()
    return write_error(error, path) if is_explained else error


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        UserError: It cannot be written.
    """
    with whole_file(path) as file:
        file.write(text.encode())


def append_text(path: Path, text: str) -> None:
    """Append to a text file in UTF-8; see `append_bytes`.

    Raises:
        UserError: It cannot be written.
    """
    try:
        append_bytes(path, text.encode())
    except OSError as error:
        raise write_error(error, path) from error


def append_bytes(path: Path, content: bytes) -> None:
    """Append to a file that exists; after an error it is as it was before.

    A process that is killed meanwhile has appended all or nothing, unless the system writes it in
    several parts.

    Raises:
        OSError: It cannot be written.
    """
    check_before_writing(path)
    with path.open("r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while content:  # a disk that is nearly full takes a part
                content = content[file.write(content) :]
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def refusing(path: Path, problem: str, *faults: type[Exception]) -> Iterator[None]:
    """Turn errors from reading a file into a `UserError` of one line.

    Args:
        path: the file, which the message names.
        problem: what is wrong with the file if one of `faults` is raised.
        faults: the exceptions that a library raises for damaged files.

    Raises:
        UserError: The file is missing, cannot be read, or raised one of `faults`.
    """
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except faults as error:
        raise UserError(f"{path} {problem}: {first_line(error)}") from error


def read_small(path: Path) -> str:
    """The text of a small file.

    Raises:
        UserError: It cannot be read, is not a regular file (a pipe never ends), is too large or is
            not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file")
    with refusing(path, "is damaged", UnicodeDecodeError):
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(f"{path} is larger than {_MOST_BYTES // 2**20} MiB")
        return content.decode()


def load_yaml(text: str) -> Any:
    """Plain data from YAML.

    The limits are checked first: parsing twice with libyaml takes 1.0 ms for a run's config, and
    once with PyYAML's own composer, which could check them on the way, 1.3 ms.

    Raises:
        ValueError: It is not YAML, or is nothing that our commands write: nested too deeply, or
            with aliases, by which a part may contain itself.
    """
    try:
        depth = 0
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_DEPTH:
                raise yaml.YAMLError(f"nested deeper than {_MOST_DEPTH}")
            if isinstance(event, yaml.AliasEvent):
                raise yaml.YAMLError(f"*{event.anchor} stands for another part")
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MOST_CHARACTERS:
                raise yaml.YAMLError(f"a word of more than {_MOST_CHARACTERS} letters")
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except Exception as error:  # a tag with a wrong value raises whatever Python then does
        raise ValueError(str(error)) from error
