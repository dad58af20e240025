"""Checkpoint files: written whole, verified when they are read, and plain data only."""

import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from multilayer.errors import UserError
from multilayer.files import whole_file


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
    try:
        with path.open("rb") as file:
            verify(file, path)
            file.seek(0)
            with warnings.catch_warnings():
                # torch asks to be told of pickles that it does not know; these are refused anyway.
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
                content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnpicklingError as error:
        raise UserError(f"{path} is not a checkpoint: it holds more than plain data") from error
    except UserError:
        raise
    except Exception as error:  # torch raises whatever a crafted file makes it stumble over
        raise UserError(f"{path} is not a checkpoint: torch cannot read it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint: it holds no dict")
    return content


def verify(file: BinaryIO, path: Path) -> None:
    """Read a file of torch's format through, which is a zip, and compare its checksums.

    torch itself does not look at them: one flipped bit is another weight.

    Raises `UserError`.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(file) as parts:
            # Else a few bytes could become any number of them.
            if sum(part.file_size for part in parts.infolist()) > size:
                raise zipfile.BadZipFile
            damaged = parts.testzip()
    except Exception as error:  # zipfile raises six kinds of errors for what is no zip
        raise UserError(
            f"{path} is not a checkpoint: it is damaged, cut short, or a file of another kind"
        ) from error
    if damaged is not None:
        raise UserError(
            f"{path} is damaged: {damaged} in it does not match its checksum; use a copy of the "
            "file, or another checkpoint of the run"
        )
