"""Types and ranges of the config's values, checked before torch is imported.

A value that is not listed here is checked by the class that takes it.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
)

from multilayer.core.device import hidden_size_problem
from multilayer.core.errors import did_you_mean
from multilayer.core.renamed import current_key
from multilayer.core.text import as_override

_Fraction = Annotated[float, Field(ge=0, lt=1)]
_OpenFraction = Annotated[float, Field(gt=0, lt=1)]


_Epochs = Annotated[
    Annotated[PositiveInt, Tag("number")] | Annotated[Literal[-1], Tag("endless")],
    Discriminator(lambda value: "endless" if value == -1 else "number"),
]
_DeviceCount = Annotated[
    Annotated[PositiveInt, Tag("number")]
    | Annotated[Literal["auto"], Tag("word")]
    | Annotated[list[NonNegativeInt], Tag("list")],
    Discriminator(
        lambda value: {str: "word", list: "list"}.get(type(value), "number"),
    ),
]
_RateOrRates = Annotated[
    Annotated[_Fraction, Tag("number")] | Annotated[list[_Fraction], Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "number"),
]
_BatchSize = Annotated[
    Annotated[PositiveInt, Tag("number")] | Annotated[Literal["full"], Tag("word")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "number"),
]

_MOST_THREADS = 1024
"""The most threads that torch is given; a hundred thousand would end the process silently."""

Threads = Annotated[int, Field(ge=1, le=_MOST_THREADS)]
_ThreadsOrAuto = Annotated[
    Annotated[Threads, Tag("number")] | Annotated[Literal["auto"], Tag("word")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "number"),
]

_ClassWeights = Annotated[
    Annotated[list[NonNegativeFloat], Tag("list")] | Annotated[Literal["balanced"], Tag("word")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "list"),
]


_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Limit = Annotated[
    Annotated[PositiveInt, Tag("number")] | Annotated[float, Field(gt=0, le=1), Tag("share")],
    Discriminator(lambda value: "share" if isinstance(value, float) else "number"),
]


class _Section(BaseModel):
    """A config node: the listed keys are checked, others are accepted.

    The defaults stand for keys that a component does not have; the config's are in conf/.
    """

    model_config = ConfigDict(extra="allow", strict=True)


class _Component(_Section):
    """A node that an object is built from."""

    class_path: str = Field(alias="_target_")


class Data(_Component):
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


class Model(_Component):
    """`model=...`."""

    d_hidden: list[PositiveInt] = []
    activation: str = "relu"
    dropout: _RateOrRates = 0.0
    normalization: Literal["batch", "layer"] | None = None
    initialization: Literal["default", "normal", "kaiming", "xavier"] = "default"
    sigma: NonNegativeFloat = 0.0


class Loss(_Component):
    """`loss=...`."""

    label_smoothing: _Fraction = 0.0
    class_weights: _ClassWeights | None = None
    delta: PositiveFloat = 1.0


class Optimizer(_Component):
    """`optimizer=...`."""

    lr: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    momentum: NonNegativeFloat = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    betas: Annotated[list[_Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: NonNegativeFloat = 0.0
    rho: Annotated[float, Field(ge=0, le=1)] = 0.9
    alpha: NonNegativeFloat = 0.99
    lr_decay: NonNegativeFloat = 0.0
    initial_accumulator_value: NonNegativeFloat = 0.0
    amsgrad: bool = False
    centered: bool = False


class _Schedule(_Component):
    """What makes the schedule of a `scheduler=...`."""

    warmup_fraction: _Fraction = 0.0
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    gamma: PositiveFloat = 0.1
    step_size: PositiveInt = 10
    factor: PositiveFloat = 1.0
    patience: NonNegativeInt = 10
    pct_start: _Fraction = 0.3


class Scheduler(_Section):
    """`scheduler=...`, in the shape of Lightning's `lr_scheduler` of `configure_optimizers`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    interval: Literal["epoch", "step"]
    scheduler: _Schedule


class Trainer(_Component):
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


class _Callback(_Section):
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


