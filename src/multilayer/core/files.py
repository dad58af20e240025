"""Writing files: a file appears whole or not at all, and stays after a power cut."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from multilayer.core.errors import UserError

FULL = {
    errno.ENOSPC: "; free some space",
    errno.EDQUOT: "; free some of your quota",
    errno.EFBIG: "; `ulimit -f` says how large a file may be",
}
"""What to do where a disk takes no more."""

HINTS = FULL | {errno.ENOENT: "; its folder was removed"}


@contextmanager
def whole_file(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` at the end, once it is on the disk.

    It is written next to `path`, never in `$TMPDIR`, which may be full or on another disk. The
    folder of `path` is made if it is missing, but no folder above it. After an error nothing is
    left, and a file that was there before stays.

    replace: False to raise `FileExistsError` where `path` exists: of several processes that write
        it at one instant, one succeeds.

    Raises `UserError` where the file cannot be written.
    """
    # TensorBoard takes names with "tfevents" for its own, even while the file is written.
    partial = path.with_name(f".partial.{os.getpid()}.{path.suffix[1:]}")
    try:
        path.parent.mkdir(exist_ok=True)
        partial.unlink(missing_ok=True)  # a link of that name would be written through
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        (os.replace if replace else put_new)(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        if not replace and isinstance(error, FileExistsError) and path.exists():
            raise
        raise cannot_write(error, path) from error
    finally:
        with suppress(OSError):  # its folder may be gone
            partial.unlink(missing_ok=True)


def put_new(partial: Path, path: Path) -> None:
    """Give a file its name, which no other file may have.

    Raises `FileExistsError`.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, where two may pass the test at once
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(partial, path)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where its file system knows how."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(error: OSError, path: Path) -> UserError:
    """The error in one line: the file, what the system says, and what to do about it."""
    reason = error.strerror or str(error)
    return UserError(f"{path}: cannot be written: {reason}{HINTS.get(error.errno or 0, '')}")


def in_one_line(error: Exception, folder: Path) -> Exception:
    """An error of whatever writes into a folder, in one line if the disk is full or it is gone."""
    if not isinstance(error, OSError):
        return error
    name = error.filename if isinstance(error.filename, str | bytes) else folder
    path = Path(os.fsdecode(name))  # TensorBoard's are bytes
    is_removed = error.errno == errno.ENOENT and path.is_relative_to(folder)
    can_be_mended = is_removed or error.errno in FULL or not folder.is_dir()
    return cannot_write(error, path) if can_be_mended else error


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises `UserError` where it cannot be written.
    """
    with whole_file(path) as file:
        file.write(text.encode())
