"""Checkpoint files: plain data, written whole, and checked before anything is built from them."""

import os
import warnings
import zipfile
from dataclasses import fields
from io import BytesIO
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any, BinaryIO

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
)
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.files import refusing, whole_file
from multilayer.core.renamed import with_current_names
from multilayer.core.schema import Components, Threads
from multilayer.core.text import counted
from multilayer.core.value_problems import format_problem
from multilayer.data.table import Columns

_MOST_DEPTH = 50
"""The deepest nesting of the config; deeper lists overflow Python's stack."""

_PLAIN_TYPES = (dict, list, str, int, float, bool, type(None))
"""The types in a config. A tuple would become a list later, and hide until then what it names."""

_MOST_PROBLEMS = 8
"""The number of problems that a message lists."""


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, which appears whole or not at all.

    Raises:
        UserError: It cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint({"epoch": 3}, Path(folder) / "mine.ckpt")
    ...     torch.load(Path(folder) / "mine.ckpt", weights_only=True)
    {'epoch': 3}
    """
    content = BytesIO()  # on a full disk torch would raise its own RuntimeError
    torch.save(checkpoint, content)
    with whole_file(path) as file:
        file.write(content.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The plain data in a checkpoint file of ours.

    Raises:
        UserError: The file is damaged, or is not a checkpoint of ours.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint({"state_dict": {}}, Path(folder) / "other.ckpt")
    ...     read_checkpoint(Path(folder) / "other.ckpt")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    multilayer.core.errors.UserError: ... is not a checkpoint of multilayer: it holds no config
    """
    checkpoint = read_plain(path)
    if "multilayer" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of multilayer: it holds no config")
    metadata, refusal = checkpoint["multilayer"], f"{path} is not as multilayer writes checkpoints:"
    try:
        _check_structure(metadata, path.stat().st_size)
        if isinstance(metadata, dict) and "config" in metadata:
            metadata["config"] = with_current_names(metadata["config"])
        _Checkpoint.model_validate(checkpoint, strict=True)
    except ValidationError as error:
        problems = [str(format_problem(each)) for each in error.errors()[:_MOST_PROBLEMS]]
        raise UserError("\n".join([refusal, *problems])) from error
    except ValueError as error:
        raise UserError(f"{refusal}\n{error}") from error
    return checkpoint


def read_plain(path: Path) -> dict[str, Any]:
    """The plain data in a file of torch's format, whose checksums are right.

    Raises:
        UserError: The file is damaged, or holds more than plain data.
    """
    # zipfile and torch raise all kinds of errors for a damaged or crafted file.
    with refusing(path, "is damaged, or not a checkpoint", Exception), path.open("rb") as file:
        _verify_checksums(file)
        file.seek(0)
        content = _load_plain(file)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint: it holds no dict")
    return content


def _verify_checksums(file: BinaryIO) -> None:
    """Read a file of torch's format, a zip, and compare its checksums.

    torch itself ignores them, and a flipped bit is another weight.
    """
    with zipfile.ZipFile(file) as parts:
        # Otherwise a few bytes could expand to any number of them.
        if sum(part.file_size for part in parts.infolist()) > os.fstat(file.fileno()).st_size:
            raise zipfile.BadZipFile("its parts are larger than the file")
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(
            f"{damaged} in it does not match its checksum; use a copy of the file, or another "
            "checkpoint of the run"
        )


def _load_plain(file: BinaryIO) -> Any:
    """What torch reads from a file; never code."""
    with warnings.catch_warnings():
        # torch asks for reports of pickles that it does not know; these are refused anyway.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:  # its message advises to load such a file all the same
            raise ValueError("it holds more than plain data") from error


def _read_columns(value: Any) -> Columns:
    """Columns from plain data; raises `ValueError` if they contradict each other."""
    if not isinstance(value, dict):
        raise ValueError("it must be a dict")
    unknown = set(value) - {field.name for field in fields(Columns)}
    if unknown:
        raise ValueError(f"unknown {sorted(map(str, unknown))}: of a later version?")
    columns = TypeAdapter(Columns).validate_python(value)
    for name, values in (("features", columns.features), ("classes", columns.classes)):
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must differ from each other")
    if not columns.features or not set(columns.categories) <= set(columns.features):
        raise ValueError("categories must be some of the features")
    n = len(columns.classes)
    if not {"regression": n == 0, "binary": n == 2, "multiclass": n >= 2}[columns.task]:
        raise ValueError(f"{counted(n, 'class')} cannot be of the task {columns.task}")
    return columns


def _check_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Refuse a tensor that has fewer values in the file than its shape says."""
    for name, value in weights.items():
        if value.untyped_storage().nbytes() < value.nbytes:
            raise ValueError(f"{name} is larger than what is stored of it")
    return weights


class _Metadata(BaseModel):
    """What our modules write along with the weights."""

    config: Components
    columns: Annotated[Columns, BeforeValidator(_read_columns)]
    data_fingerprint: str
    threads: Threads


class _Checkpoint(BaseModel, arbitrary_types_allowed=True):
    """The whole file: the listed keys are checked, others are accepted."""

    epoch: NonNegativeInt
    global_step: NonNegativeInt
    version: str = Field(alias="pytorch-lightning_version", pattern=r"^\d+(\.\d+)+\w*$")
    state_dict: Annotated[dict[str, Tensor], AfterValidator(_check_weights)]
    multilayer: _Metadata


def _check_structure(content: Any, n_bytes: int) -> None:
    """Raise `ValueError` if the types, the depth or the size of plain data are not what we write.

    Each part takes at least one byte of the file, unless a part contains itself.
    """
    level, n_parts = [content], 0
    for _ in range(_MOST_DEPTH):
        n_parts += len(level)
        if n_parts > n_bytes:
            raise ValueError("a part of it holds itself")
        for part in level:
            if type(part) not in _PLAIN_TYPES:
                kind = type(part).__name__
                raise ValueError(f"its config or columns hold a {kind}, which is no plain data")
        dicts = [part for part in level if isinstance(part, dict)]
        lists = [part for part in level if isinstance(part, list)]
        level = [*chain(*lists, *(part.values() for part in dicts))]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {_MOST_DEPTH}")
