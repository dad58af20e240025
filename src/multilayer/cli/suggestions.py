"""What a wrong word of the command line was meant to be, as a word that can be pasted."""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override, ValueType

from multilayer.cli.problems import Problem, for_shell
from multilayer.core.config_folder import choices_with, conf_dir
from multilayer.core.errors import did_you_mean, nearest
from multilayer.core.renamed import current_key
from multilayer.core.text import (
    as_override,
    override_word,
    quote_for_hydra,
    quote_for_shell,
    split_list,
    without_quotes,
)
from multilayer.core.value_problems import commands_with, several_targets, takes
from multilayer.runs.config import mask_overrides

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

_WIDTHS = (
    "hidden",
    "hidden_layers",
    "hidden_size",
    "hidden_sizes",
    "layers",
    "n_hidden",
    "n_layers",
)
_COUNTS = tuple("123456789")
"""Too few units for a layer: they are a number of layers."""

_FILES = ("csv", "file", "input", "path", "target")

_NOTHING = ("none", "null", "false", "off")
_WITHOUT = {"scheduler": "constant"}
"""The choice that leaves out what a group configures, where it is not called `none`."""

_CHOICES = {("trainer", "cuda"): "gpu"}
"""Choices that other programs call otherwise."""

_ENDINGS = ("csv", "file", "parquet", "tabular", "tsv")
"""What a table is called, too, where its choice is meant."""

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


def bad_choice(command: str, override: Override, name: object, options: Collection[str]) -> Problem:
    """The problem with a choice of a group that does not exist."""
    group, word = override.key_or_group, "null" if name is None else str(name)
    given = str(override.input_line)
    if command != "train" and not override.is_hydra_override():
        meant = _other_words(command, group, word)
        hint = f"did you mean {for_shell(meant)}?" if meant else "the run has its own"
        return Problem(f"{group}={word}: no choice of {command}, {hint}", given, meant)
    without = "none" if "none" in options else _WITHOUT.get(group)
    if override.is_delete():
        problem = f"~{group}: a group cannot be left out"
        if not without:
            return Problem(problem)
        meant = [f"{group}={without}"]
        return Problem(f"{problem}, did you mean {meant[0]}?", given, meant)
    problem = f"{group}={word}: no such choice"
    if group == "data" and word.lower() in _ENDINGS:
        hint = f"a file is {for_shell(_of_file('FILE'))}"
        return Problem(f"{problem}; {hint}", given, ["data=table"])
    if group == "data" and _TABLE.fullmatch(word):
        meant = _of_file(word)
        return Problem(f"{problem}; a file is {for_shell(meant)}", given, meant)
    if group == "data" and "mnist" in word.lower():
        hint = "a folder of its files is data=idx data.path=FOLDER"
        return Problem(f"{problem}; {hint}", given)
    near = without if word.lower() in _NOTHING else None
    near = near or _CHOICES.get((group, word)) or nearest(word, options)
    if near is None:
        return Problem(f"{problem}, {did_you_mean(word, options)}", given)
    is_alone = not (override.is_sweep_override() or isinstance(override.value(), list))
    meant = [f"{group}={near}"] if is_alone else []
    return Problem(f"{problem}, did you mean {near}?", given, meant)


def _of_file(path: str) -> list[str]:
    """The words that name a table to train on."""
    return ["data=table", override_word("data.path", path), "data.target=COLUMN"]


def not_an_override(command: str, text: str) -> Problem:
    """What to do about a word without `=`."""
    problem = f"{text}: not of the form key=value"
    if text == "help":
        return Problem(f"{problem}, did you mean multilayer {command} --help?", text)
    key = _key_of_file(command, text)
    if command in _FOLDERS and (command != "train" or Path(text).is_dir()):
        key = key or _FOLDERS[command]
    if key is not None:
        word = as_override(key, text)
        return Problem(f"{problem}, did you mean {word}?", text, shlex.split(word))
    groups = groups_with(text) if command == "train" else []
    if groups:
        meant = [f"{groups[0]}={text}"]
        return Problem(f"{problem}, did you mean {meant[0]}?", text, meant)
    known = _WORDS.get(command, {}).get(text)
    if known:
        return Problem(f"{problem}, did you mean {known}=VALUE?", text, [f"{known}=VALUE"])
    is_file = command == "train" and _TABLE.fullmatch(text) is not None
    return Problem(problem + f"; a file is {for_shell(_of_file(text))}" * is_file, text)


def _key_of_file(command: str, text: str) -> str | None:
    """The key that takes a table which a command is given by its name alone, if one does."""
    is_table = _TABLE.fullmatch(Path(text).name) is not None
    if command not in ("evaluate", "predict") or Path(text).is_dir() or not is_table:
        return None
    if command == "evaluate":
        return "data.path"
    return "input" if Path(text).exists() else "output"


