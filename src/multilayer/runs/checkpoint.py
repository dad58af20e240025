"""Reading a checkpoint back, as plain data from a stranger."""

from pathlib import Path
from typing import Any

from multilayer.core.errors import UserError
from multilayer.core.renamed import with_new_names
from multilayer.runs.checkpoint_file import read_plain
from multilayer.runs.checkpoint_schema import problems_of


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The plain data in a checkpoint file.

    Raises `UserError` for a file that is damaged, or no checkpoint of ours.
    """
    checkpoint = read_plain(path)
    if "multilayer" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of multilayer: it holds no config")
    problems = problems_of(checkpoint, path.stat().st_size)
    if problems:
        raise UserError("\n".join([f"{path} is not as multilayer writes checkpoints:", *problems]))
    checkpoint["multilayer"] = with_new_names(checkpoint["multilayer"])
    return checkpoint
