"""Checkpoint files: written whole, verified when they are read, and plain data only."""

import os
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from multilayer.core.errors import UserError
from multilayer.core.files import whole_file
from multilayer.runs.small_file import refusing


class CheckpointFiles(TorchCheckpointIO):
    """How a Trainer writes and reads checkpoints.

    Lightning's own way goes through `$TMPDIR`, does not wait for the disk, and believes whatever
    is in the file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises `UserError` where it cannot be written.
        """
        content = BytesIO()  # a full disk in its midst would be a RuntimeError of torch's own
        torch.save(checkpoint, content)
        with whole_file(Path(path)) as file:
            file.write(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises `UserError` where it is damaged, or holds more than plain data.
        """
        return read_plain(Path(path))


def read_plain(path: Path) -> dict[str, Any]:
    """The plain data in a file of torch's format, whose checksums are right.

    Raises `UserError`.
    """
    # zipfile and torch raise whatever a damaged or crafted file makes them stumble over.
    with refusing(path, "is damaged, or not a checkpoint", Exception), path.open("rb") as file:
        verify(file)
        file.seek(0)
        content = load_plain(file)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint: it holds no dict")
    return content


def verify(file: BinaryIO) -> None:
    """Read a file of torch's format through, which is a zip, and compare its checksums.

    torch itself does not look at them: one flipped bit is another weight.
    """
    with zipfile.ZipFile(file) as parts:
        # Else a few bytes could become any number of them.
        if sum(part.file_size for part in parts.infolist()) > os.fstat(file.fileno()).st_size:
            raise zipfile.BadZipFile("its parts are larger than the file")
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(
            f"{damaged} in it does not match its checksum; use a copy of the file, or another "
            "checkpoint of the run"
        )


def load_plain(file: BinaryIO) -> Any:
    """What torch reads from a file; never code."""
    with warnings.catch_warnings():
        # torch asks to be told of pickles that it does not know; these are refused anyway.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:  # it advises to load such a file all the same
            raise ValueError("it holds more than plain data") from error
