"""What an unknown key was meant to be, as words that can be pasted."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override

from multilayer.cli.other_names import (
    CHOICES,
    COUNTS,
    FILES,
    NEGATION,
    OFF,
    PARALLEL,
    WIDTHS,
    WORDS,
    choice_of_nothing,
    groups_with,
    of_file,
)
from multilayer.core.config_folder import choices_with, conf_dir
from multilayer.core.errors import Problem, did_you_mean, nearest
from multilayer.core.renamed import current_key
from multilayer.core.text import for_shell, without_quotes
from multilayer.core.value_problems import any_value, commands_with, takes
from multilayer.runs.config import mask_overrides


class KnownWords:
    """What an unknown key may have been meant to be.

    Args:
        command: `train`, for example.
        keys: The keys of the composed config.
        given: The keys and groups on the command line.
        folders: The folders of the user's own choices.
        in_sweep: Whether it is that of a sweep.
    """

    def __init__(
        self,
        command: str,
        keys: Collection[str],
        given: Collection[str],
        folders: Sequence[Path],
        *,
        in_sweep: bool,
    ) -> None:
        self._command = command
        self._keys = keys
        self._given = given
        self._folders = folders
        self._in_sweep = in_sweep
        self._is_training = command == "train"

    def unknown_key(self, override: Override) -> Problem:
        """The problem with a key, and where such a key would fit."""
        key, given = override.key_or_group, str(override.input_line)
        value = "" if override.is_delete() else override.get_value_string()
        current = current_key(key)
        if current != key and (current in self._keys or (conf_dir() / current).is_dir()):
            return Problem(f"{key}: renamed to {current}", given, [f"{current}={value}"])
        if problem := self._of_other_choices(key, current, given, value):
            return problem
        if override.is_delete():
            near = nearest(key, self._keys)
            hint = f"did you mean ~{near}?" if near else did_you_mean(key, self._at_top())
            return Problem(f"~{key}: unknown key, {hint}", given, [f"~{near}"] if near else [])
        meant = self._meant(key, value)
        if meant:
            others = [] if self._is_training else commands_with(key)
            where = f" It is multilayer {others[0]} that has {key}." if others else ""
            shown = for_shell(mask_overrides(meant))
            return Problem(f"{key}: unknown key, did you mean {shown}?{where}", given, meant)
        node, _, name = key.rpartition(".")
        nodes = dict.fromkeys(known.rpartition(".")[0] for known in self._keys)
        for each in () if node else nodes:
            if problem := self._of_other_choices(key, f"{each}.{key}", given, value):
                return problem
        parts = [known.rpartition(".") for known in self._keys]
        siblings = [last for before, _, last in parts if before == node and last[0] != "_"]
        hint = did_you_mean(name, siblings) if siblings else did_you_mean(key, self._at_top())
        return Problem(f"{key}: unknown key, {hint}", given)

    def _of_other_choices(self, key: str, whole: str, given: str, value: str) -> Problem | None:
        """The problem with a key that only choices other than these have; None if none has it.

        Args:
            key: As it was given.
            whole: All of it.
            given: The word.
            value: That it sets.
        """
        node, _, name = whole.rpartition(".")
        owners = choices_with(node, name, self._folders) if self._is_training and node else []
        if not owners:
            return None
        it = "it" if key == whole else whole
        said = f"{key}: not a key here; {', '.join(owners)} {'have' if owners[1:] else 'has'} {it}"
        is_chosen = owners[0].partition("=")[0] in self._given
        if len(owners) > 1 or is_chosen or given.startswith("~"):
            return Problem(said, given)  # which of them is the user's to choose
        meant = [*owners, f"{whole}={value or any_value(whole)}"]
        return Problem(f"{said}, did you mean {for_shell(mask_overrides(meant))}?", given, meant)

    def _meant(self, key: str, value: str) -> list[str]:
        """The words that were meant by an unknown key with a value; none if nothing is near."""
        is_chosen = self._is_training and value.lower() in ("", "1", "true")
        groups = groups_with(key) if is_chosen else []
        if groups:
            return [f"{group}={key}" for group in groups]
        negated = NEGATION.fullmatch(key)
        near = self._near_key(negated[1] if negated else key)
        if negated and near:
            return self._left_out(near, value)
        if found := self._other_words(key, value):
            return found
        return [] if near is None else [f"{near}={value or any_value(near, self._command)}"]

    def _left_out(self, key: str, value: str) -> list[str]:
        """The word for a setting that is named with a negation before it."""
        if choice := choice_of_nothing(key):
            return [f"{key}={choice}"]
        offs = [word for word, off in OFF.items() if takes(key, off, self._command)]
        is_kept = value.lower() in ("false", "0")
        return [] if not offs else [f"{key}={'true' if is_kept else offs[0]}"]

    def _near_key(self, key: str) -> str | None:
        """The key that was likely meant by one that does not exist."""
        spelt = re.sub(r"[/-]", ".", key).lower()
        alike = [known for known in self._keys if f".{known}".lower().endswith(f".{spelt}")]
        if alike:
            return min(alike)
        node, _, name = key.rpartition(".")
        if node:
            inside = [each for each in self._keys if each.startswith(f"{node}.")]
            siblings = {each.rpartition(".")[2]: each for each in inside}
            other = WORDS.get(self._command, {}).get(name)
            near_one = nearest(name, siblings)
            found = siblings[near_one] if near_one else None
            return other if other in inside else found
        near = get_close_matches(key, self._at_top(), n=1)
        if near:
            return near[0]
        last = {known.rpartition(".")[2]: known for known in sorted(self._keys, reverse=True)}
        if self._is_training:
            last = {known.rpartition(".")[2]: known for known in _launcher_keys()} | last
        return next((last[each] for each in get_close_matches(key, last, n=1, cutoff=0.8)), None)

    def _other_words(self, key: str, value: str) -> list[str]:
        """The words for what other programs call so."""
        if known := WORDS.get(self._command, {}).get(key):
            value = CHOICES.get((known, value), value)
            return [f"{known}={value or any_value(known, self._command)}"]
        if not self._is_training:
            return []
        if key.removeprefix("model.") in WIDTHS:
            return [f"model.d_hidden={self._widths(value)}"]
        if key in PARALLEL and self._in_sweep:
            return ["hydra/launcher=lockstep", f"hydra.launcher.workers=local:{value or 'VALUE'}"]
        if key in PARALLEL:
            return [f"num_threads={value or 'VALUE'}"]
        if key in FILES:
            is_target = key == "target"
            file = "FILE" if is_target or not value else without_quotes(value)
            return of_file(file, value if is_target and value else "COLUMN")
        return []

    def _widths(self, value: str) -> str:
        """Lists of units from one, or in a sweep from several separated by commas."""
        is_list = value.startswith(("[", "(")) or not self._in_sweep
        widths = [value.strip("[]()")] if is_list else value.split(",")
        return ",".join(f"[{_units(each or '128,64')}]" for each in widths)

    def _at_top(self) -> list[str]:
        """The keys at the top of the config."""
        return [known for known in self._keys if "." not in known]


def _units(widths: str) -> str:
    """Units of layers; too few for one are a number of layers."""
    return ",".join(["128"] * int(widths)) if widths in COUNTS else widths


@cache
def _launcher_keys() -> list[str]:
    """The keys of our launcher."""
    text = (conf_dir() / "hydra" / "launcher" / "lockstep.yaml").read_text()
    return [f"hydra.launcher.{key}" for key in yaml.safe_load(text)]