def groups_with(choice: str) -> list[str]:
    """The group of a training that has a choice of this name, if it is the only one."""
    if re.fullmatch(r"[a-z]\w*", choice, re.ASCII) is None:
        return []
    groups = [path.parent.name for path in conf_dir().glob(f"*/{choice}.yaml")]
    return groups if len(groups) == 1 else []


def unknown_key(
    command: str,
    override: Override,
    written: Mapping[str, str],
    keys: set[str],
    folders: Sequence[Path],
) -> Problem:
    """The problem with a key, and where such a key would fit.

    Args:
        command: `train`, for example.
        override: What sets the key.
        written: The values on the command line, in a sweep perhaps several, by their keys.
        keys: The keys of the composed config.
        folders: The folders of the user's own choices.
    """
    key, is_training = override.key_or_group, command == "train"
    value = written.get(key, "")
    given = f"{override.get_key_element()}={value}"
    current = current_key(key)
    group, _, name = current.rpartition(".")
    owners = choices_with(group, name, folders) if is_training else []
    if current != key and (current in keys or (conf_dir() / current).is_dir()):
        return Problem(f"{key}: renamed to {current}", given, [f"{current}={value}"])
    if owners:
        has = "have" if owners[1:] else "has"
        return Problem(f"{key}: not a key here; {', '.join(owners)} {has} it", given)
    if override.is_delete():
        near = nearest(key, keys)
        hint = f"did you mean ~{near}?" if near else did_you_mean(key, _at_top(keys))
        return Problem(f"~{key}: unknown key, {hint}", given)
    meant = meant_words(command, key, value, keys)
    if not meant:
        siblings = [known for known in keys if group and known.rpartition(".")[0] == group]
        return Problem(f"{key}: unknown key, {did_you_mean(key, siblings or _at_top(keys))}", given)
    others = [other for other in commands_with(key) if not is_training]
    where = f" It is multilayer {others[0]} that has {key}." if others else ""
    shown = for_shell(mask_overrides(meant))
    return Problem(f"{key}: unknown key, did you mean {shown}?{where}", given, meant)


def meant_words(command: str, key: str, value: str, keys: set[str]) -> list[str]:
    """The words that were meant by an unknown key with a value; none if nothing is near."""
    found = _other_words(command, key, value)
    if not found and command == "train" and key in _FILES:
        found = _of_file("FILE" if key == "target" or not value else without_quotes(value))
        found[-1] = f"data.target={value}" if key == "target" and value else found[-1]
    near = _near_key(command, key, keys)
    return found or ([] if near is None else [f"{near}={value or 'VALUE'}"])


def _near_key(command: str, key: str, keys: set[str]) -> str | None:
    """The key that was likely meant by one that does not exist."""
    deeper = [known for known in keys if known.endswith(f".{key}")]
    if deeper:
        return min(deeper)
    group, _, name = key.rpartition(".")
    if group:
        siblings = {each.rpartition(".")[2]: each for each in keys if each.startswith(f"{group}.")}
        other = _WORDS.get(command, {}).get(name)
        near_one = nearest(name, siblings)
        found = siblings[near_one] if near_one else None
        return other if other in siblings.values() else found
    near = get_close_matches(key, _at_top(keys), n=1)
    if near:
        return near[0]
    last = {known.rpartition(".")[2]: known for known in sorted(keys, reverse=True)}
    if command == "train":
        last = {known.rpartition(".")[2]: known for known in _launcher_keys()} | last
    return next((last[each] for each in get_close_matches(key, last, n=1, cutoff=0.8)), None)


def _other_words(command: str, key: str, value: str) -> list[str]:
    """The words for a key that other programs call so."""
    if command == "train" and key.removeprefix("model.") in _WIDTHS:
        widths = value.strip("[]()") or "128,64"
        if widths in _COUNTS:
            widths = ",".join(["128"] * int(widths))
        return [f"model.d_hidden=[{widths}]"]
    known = _WORDS.get(command, {}).get(key)
    value = _CHOICES.get((known or "", value), value)
    return [] if known is None else [f"{known}={value or 'VALUE'}"]


def _at_top(keys: set[str]) -> list[str]:
    """The keys at the top of a config."""
    return [known for known in keys if "." not in known]


@cache
def _launcher_keys() -> list[str]:
    """The keys of our launcher."""
    text = (conf_dir() / "hydra" / "launcher" / "lockstep.yaml").read_text()
    return [f"hydra.launcher.{key}" for key in yaml.safe_load(text)]
