"""Reading a checkpoint back, as plain data from a stranger."""

import os
import warnings
import zipfile
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.files import refusing, whole_file
from multilayer.core.renamed import rename_targets
from multilayer.core.schema import Data, Loss, Model, Optimizer, Scheduler, Threads, Trainer, line
from multilayer.data.table import Columns


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
    checkpoint["multilayer"] = rename_targets(checkpoint["multilayer"])
    return checkpoint


MOST_DEPTH = 50
"""Of the config: lists in lists in lists end Python where its stack is full."""

PLAIN = (dict, list, str, int, float, bool, type(None))
"""What a config is made of. A tuple would become a list later, and hide till then what it names."""

MOST_PROBLEMS = 8
"""Those that are listed."""


class Part(BaseModel):
    """A dict of a checkpoint: what it lists is checked, the rest is let through."""

    model_config = ConfigDict(extra="allow", strict=True, arbitrary_types_allowed=True)


class StoredConfig(Part):
    """What a module is rebuilt from, and trained on with."""

    data: Data
    model: Model
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer


class About(Part):
    """What our modules write beside the weights."""

    config: StoredConfig
    columns: Columns
    data_fingerprint: str
    threads: Threads

    @field_validator("columns", mode="before")
    @classmethod
    def read_columns(cls, value: Any) -> Columns:
        """Build it from plain data."""
        if not isinstance(value, dict):
            raise ValueError("it must be a dict")
        unknown = set(value) - {field.name for field in fields(Columns)}
        if unknown:
            raise ValueError(f"unknown {sorted(map(str, unknown))}: of a later version?")
        columns = TypeAdapter(Columns).validate_python(value)
        check_columns(columns)
        return columns


class Checkpoint(Part):
    """The whole file."""

    epoch: NonNegativeInt
    global_step: NonNegativeInt
    version: str = Field(alias="pytorch-lightning_version", pattern=r"^\d+(\.\d+)+\w*$")
    state_dict: dict[str, Tensor]
    multilayer: About

    @field_validator("state_dict")
    @classmethod
    def check_weights(cls, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Refuse a tensor that has fewer values in the file than it says."""
        for name, value in weights.items():
            if value.untyped_storage().nbytes() < value.nbytes:
                raise ValueError(f"{name} is larger than what is stored of it")
        return weights


def check_columns(columns: Columns) -> None:
    """Raise `ValueError` where columns contradict each other."""
    for name, values in (("features", columns.features), ("classes", columns.classes)):
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must differ from each other")
    if not columns.features or not set(columns.categories) <= set(columns.features):
        raise ValueError("categories must be some of the features")
    n = len(columns.classes)
    if not {"regression": n == 0, "binary": n == 2, "multiclass": n >= 2}[columns.task]:
        raise ValueError(f"{n} classes do not fit the task {columns.task}")


def problems_of(checkpoint: dict[str, Any], n_bytes: int) -> list[str]:
    """What is wrong with the content of a checkpoint file of `n_bytes` bytes, one line each."""
    problem = problem_of_extent(checkpoint.get("multilayer"), n_bytes)
    if problem:
        return [problem]
    try:
        Checkpoint.model_validate(checkpoint)
    except ValidationError as error:
        return [line(each) for each in error.errors()[:MOST_PROBLEMS]]
    return []


def problem_of_extent(content: Any, n_bytes: int) -> str | None:
    """What is wrong with the types, the depth or the size of plain data; None where nothing is.

    Each part takes a byte of the file at least, unless a part holds itself.
    """
    level, n_parts = [content], 0
    for _ in range(MOST_DEPTH):
        n_parts += len(level)
        if n_parts > n_bytes:
            return "a part of it holds itself"
        for part in level:
            if type(part) not in PLAIN:
                return f"its config or columns hold a {type(part).__name__}, which is no plain data"
        level = [
            part
            for node in level
            if isinstance(node, dict | list)
            for part in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return None
    return f"it is nested deeper than {MOST_DEPTH}"


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


def count_minibatches(checkpoint: dict[str, Any]) -> None:
    """Let our minibatches count as given where they were trained on.

    After Ctrl-C or an error within a step, one was given that the weights have not seen; a run that
    is resumed would pass over it.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop:
        n_trained = loop["epoch_loop.batch_progress"]["current"]["processed"]
        for state in loop["state_dict"].get("combined_loader", []):
            if "n_given" in state:
                state["n_given"] = n_trained


def keep_own_storage(checkpoint: dict[str, Any]) -> None:
    """Save of weights and the optimizer's state what is theirs.

    In a stack of lockstep's they are parts of a larger storage, all of which would be saved.
    """
    weights = checkpoint["state_dict"]
    weights.update({name: with_own_storage(value) for name, value in weights.items()})
    for optimizer in checkpoint.get("optimizer_states", []):
        optimizer["state"] = {
            parameter: {name: with_own_storage(value) for name, value in own.items()}
            for parameter, own in optimizer["state"].items()
        }


def with_own_storage(value: Any) -> Any:
    """A tensor, copied where it is a part of a larger one; anything else as it is."""
    is_part = isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes
    return value.clone() if is_part else value