class _Command(_Section):
    """The whole config of a command, which has no other keys."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _TrainConfig(_Command):
    """The config of `multilayer train`."""

    data: Data
    model: Model
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
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


class _EvaluateConfig(_Command):
    """The config of `multilayer evaluate`."""

    run: str
    split: Literal["train", "validation", "test"]
    data: dict[str, str | None]
    device: Literal["auto", "cpu", "gpu", "mps"]
    trusted_packages: list[str]


class _PredictConfig(_Command):
    """The config of `multilayer predict`."""

    run: str
    input: str
    output: str
    keep_input_columns: bool
    device: Literal["auto", "cpu", "gpu", "mps"]
    trusted_packages: list[str]


class _ReportConfig(_Command):
    """The config of `multilayer report`."""

    sweep: str
    metric: str | None


_SCHEMAS: dict[str, type[_Section]] = {
    "train": _TrainConfig,
    "evaluate": _EvaluateConfig,
    "predict": _PredictConfig,
    "report": _ReportConfig,
}

_EXTRAS = {"MLFlowLogger": "mlflow", "WandbLogger": "wandb"}
"""The extra that installs a logger's package, by the logger's class."""


def problems_in(command: str, config: dict[str, Any], *, in_sweep: bool = False) -> list[str]:
    """The problems with the values of a composed config, one line each."""
    try:
        _SCHEMAS[command].model_validate(_without_missing(config))
    except ValidationError as error:
        # Composing the config reports values that are "???", with a better message.
        return [
            format_problem(problem) for problem in error.errors() if not _is_unset(problem, config)
        ]
    if command != "train":
        return []
    return [
        *_missing_extras(config.get("logger") or {}),
        *_missing_path(config["data"]),
        *filter(None, [hidden_size_problem(config)]),
        *_process_problems(config["trainer"], in_sweep),
    ]


def _missing_path(data: dict[str, Any]) -> list[str]:
    """The problem with a table whose file is not named."""
    if "train_path" in data and data["path"] is None and data["train_path"] is None:
        return ["data.path: missing, give it as data.path=VALUE"]
    return []


def _process_problems(trainer: dict[str, Any], in_sweep: bool) -> list[str]:
    """The problems with training one run in several processes."""
    strategy, devices = str(trainer["strategy"]), trainer["devices"]
    if strategy.endswith(("_spawn", "_fork", "_notebook")):
        # Lightning leaves the state of callbacks, such as the best weights, in other processes.
        return [f"trainer.strategy={strategy}: its results are lost; use trainer=ddp"]
    if in_sweep and (devices != 1 or not strategy.startswith(("auto", "single"))):
        # The second process would start the whole sweep again, and the results be wrong.
        return [
            f"trainer.strategy={strategy} trainer.devices={devices}: several processes are not for "
            "a sweep; train such runs one by one, or each with trainer.devices=1"
        ]
    return []


def _without_missing(node: Any) -> Any:
    """The config without its missing values, which are reported separately."""
    if isinstance(node, dict):
        return {key: _without_missing(value) for key, value in node.items() if value != "???"}
    return node


def _is_unset(problem: Any, config: dict[str, Any]) -> bool:
    """Whether a key is missing because its value is "???", rather than deleted with `~`."""
    node: Any = config
    for part in problem["loc"]:
        node = node.get(part) if isinstance(node, dict) else None
    return bool(node == "???")


_MOST_CHARACTERS = 200
"""The length at which a value is cut in a message."""


def format_problem(problem: Any) -> str:
    """One problem that pydantic found, as `key=value: what was expected`."""
    tags = ("number", "list", "word", "share", "endless")
    keys = [str(part) for part in problem["loc"] if part not in tags]
    if problem["type"] == "extra_forbidden":
        key = ".".join(keys)
        if current_key(key) != key:
            return f"{key}: renamed to {current_key(key)}"
        known = Scheduler.model_fields if keys[1:] else _TrainConfig.model_fields
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


def _missing_extras(loggers: dict[str, Any]) -> list[str]:
    """One line for each logger whose package is not installed, with the extra that installs it."""
    problems = []
    for name, node in loggers.items():
        extra = _EXTRAS.get(str((node or {}).get("_target_")).rpartition(".")[2])
        if extra and find_spec(extra) is None:
            problems.append(
                f"logger={name}: the package {extra} is not installed; "
                f"run: pip install 'multilayer[{extra}]'"
            )
    return problems


def finds_lr(callbacks: Mapping[str, Any] | None) -> bool:
    """Whether one of a config's callbacks finds the learning rate itself."""
    nodes = filter(None, (callbacks or {}).values())
    return any(str(node.get("_target_")).endswith(".LearningRateSweep") for node in nodes)
