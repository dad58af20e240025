"""Types and ranges of the config's values, checked before torch is imported.

A value that is not listed here is checked by the class that takes it.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    WrapValidator,
)
from pydantic_core import CoreSchema, core_schema

from multilayer.core.errors import did_you_mean
from multilayer.core.renamed import current_key
from multilayer.core.text import as_override

_MOST_THREADS = 1024
"""The most threads that torch is given; a hundred thousand would end the process silently."""

_TAGS = ("<own>", "<other>")
"""What pydantic adds to the place of an error in a type with alternatives."""


@dataclass(frozen=True)
class _Or:
    """Another type for values of a Python type, which alone decides what their error says."""

    python_type: type
    other: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Called by pydantic."""
        own, other = _TAGS
        return core_schema.tagged_union_schema(
            {own: handler(source), other: handler.generate_schema(self.other)},
            discriminator=lambda value: other if isinstance(value, self.python_type) else own,
        )


_Fraction = Annotated[float, Field(ge=0, lt=1)]
_OpenFraction = Annotated[float, Field(gt=0, lt=1)]
_Share = Annotated[float, Field(ge=0, le=1)]

Threads = Annotated[int, Field(ge=1, le=_MOST_THREADS)]
_ThreadsOrAuto = Annotated[Threads, _Or(str, Literal["auto"])]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Epochs = Annotated[
    PositiveInt,
    WrapValidator(lambda n, check: n if n == -1 and isinstance(n, int) else check(n)),
]
_DeviceCount = Annotated[PositiveInt, _Or(str, Literal["auto"]), _Or(list, list[NonNegativeInt])]
_RateOrRates = Annotated[_Fraction, _Or(list, list[_Fraction])]
_BatchSize = Annotated[PositiveInt, _Or(str, Literal["full"])]
_ClassWeights = Annotated[list[NonNegativeFloat], _Or(str, Literal["balanced"])]
_Limit = Annotated[float, Field(gt=0, le=1), _Or(int, PositiveInt)]


class _Component(BaseModel):
    """A node that an object is built from: the listed keys are checked, others are accepted.

    The defaults stand for keys that a component does not have; the config's are in conf/.
    """

    class_path: str = Field(alias="_target_")


class _Data(_Component):
    """`data=...`."""

    batch_size: _BatchSize = 64
    split_seed: _Seed = 0
    validation_fraction: _OpenFraction = 0.15
    test_fraction: _OpenFraction = 0.15
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: NonNegativeInt = 0
    max_train_rows: PositiveInt | None = None
    path: str | None = None
    train_path: str | None = None
    validation_path: str | None = None
    test_path: str | None = None
    group_column: str | None = None
    missing: list[str | int | float | None] = []
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", " ", "'", "_"] | None = None
    target: str | None = None
    task: Literal["binary", "multiclass", "regression"] | None = None
    numeric_scaling: Literal["standard", "quantile"] = "standard"
    min_frequency: PositiveInt = 1
    max_categories: PositiveInt = 1
    categorical_encoding: Literal["onehot", "embedding"] = "onehot"
    categorical_columns: list[str] = []
    drop_columns: list[str] = []
    stream: bool = False


class _Model(_Component):
    """`model=...`."""

    d_hidden: list[PositiveInt] = []
    activation: str = "relu"
    dropout: _RateOrRates = 0.0
    normalization: Literal["batch", "layer"] | None = None
    initialization: Literal["default", "normal", "kaiming", "xavier"] = "default"
    sigma: NonNegativeFloat = 0.0


class _Loss(_Component):
    """`loss=...`."""

    label_smoothing: _Fraction = 0.0
    class_weights: _ClassWeights | None = None
    delta: PositiveFloat = 1.0


