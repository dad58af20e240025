"""`-` for the standard input and output of `predict` and `evaluate`, as CSV."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from multilayer.core.errors import UserError
from multilayer.core.files import names_stream, said_path

STREAM = "-"
"""The name of the standard input, or output."""


@contextmanager
def files_for_streams(
    source: str | None, output: str | None = None, *, key: str = "input"
) -> Iterator[list[Any]]:
    """Files in place of the standard input and output, which are read several times.

    Args:
        source: The file to read; `-` for the standard input, which is copied first.
        output: The file to write; `-` for the standard output, to which it is copied in the end.
        key: The one that names the file to read.

    Yields:
        The names of the files; None for one that was None.

    Raises:
        UserError: A stream that is named is closed, or it has another name than `-`.
    """
    for name, stream, words, own in (
        (source, sys.stdin, "the standard input", key),
        (output, sys.stdout, "the standard output", "output"),
    ):
        if name not in (None, STREAM) and names_stream(name):
            raise UserError(f"{own}={name}: not a file; {own}={STREAM} is {words}, as CSV")
        if name == STREAM and stream is None:
            raise UserError(f"{words} is closed; name a file instead")
    if STREAM not in (source, output):
        yield [source, output]
        return
    with TemporaryDirectory(prefix="multilayer-") as folder:
        read = str(Path(folder, "stdin.csv")) if source == STREAM else source
        written = str(Path(folder, "stdout.csv")) if output == STREAM else output
        if source == STREAM:
            with Path(folder, "stdin.csv").open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        yield [read, written]
        if output == STREAM:
            sys.stdout.flush()
            with Path(folder, "stdout.csv").open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextmanager
def standard_input_named(source: str | None, read: str | None) -> Iterator[None]:
    """Errors that say "the standard input" rather than the file that is read in its place.

    Args:
        source: The file that the user named.
        read: The one that `files_for_streams` has for it.
    """
    try:
        yield
    except UserError as error:
        if source == STREAM and read is not None:
            text = str(error)
            for name in (read, said_path(Path(read)), Path(read).name):
                text = text.replace(name, "the standard input")
            error.args = (text,)
        raise
