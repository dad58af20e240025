"""What a word that cannot be read, or a choice, was meant to be, as a word that can be pasted."""

import re
from collections.abc import Collection
from pathlib import Path

from hydra.core.override_parser.types import Override, ValueType

from multilayer.cli.other_names import (
    CHOICES,
    ENDINGS,
    LISTS,
    NOTHING,
    TABLE,
    WORDS,
    choice_of_nothing,
    of_file,
)
from multilayer.cli.problems import SWEEP
from multilayer.core.errors import Problem, did_you_mean, nearest
from multilayer.core.text import (
    for_shell,
    override_word,
    quote_for_hydra,
    split_list,
    without_quotes,
)
from multilayer.core.value_problems import several_targets, takes

_ASSIGNMENT = re.compile(r"(\+{0,2}[\w./@-]+)=(.*)", re.DOTALL | re.ASCII)


def unreadable(text: str, error: str, *, in_sweep: bool = False) -> Problem:
    """The problem with a word that Hydra's grammar cannot read.

    Args:
        text: The word, `KEY=VALUE`.
        error: What Hydra says.
        in_sweep: Whether a comma separates several values.
    """
    key = text.partition("=")[0].lstrip("+~")
    if not key.isascii():
        return Problem(f"{key}: unknown key; only values may have such letters", text)
    single = re.sub("=+", "=", text, count=1)
    if single != text:
        return Problem(f"{text}: did you mean {for_shell([single])}?", text, [single])
    if braces := re.fullmatch(r"(.*)=\{(\d+)\.\.(\d+)\}", text):
        words = [SWEEP, f"{braces[1]}=range({braces[2]},{int(braces[3]) + 1})"]
        return Problem(f"{text}: did you mean {for_shell(words)}?", text, words)
    in_brackets = re.sub(r"=\(([\d., ]+)\)$", r"=[\1]", text)
    if in_brackets != text and takes(key, []):
        said = f"{text}: a list has square brackets: {for_shell([in_brackets])}"
        return Problem(said, text, [in_brackets])
    quoted = _quoted_word(text, in_sweep=in_sweep)
    if quoted is not None:
        said = f"{text}: not to be read without quotes; write {for_shell([quoted])}"
        return Problem(said, text, [quoted])
    shorter = text.rstrip(",; ")
    if shorter != text and not shorter.endswith("="):
        said = f"{text}: a sign too many, did you mean {for_shell([shorter])}?"
        return Problem(said, text, [shorter])
    if text.count("[") != text.count("]"):
        return Problem(f"{text}: its brackets do not match", text)
    reason = re.search("while evaluating .*?: (.*)", error)
    return Problem(f"{text}: {reason[1] if reason else 'not of the form key=value'}", text)


def _quoted_word(text: str, *, in_sweep: bool) -> str | None:
    """A word with quotes for Hydra's grammar; None where they do not help."""
    found = _ASSIGNMENT.fullmatch(text)
    if found is None:
        return None
    key, value = found.groups()
    if value.startswith("[") and value.endswith("]"):
        return override_word(key, split_list(value))
    if value.startswith(("[", "{")):
        return None
    parts = value.split(",")
    if in_sweep and len(parts) > 1 and all(parts) and all(takes(key, part) for part in parts):
        return f"{key}={','.join(quote_for_hydra(_bare(part)) for part in parts)}"
    value = _bare(value)
    if takes(key, value):
        return override_word(key, value)
    return override_word(key, [value]) if takes(key, [value]) else None


def _bare(value: str) -> str:
    """A value without a pair of quotes around it, and with the home folder written out."""
    return str(Path(value).expanduser()) if value.startswith("~/") else without_quotes(value)


def several_values(override: Override, *, is_group: bool) -> Problem:
    """The problem with several values where one is expected."""
    key, values = override.get_key_element(), override.get_value_string()
    word = str(override.input_line)
    problem = f"{key}={values}: several values are a sweep, add {SWEEP}"
    as_sweep = Problem(problem, word, [SWEEP, word])
    if override.value_type != ValueType.SIMPLE_CHOICE_SWEEP:  # but `range(3)`, for example
        return as_sweep
    texts = split_list(values)
    if is_group:
        takes_list, takes_text = key in LISTS, False
    else:
        takes_list, takes_text = takes(key, list(override.sweep_iterator())), takes(key, values)
    if re.fullmatch(r"0,\d+", values) and takes(key, 0.5):
        return Problem(f"{problem}; a decimal is {key}={values.replace(',', '.')}", word)
    if key == "data.target":
        problem = f"{key}={values}: {several_targets(texts)}"
    if takes_list:
        return Problem(f"{problem}; a list is {for_shell([f'{key}=[{values}]'])}", word)
    if takes_text:
        name = for_shell([override_word(key, values)])
        return Problem(f"{problem}; a name with a comma is {name}", word)
    return as_sweep


def bad_choice(command: str, override: Override, name: object, options: Collection[str]) -> Problem:
    """The problem with a choice of a group that does not exist."""
    group, word = override.key_or_group, "null" if name is None else str(name)
    word = word.lower() if isinstance(name, bool) else word
    given = str(override.input_line)
    if command != "train" and not override.is_hydra_override():
        known = WORDS.get(command, {}).get(group)
        meant = [f"{known}={word}"] if known else []
        hint = f"did you mean {for_shell(meant)}?" if meant else "the run has its own"
        return Problem(f"{group}={word}: no choice of {command}, {hint}", given, meant)
    without = choice_of_nothing(group)
    if override.is_delete():
        problem = f"~{group}: a group cannot be left out"
        if without is None:
            return Problem(problem, given)
        return Problem(f"{problem}, did you mean {group}={without}?", given, [f"{group}={without}"])
    problem = f"{group}={word}: no such choice"
    if group == "data" and word.lower() in ENDINGS:
        word = "FILE"
    if group == "data" and (word == "FILE" or TABLE.fullmatch(word)):
        return Problem(f"{problem}; a file is {for_shell(of_file(word))}", given, of_file(word))
    if group == "data" and "mnist" in word.lower():
        hint = "a folder of its files is data=idx data.path=FOLDER"
        return Problem(f"{problem}; {hint}", given)
    near = without if word.lower() in NOTHING else None
    near = near or CHOICES.get((group, word)) or nearest(word, options)
    if near is None:
        return Problem(f"{problem}, {did_you_mean(word, options)}", given)
    return Problem(f"{problem}, did you mean {near}?", given, _chosen(override, word, near))


def _chosen(override: Override, wrong: str, right: str) -> list[str]:
    """The override with another choice; nothing where it is written in a way of Hydra's own."""
    key, value = override.get_key_element(), override.value()
    if override.is_sweep_override():
        if override.value_type != ValueType.SIMPLE_CHOICE_SWEEP:
            return []
        names = list(override.sweep_string_iterator())
        return [f"{key}={','.join(right if name == wrong else name for name in names)}"]
    if not isinstance(value, list):
        return [f"{key}={right}"]
    return [f"{key}=[{','.join(right if str(name) == wrong else str(name) for name in value)}]"]