class _Optimizer(_Component):
    """`optimizer=...`."""

    lr: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    momentum: NonNegativeFloat = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    betas: Annotated[list[_Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: NonNegativeFloat = 0.0
    rho: _Share = 0.9
    alpha: NonNegativeFloat = 0.99
    lr_decay: NonNegativeFloat = 0.0
    initial_accumulator_value: NonNegativeFloat = 0.0
    amsgrad: bool = False
    centered: bool = False


class _Schedule(_Component):
    """What makes the schedule of a `scheduler=...`."""

    warmup_fraction: _Fraction = 0.0
    final_fraction: _Share = 0.0
    gamma: PositiveFloat = 0.1
    step_size: PositiveInt = 10
    factor: PositiveFloat = 1.0
    patience: NonNegativeInt = 10
    pct_start: _Fraction = 0.3


class _Scheduler(BaseModel, extra="forbid"):
    """`scheduler=...`, in the shape of Lightning's `lr_scheduler` of `configure_optimizers`."""

    interval: Literal["epoch", "step"]
    scheduler: _Schedule


class _Trainer(_Component):
    """`trainer=...`."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
    devices: _DeviceCount
    strategy: str
    precision: Literal["32-true", "32", 32, "16-mixed", "bf16-mixed", "bf16-true", "64-true"]
    max_epochs: _Epochs | None
    min_epochs: NonNegativeInt | None
    max_steps: _Epochs
    max_time: Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$")] | None
    gradient_clip_val: NonNegativeFloat | None
    accumulate_grad_batches: PositiveInt
    limit_train_batches: _Limit
    limit_val_batches: _Limit = 1.0
    check_val_every_n_epoch: PositiveInt = 1
    log_every_n_steps: PositiveInt = 1


class _Callback(BaseModel):
    """One of `callbacks=...`."""

    monitor: str | None = None
    patience: int = 10
    min_delta: float = 0.0
    folder: str = ""
    every_seconds: NonNegativeFloat = 0.0
    every_n_epochs: PositiveInt | None = None
    n_rows: int = 1
    min_lr: float = 0.0
    max_lr: float = 0.0
    n_rates: int = 1
    n_seeds: int = 1
    fraction: float = 0.0
    max_steps: int = 1


class Components(BaseModel):
    """What a module is rebuilt from and trained with."""

    data: _Data
    model: _Model
    loss: _Loss
    optimizer: _Optimizer
    scheduler: _Scheduler
    trainer: _Trainer


class _Train(Components, extra="forbid"):
    """The config of `multilayer train`, as those of other commands without other keys."""

    callbacks: dict[str, _Callback | None] = {}
    logger: dict[str, dict[str, Any] | None] = {}
    seed: _Seed
    engine: Literal["lightning", "lockstep"]
    compile: Literal["auto", True, False]
    num_threads: _ThreadsOrAuto
    monitor: str
    mode: Literal["min", "max"]
    resume: str | None
    trusted_packages: list[str]


class _UseOfRun(BaseModel, extra="forbid"):
    """What `multilayer evaluate` and `multilayer predict` share."""

    run: str
    device: Literal["auto", "cpu", "gpu", "mps"]
    trusted_packages: list[str]


class _Evaluate(_UseOfRun):
    """The config of `multilayer evaluate`."""

    split: Literal["train", "validation", "test"]
    data: dict[str, str | None]


class _Predict(_UseOfRun):
    """The config of `multilayer predict`."""

    input: str
    output: str
    keep_input_columns: bool


class _Report(BaseModel, extra="forbid"):
    """The config of `multilayer report`."""

    sweep: str
    metric: str | None


class _Sweeps(BaseModel, extra="forbid"):
    """The config of `multilayer sweeps`."""

    folder: str


class _Work(BaseModel, extra="forbid"):
    """The config of `multilayer work`."""

    sweep: str
    n_workers: PositiveInt
    max_failures: PositiveInt | None
    trust: bool
    parent: str | None


class _Sweep(BaseModel, extra="forbid"):
    """`sweep`: how a sweep goes on, which is no part of its runs' configs."""

    retry: Literal["failed", "none"]
    redo: Literal["changed"] | None
    max_failures: PositiveInt | None
    dry_run: bool


class _WithSweep(BaseModel):
    """The node of a composed config."""

    sweep: _Sweep


_SCHEMAS: dict[str, type[BaseModel]] = {
    "train": _Train,
    "evaluate": _Evaluate,
    "predict": _Predict,
    "report": _Report,
    "sweeps": _Sweeps,
    "work": _Work,
}


def type_problems(command: str, config: dict[str, Any]) -> list[str]:
    """The values of a composed config that are of a wrong type or out of range, one line each.

    Those that are missing, "???", are left out.
    """
    try:
        _SCHEMAS[command].model_validate(config, strict=True)
    except ValidationError as error:
        return [format_problem(each) for each in error.errors() if each["input"] != "???"]
    return []


def sweep_problems(node: Any) -> list[str]:
    """The problems with the values of `sweep`, one line each."""
    try:
        _WithSweep.model_validate({"sweep": node}, strict=True)
    except ValidationError as error:
        return [format_problem(each) for each in error.errors()]
    return []


_MOST_CHARACTERS = 200
"""The length at which a value is cut in a message."""


def format_problem(problem: Any) -> str:
    """One problem that pydantic found, as `key=value: what was expected`."""
    keys = [str(part) for part in problem["loc"] if part not in _TAGS]
    if problem["type"] == "extra_forbidden":
        key = ".".join(keys)
        if current_key(key) != key:
            return f"{key}: renamed to {current_key(key)}"
        known = _Scheduler.model_fields if keys[1:] else _Train.model_fields
        return f"{key}: unknown key, {did_you_mean(keys[-1], known)}"
    if problem["type"] == "missing":
        return f"{'.'.join(keys)}: it cannot be left out"
    expected = str(problem["msg"]).removeprefix("Input ").replace("should be", "must be")
    expected = expected.partition(" or instance of ")[0]
    value = "null" if problem["input"] is None else str(problem["input"])
    shown = value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}..."
    return f"{'.'.join(keys)}={shown}: {expected}{_as_name(problem)}"


def _as_name(problem: Any) -> str:
    """A hint for a column whose name Hydra reads as another type, such as a number."""
    section, *keys = problem["loc"]
    value = str(problem["input"])
    if section != "data" or problem["type"] != "string_type" or problem["input"] is None:
        return ""
    name = value.lower() if isinstance(problem["input"], bool) else value
    word = as_override(f"data.{keys[0]}", [name] if keys[1:] else name)
    return f"; a name like it goes in quotes: {word}"
