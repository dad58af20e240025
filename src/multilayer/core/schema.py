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
    StrictBool,
    WrapValidator,
)
from pydantic_core import CoreSchema, core_schema

_MOST_THREADS = 1024
"""The most threads that torch is given; a hundred thousand would end the process silently."""

OWN, OTHER = "<own>", "<other"
"""How the names begin that pydantic adds to the place of an error in a type with alternatives."""


@dataclass(frozen=True)
class _Or:
    """Another type for values of a Python type, which alone decides what their error says.

    Attributes:
        python_type: The type of the values.
        other: What is valid of them.
        own: The type of valid values that are not of this Python type, in words for the error.
    """

    python_type: type
    other: Any
    own: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Called by pydantic."""
        own, other = OWN, f"{OTHER}{self.own}"
        return core_schema.tagged_union_schema(
            {own: handler(source), other: handler.generate_schema(self.other)},
            discriminator=lambda value: other if isinstance(value, self.python_type) else own,
        )


_Fraction = Annotated[float, Field(ge=0, lt=1)]
_OpenFraction = Annotated[float, Field(gt=0, lt=1)]
_Share = Annotated[float, Field(ge=0, le=1)]

_Finite = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]

Threads = Annotated[int, Field(ge=1, le=_MOST_THREADS)]
_ThreadsOrAuto = Annotated[Threads, _Or(str, Literal["auto"], "a whole number")]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Epochs = Annotated[
    PositiveInt,
    StrictBool,
    WrapValidator(lambda n, check: n if n == -1 and isinstance(n, int) else check(n)),
]
_Refit = Annotated[
    bool,
    # The epochs, in the config of a refit itself.
    WrapValidator(lambda n, check: n if type(n) is int and n > 0 else check(n)),
]
_DeviceCount = Annotated[
    PositiveInt,
    StrictBool,
    _Or(str, Literal["auto"], "a whole number"),
    _Or(list, list[NonNegativeInt]),
]
_RateOrRates = Annotated[_Fraction, _Or(list, list[_Fraction])]
_BatchSize = Annotated[PositiveInt, _Or(str, Literal["full", "auto"], "a whole number")]
_ClassWeights = Annotated[
    list[NonNegativeFloat], _Or(str, Literal["balanced"], "a list of numbers")
]
_Metric = Annotated[
    str, _Or(dict, Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)])
]
_Limit = Annotated[float, Field(gt=0, le=1), _Or(int, PositiveInt)]


class _Component(BaseModel):
    """A node that an object is built from: the listed keys are checked, others are accepted.

    The defaults stand for keys that a component does not have; the config's are in conf/.
    """

    class_path: str = Field(alias="_target_")


class _Object(BaseModel):
    """A node from which an object comes at once."""

    partial: Literal[False] = Field(False, alias="_partial_")


class _Factory(_Component):
    """A node from which comes what makes an object, once it is given what the object is for."""

    partial: Literal[True] = Field(alias="_partial_")


class _Data(_Component, _Object):
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
    split: Literal["time"] | None = None
    time: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    weight: str | None = None
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


class _Model(_Component, _Object):
    """`model=...`."""

    d_hidden: list[PositiveInt] = []
    activation: str = "relu"
    dropout: _RateOrRates = 0.0
    normalization: Literal["batch", "layer"] | None = None
    initialization: Literal["default", "normal", "kaiming", "xavier"] = "default"
    sigma: NonNegativeFloat = 0.0


class _Loss(_Component, _Object):
    """`loss=...`."""

    label_smoothing: _Fraction = 0.0
    class_weights: _ClassWeights | None = None
    delta: PositiveFloat = 1.0
    levels: Annotated[list[_OpenFraction], Field(min_length=1)] = [0.5]


class _Optimizer(_Factory):
    """`optimizer=...`."""

    lr: _Finite = 0.0
    weight_decay: _Finite = 0.0
    momentum: _Finite = 0.0
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


class _Schedule(_Factory):
    """What makes the schedule of a `scheduler=...`."""

    warmup_fraction: _Fraction = 0.0
    final_fraction: _Share = 0.0
    gamma: PositiveFloat = 0.1
    step_size: PositiveInt = 10
    factor: PositiveFloat = 1.0
    patience: NonNegativeInt = 10
    pct_start: _Fraction = 0.3


class Scheduler(BaseModel, extra="forbid"):
    """`scheduler=...`, in the shape of Lightning's `lr_scheduler` of `configure_optimizers`."""

    interval: Literal["epoch", "step"]
    scheduler: _Schedule


class Trainer(_Component, _Object):
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
    num_sanity_val_steps: Annotated[int, Field(ge=-1)] = 0
    detect_anomaly: StrictBool = False
    profiler: str | dict[str, Any] | None = None


class _Callback(_Object):
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
    scheduler: Scheduler
    trainer: Trainer


class Train(Components, extra="forbid"):
    """The config of `multilayer train`, as those of other commands without other keys."""

    callbacks: dict[str, _Callback | None] = {}
    logger: dict[str, _Object | None] = {}
    module: _Component | None = None
    metrics: list[_Metric] | None = None
    seed: _Seed
    engine: Literal["lightning", "lockstep"]
    compile: Literal["auto", True, False]
    num_threads: _ThreadsOrAuto
    monitor: str
    mode: Literal["min", "max"]
    refit: _Refit
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
    overrides: list[str]
    parent: str | None


class _Sweep(BaseModel, extra="forbid"):
    """`sweep`: how a sweep goes on, which is no part of its runs' configs."""

    retry: Literal["failed", "none"]
    redo: Literal["changed"] | None
    max_failures: PositiveInt | None
    dry_run: bool


class WithSweep(BaseModel):
    """The node of a composed config."""

    sweep: _Sweep


SCHEMAS: dict[str, type[BaseModel]] = {
    "train": Train,
    "evaluate": _Evaluate,
    "predict": _Predict,
    "report": _Report,
    "sweeps": _Sweeps,
    "work": _Work,
}
"""Of each command's config."""
