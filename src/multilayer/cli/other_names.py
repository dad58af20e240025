"""What other programs call keys and choices, and the words that say them here."""

import re

from multilayer.core.config_folder import conf_dir
from multilayer.core.text import override_word
from multilayer.core.value_problems import knows

LISTS = ("callbacks", "logger")
"""The groups of which several choices may be made."""

WORDS = {
    "train": {
        "batch": "data.batch_size",
        "batchsize": "data.batch_size",
        "bs": "data.batch_size",
        "dataset": "data",
        "device": "trainer",
        "epoch": "trainer.max_epochs",
        "epochs": "trainer.max_epochs",
        "gpus": "trainer.devices",
        "l2": "optimizer.weight_decay",
        "learning_rate": "optimizer.lr",
        "learning_rate_init": "optimizer.lr",
        "max_iter": "trainer.max_epochs",
        "n_epochs": "trainer.max_epochs",
        "num_epochs": "trainer.max_epochs",
        "output": "hydra.run.dir",
        "random_seed": "seed",
        "random_state": "seed",
        "steps": "trainer.max_steps",
        "test_size": "data.test_fraction",
        "val_size": "data.validation_fraction",
        "val_split": "data.validation_fraction",
        "validation_split": "data.validation_fraction",
        "warmup": "scheduler.scheduler.warmup_fraction",
        "wd": "optimizer.weight_decay",
    },
    "evaluate": {"data": "data.path", "file": "data.path", "input": "data.path"},
    "predict": {"data": "input", "data.path": "input", "file": "input", "path": "input"},
}
"""What other programs call a key of a command."""

WIDTHS = (
    "hidden",
    "hidden_dim",
    "hidden_dims",
    "hidden_layer_sizes",
    "hidden_layers",
    "hidden_size",
    "hidden_sizes",
    "layers",
    "n_hidden",
    "n_layers",
)
COUNTS = tuple("123456789")
"""Too few units for a layer: they are a number of layers."""

PARALLEL = ("cores", "cpus", "jobs", "n_cpus", "n_jobs", "n_workers", "num_workers", "workers")
"""What other programs call the number of things done at a time."""

NEGATION = re.compile(r"(?:no|not|without|disable)_(\w+)")
"""The name of a setting that leaves something out."""

FILES = ("csv", "file", "input", "path", "target")

NOTHING = ("none", "null", "false", "off")
WITHOUT = {"scheduler": "constant"}
"""The choice that leaves out what a group configures, where it is not called `none`."""

OFF = {"false": False, "null": None, "0": 0.0}
"""The values that leave something out, by how they are written."""

CHOICES = {("trainer", "cuda"): "gpu"}
"""Choices that other programs call otherwise."""

ENDINGS = ("csv", "file", "parquet", "tabular", "tsv")
"""What a table is called, too, where its choice is meant."""

TABLE = re.compile(r".*(/.*|\.(csv|tsv|txt|parquet|arrow|feather|gz|zst))", re.IGNORECASE)
"""The path of a table."""


def choice_of_nothing(group: str) -> str | None:
    """The choice of a group that leaves out what the group configures, if there is one."""
    is_there = (conf_dir() / group / "none.yaml").is_file()
    return "none" if is_there else WITHOUT.get(group)


def of_file(path: str, target: str = "COLUMN") -> list[str]:
    """The words that name a table to train on."""
    named = path if path == "FILE" else override_word("", path)[1:]
    return ["data=table", f"data.path={named}", f"data.target={target}"]


def is_key(name: str, command: str) -> bool:
    """Whether a word is a key or a group of a command, if it is meant to be one."""
    return knows(name, command) or (command == "train" and (conf_dir() / name).is_dir())


def groups_with(choice: str) -> list[str]:
    """The group of a training that has a choice of this name, if it is the only one."""
    if re.fullmatch(r"[a-z]\w*", choice, re.ASCII) is None:
        return []
    groups = [path.parent.name for path in conf_dir().glob(f"*/{choice}.yaml")]
    return groups if len(groups) == 1 else []
