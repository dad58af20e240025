"""What a wrong word of the command line was meant to be, as a word that can be pasted."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override, ValueType

from multilayer.core.config_folder import choices_with, conf_dir
from multilayer.core.errors import did_you_mean
from multilayer.core.renamed import current_key
from multilayer.core.text import (
    as_override,
    quote_for_hydra,
    quote_for_shell,
    split_list,
    without_quotes,
)
from multilayer.core.value_problems import commands_with, several_targets, takes

_ASSIGNMENT = re.compile(r"(\+{0,2}[\w./@-]+)=(.*)", re.DOTALL | re.ASCII)

_LISTS = ("callbacks", "logger")
"""The groups of which several choices may be made."""

_WORDS = {
    "train": {
        "batch": "data.batch_size",
        "batchsize": "data.batch_size",
        "bs": "data.batch_size",
        "dataset": "data",
        "device": "trainer",
        "epoch": "trainer.max_epochs",
        "epochs": "trainer.max_epochs",
        "gpus": "trainer.devices",
        "learning_rate": "optimizer.lr",
        "n_epochs": "trainer.max_epochs",
        "num_epochs": "trainer.max_epochs",
        "output": "hydra.run.dir",
        "steps": "trainer.max_steps",
        "wd": "optimizer.weight_decay",
    },
    "evaluate": {"data": "data.path", "file": "data.path", "input": "data.path"},
    "predict": {"data": "input", "data.path": "input", "file": "input", "path": "input"},
}
"""What other programs call a key of a command."""

_WIDTHS = ("hidden", "hidden_layers", "hidden_size", "hidden_sizes", "layers", "n_hidden")
_FILES = ("csv", "file", "input", "path", "target")

_NOTHING = ("none", "null", "false", "off")
_WITHOUT = {"scheduler": "constant"}
"""The choice that leaves out what a group configures, where it is not called `none`."""

_CHOICES = {("trainer", "cuda"): "gpu"}
"""Choices that other programs call otherwise."""

_FOLDERS = {"train": "resume", "evaluate": "run", "predict": "run", "report": "sweep"}
_FOLDERS["work"] = "sweep"
"""The key of a command that takes a folder of ours."""

_TABLE = re.compile(r".*(/.*|\.(csv|tsv|txt|parquet|arrow|feather|gz|zst))", re.IGNORECASE)


def quoted_word(text: str, *, in_sweep: bool = False) -> str | None:
    r"""How to write a word that Hydra's grammar cannot read; None where quotes do not help.

    >>> print(quoted_word("data.target=y (kg)"), quoted_word("data.decimal=,"))
    "data.target='y (kg)'" "data.decimal=','"
    >>> print(quoted_word("data.drop_columns=[a=b,c]"))
    "data.drop_columns=['a=b','c']"
    >>> print(quoted_word("data.drop_columns=x;y"))
    "data.drop_columns=['x;y']"

    Args:
        text: The word.
        in_sweep: Whether a comma separates several values.
    """
    found = _ASSIGNMENT.fullmatch(text)
    if found is None:
        return None
    key, value = found.groups()
    if value.startswith("[") and value.endswith("]"):
        return as_override(key, split_list(value))
    if value.startswith(("[", "{")):
        return None
    parts = value.split(",")
    if in_sweep and len(parts) > 1 and all(parts):
        values = ",".join(quote_for_hydra(_bare(part)) for part in parts)
        return quote_for_shell(f"{key}={values}")
    value = _bare(value)
    is_list = takes(key, [value]) and not takes(key, value)
    return as_override(key, [value] if is_list else value)


def _bare(value: str) -> str:
    """A value without a pair of quotes around it, and with the home folder written out."""
    return str(Path(value).expanduser()) if value.startswith("~/") else without_quotes(value)


def several_values(override: Override, *, is_group: bool) -> str:
    """The problem with several values where one is expected."""
    key, values = override.get_key_element(), override.get_value_string()
    problem = f"{key}={values}: several values are a sweep, add -m"
    if override.value_type != ValueType.SIMPLE_CHOICE_SWEEP:  # but `range(3)`, for example
        return problem
    texts = split_list(values)
    if is_group:
        takes_list, takes_text = key in _LISTS, False
    else:
        takes_list, takes_text = takes(key, list(override.sweep_iterator())), takes(key, values)
    if key == "data.target":
        problem = f"{key}={values}: {several_targets(texts)}"
    if takes_list:
        return f"{problem}; a list is {quote_for_shell(f'{key}=[{values}]')}"
    return (
        f"{problem}; a name with a comma is {as_override(key, values)}" if takes_text else problem
    )


def bad_choice(command: str, override: Override, name: object, options: Collection[str]) -> str:
    """The problem with a choice of a group that does not exist."""
    group, word = override.key_or_group, "null" if name is None else str(name)
    if command != "train" and not override.is_hydra_override():
        hint = _other_word(command, group, word)
        meant = f"did you mean {hint}?" if hint else "the run has its own"
        return f"{group}={word}: no choice of {command}, {meant}"
    without = "none" if "none" in options else _WITHOUT.get(group)
    if override.is_delete():
        problem = f"~{group}: a group cannot be left out"
        return f"{problem}, did you mean {group}={without}?" if without else problem
    if word.lower() in _NOTHING and without:
        return f"{group}={word}: no such choice, did you mean {without}?"
    if group == "data" and _TABLE.fullmatch(word):
        return f"data={word}: no such choice; a file is {_of_file(word)}"
    if group == "data" and "mnist" in word.lower():
        return f"data={word}: no such choice; a folder of its files is data=idx data.path=FOLDER"
    if (group, word) in _CHOICES:
        return f"{group}={word}: no such choice, did you mean {_CHOICES[group, word]}?"
    return f"{group}={word}: no such choice, {did_you_mean(word, options)}"


def _of_file(path: str) -> str:
    """The words that name a table to train on."""
    return f"data=table {as_override('data.path', path)} data.target=COLUMN"


def not_an_override(command: str, text: str) -> str:
    """What to do about a word without `=`."""
    problem = f"{text}: not of the form key=value"
    if command in _FOLDERS and Path(text).is_dir():
        return f"{problem}, did you mean {as_override(_FOLDERS[command], text)}?"
    is_file = command == "train" and _TABLE.fullmatch(text) is not None
    return problem + f"; a file is {_of_file(text)}" * is_file


def unknown_key(command: str, override: Override, keys: set[str], folders: Sequence[Path]) -> str:
    """The problem with a key, and where such a key would fit.

    Args:
        command: `train`, for example.
        override: What sets the key.
        keys: The keys of the composed config.
        folders: The folders of the user's own choices.
    """
    key, is_training = override.key_or_group, command == "train"
    current = current_key(key)
    group, _, name = current.rpartition(".")
    owners = choices_with(group, name, folders) if is_training else []
    if current != key and (current in keys or (conf_dir() / current).is_dir()):
        return f"{key}: renamed to {current}"
    if owners:
        return f"{key}: not a key here; {', '.join(owners)} {'have' if owners[1:] else 'has'} it"
    meant = meant_word(command, key, override.get_value_string(), keys)
    if meant is None:
        siblings = [known for known in keys if group and known.rpartition(".")[0] == group]
        return f"{key}: unknown key, {did_you_mean(key, siblings or _at_top(keys))}"
    others = [other for other in commands_with(key) if not is_training]
    where = f" It is multilayer {others[0]} that has {key}." if others else ""
    return f"{key}: unknown key, did you mean {meant}?{where}"


def meant_word(command: str, key: str, value: str, keys: set[str]) -> str | None:
    """The word, or at least the key, that was meant by an unknown key; None if nothing is near."""
    deeper = sorted(known for known in keys if known.endswith(f".{key}"))
    found = _other_word(command, key, value) or next(iter(deeper), None)
    if found is not None or "." in key:
        return found
    if command == "train" and key in _FILES:
        return _of_file("FILE" if key == "target" or not value else value)
    near = get_close_matches(key, _at_top(keys), n=1)
    if near:
        return near[0]
    last = {known.rpartition(".")[2]: known for known in sorted(keys, reverse=True)}
    if command == "train":
        last = {known.rpartition(".")[2]: known for known in _launcher_keys()} | last
    return next((last[each] for each in get_close_matches(key, last, n=1, cutoff=0.8)), None)


def flag_problem(command: str, flag: str, value: str, keys: set[str]) -> str:
    """The problem with a flag that does not exist; other programs have flags for settings."""
    name, _, own = flag.lstrip("-").partition("=")
    key, value = name.replace("-", "_"), own or value
    meant = f"{key}={value or 'VALUE'}" if key in keys else meant_word(command, key, value, keys)
    if meant in keys:
        meant = f"{meant}={value or 'VALUE'}"
    hint = f"did you mean {meant}?" if meant else f"multilayer {command} --help lists them"
    return f"{flag}: no such flag; a setting is KEY=VALUE, without dashes: {hint}"


def _other_word(command: str, key: str, value: str) -> str | None:
    """The word for a key that other programs call so."""
    if command == "train" and key in _WIDTHS:
        return '"model.d_hidden=[128,64]"'
    known = _WORDS.get(command, {}).get(key)
    value = _CHOICES.get((known or "", value), value)
    return None if known is None else f"{known}={value or 'VALUE'}"


def _at_top(keys: set[str]) -> list[str]:
    """The keys at the top of a config."""
    return [known for known in keys if "." not in known]


@cache
def _launcher_keys() -> list[str]:
    """The keys of our launcher."""
    text = (conf_dir() / "hydra" / "launcher" / "lockstep.yaml").read_text()
    return [f"hydra.launcher.{key}" for key in yaml.safe_load(text)]
