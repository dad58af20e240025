"""Files of lines of JSON, each written by one process and read by many while it grows.

Appending by several hosts to one file of a network's file system is not atomic. A file has one
writer, so that nothing but its last line can be torn: by a kill or a full disk in the middle of it.
"""

import errno
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from multilayer.core.errors import UserError
from multilayer.core.files import write_error

Line: TypeAlias = dict[str, Any]

VERSION = 1
"""Of the lines; a reader refuses those of a later version."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system without hard links says."""


def encode(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Lines of JSON."""
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of an error from writing which file it is about, and what to do.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise write_error(error, path) from error


def append(path: Path, lines: Iterable[Mapping[str, Any]], *, durable: bool) -> None:
    """Append lines to a file that only this process writes.

    A network's file system shows them to other hosts once the file is closed, as it is here.

    Args:
        path: The file, which must exist.
        lines: What is appended.
        durable: Whether it is to outlive the machine's loss of power.

    Raises:
        UserError: It cannot be written; no torn line is left.
    """
    content = encode(lines)
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write(descriptor, content)
            except BaseException:  # a full disk, or Ctrl-C
                n_written = os.fstat(descriptor).st_size - size
                # Readers go no further than the last whole line.
                os.ftruncate(descriptor, size + content[:n_written].rfind(b"\n") + 1)
                raise
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    """Write all of it."""
    while content:
        content = content[os.write(descriptor, content) :]


def create(path: Path, content: bytes) -> bool:
    """Create a file that must not exist; of several processes that do so at once, one succeeds.

    Returns:
        Whether it is this one.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        _write(descriptor, content)
    finally:
        os.close(descriptor)
    return True


def publish(path: Path, content: bytes) -> bool:
    """Create a file that must not exist, whole and on the disk; see `create`.

    Raises:
        UserError: It cannot be written.
    """
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial")
    with writing(path):
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(partial, path)
            except FileExistsError:
                # NFS asks again if the answer was lost, and then finds the link it has just made.
                return os.path.samefile(partial, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # Still exclusive; but a reader may meet it half-written, and then says so.
                return create(path, content)
            return True
        finally:
            with suppress(OSError):
                partial.unlink()


def damaged(path: Path, number: int, what: str) -> UserError:
    """The error for a line, by its number in the file."""
    return UserError(f"{path}, line {number}: {what}")


def parse(path: Path, content: bytes, first: int = 1) -> list[Line]:
    """The lines of a file, or of a part of it.

    Args:
        path: For the message.
        content: Whole lines.
        first: The number of the first of them.

    Raises:
        UserError: One is not an object of JSON; the message says which.
    """
    lines: list[Line] = []
    for number, text in enumerate(content.split(b"\n")[:-1], first):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise damaged(path, number, f"is damaged: {error}") from error
        if not isinstance(line, dict):
            raise damaged(path, number, "is damaged: not an object")
        lines.append(line)
    return lines


def check_version(path: Path, head: Line) -> None:
    """Raise `UserError` if the first line of a file is not one that this version reads."""
    version = head.get("ledger")
    if not isinstance(version, int) or version < 1:
        raise damaged(path, 1, "is damaged: it does not begin as a file of a ledger does")
    if version > VERSION:
        later = f"of version {version}, and this one reads {VERSION}: update multilayer"
        raise damaged(path, 1, f"was written by a later version of multilayer ({later})")


class GrowingFile:
    """A file to which lines are appended, of which each read returns those that are new.

    Attributes:
        path: Where it is.
        modified: When it was last written or touched, by the file system's clock, in seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modified = 0.0
        self._offset = 0
        self._n_lines = 0

    def read(self) -> list[tuple[int, Line]]:
        """The lines since the last time, with their numbers; one that is torn is left for later.

        Raises:
            UserError: The file cannot be read, or a line is damaged.
        """
        try:
            # Opening the file, not its name, tells a network's file system to ask for the latest.
            with self.path.open("rb", buffering=0) as file:
                found = os.fstat(file.fileno())
                self.modified = found.st_mtime
                if found.st_size == self._offset:
                    return []
                file.seek(self._offset)
                content = file.readall() or b""
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        if found.st_size < self._offset:
            raise damaged(self.path, self._n_lines, "is damaged: the file was cut off here")
        whole = content[: content.rfind(b"\n") + 1]
        lines = parse(self.path, whole, self._n_lines + 1)
        numbered = list(enumerate(lines, self._n_lines + 1))
        if self._n_lines == 0 and lines:
            check_version(self.path, lines[0])
        self._offset += len(whole)
        self._n_lines += len(lines)
        return numbered
