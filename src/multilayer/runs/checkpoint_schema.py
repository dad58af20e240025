"""What must stand in a checkpoint, checked before anything is built from it: it may be crafted."""

from dataclasses import fields
from typing import Any

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

from multilayer.core.schema import Data, Loss, Model, Optimizer, Scheduler, Threads, Trainer, line
from multilayer.data.table import Columns

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
