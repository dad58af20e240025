"""How a Trainer writes and reads checkpoints: as the run folder's other files are."""

from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io import TorchCheckpointIO

from multilayer.runs.checkpoint import read_plain, write_checkpoint


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints whole, and reads plain data alone.

    Lightning's own way goes through `$TMPDIR`, does not wait for the disk, and trusts whatever is
    in the file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: It cannot be written.
        """
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            UserError: It is damaged, or holds more than plain data.
        """
        return read_plain(Path(path))
