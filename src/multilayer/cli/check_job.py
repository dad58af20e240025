"""Checks the config of one job: its choices, keys and values."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from multilayer.cli.problems import key_of
from multilayer.cli.search_path import folders_of
from multilayer.cli.suggestions import bad_choice, several_values
from multilayer.cli.unknown_keys import KnownWords
from multilayer.core.config_problems import has_class
from multilayer.core.errors import Problem, UserError, first_line
from multilayer.core.files import said_path
from multilayer.core.text import for_shell
from multilayer.core.value_problems import sweep_problems
from multilayer.runs.config import Config, dotted_keys, problems_with, to_plain


def check_job(
    command: str,
    parsed: Sequence[Override],
    loader: ConfigLoader,
    sweep: Mapping[str, Override] | None = None,
) -> tuple[Config, list[Problem]]:
    """The plain config of one job, checked for choices, keys, missing values, types and ranges.

    Args:
        command: `train`, for example.
        parsed: the overrides of the job.
        loader: composes the config.
        sweep: the overrides of its sweep, by their keys; None if it is none.

    Returns:
        The config, and what is wrong with it; it is of no use if anything is.
    """
    bad = [(f"{item.key_or_group}.", bad_choices(command, item, loader)) for item in parsed]
    found = [problem for _, problems in bad for problem in problems]
    groups = tuple(group for group, problems in bad if problems)
    right = [item for item in parsed if not f"{item.key_or_group}.".startswith(groups)]
    given = [(sweep or {}).get(item.get_key_element(), item) for item in right]
    try:
        job = _compose(command, right, loader)
    except (HydraException, OmegaConfBaseException) as error:
        return {}, [*found, _not_composed(error, given)]
    except UserError as error:
        return {}, [*found, *error.problems]
    finally:
        HydraConfig.instance().cfg = None
    written = {item.key_or_group: item for item in given}
    own = _own_folders(loader)
    near = KnownWords(command, job.keys, written, own, in_sweep=sweep is not None)
    for item, whole in zip(right, given, strict=True):
        if item in job.unknown:
            found.append(near.unknown_key(whole))
        elif item.is_sweep_override():
            found.append(several_values(item, is_group=bool(choices_of(item, loader))))
    texts = {
        item.key_or_group: (item if whole.is_sweep_override() else whole).get_value_string()
        for item, whole in zip(right, given, strict=True)
        if not item.is_delete()
    }
    wrong = problems_with(command, job.values, in_sweep=sweep is not None, written=texts)
    if sweep is not None and "sweep" in job.config:
        wrong += sweep_problems(OmegaConf.to_container(job.config.sweep))
    known = {key: item for key, item in written.items() if key in job.keys}
    found += [_with_origin(problem, known, job.files) for problem in wrong]
    return job.values, found or _found_rates(job.values, right)


@dataclass(frozen=True)
class _Composed:
    """What Hydra composes of a job.

    Attributes:
        config: That.
        values: It, as plain data.
        keys: Those that may be set.
        unknown: The overrides of other keys, which are left out.
        files: Those of the user's own that were chosen, by their groups.
    """

    config: DictConfig
    values: Config
    keys: set[str]
    unknown: list[Override]
    files: dict[str, Path]


def _compose(command: str, overrides: Sequence[Override], loader: ConfigLoader) -> _Composed:
    """Compose a job, without overrides that have several values.

    Values are set in what is composed of choices: that is done once for all jobs with the same
    ones. `${hydra:overrides.task}` and the names made of it lack the values here, and have them in
    the run. `${hydra:job.num}` is that of a first job.
    """
    single = [item for item in overrides if not item.is_sweep_override()]
    changes = [item for item in overrides if _changes_key(item, loader)]
    start = "resume" if command == "train" else ""
    words = [
        str(item.input_line) for item in single if item not in changes or item.key_or_group == start
    ]
    config = loader.load_configuration(command, words, RunMode.RUN)
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = 0
        config.hydra.runtime.output_dir = os.getcwd()
        HydraConfig.instance().set_config(config)
        choices = {str(group): str(name) for group, name in config.hydra.runtime.choices.items()}
        del config["hydra"]
    keys = _keys_of(config)
    unknown = [item for item in changes if not (_adds(item) or item.key_or_group in keys)]
    set_ = [item for item in single if item in changes and item not in unknown]
    ConfigLoaderImpl._apply_overrides_to_config(set_, config)
    files = {
        group: file
        for group, name in choices.items()
        for folder in _own_folders(loader)
        if (file := folder / group / f"{name}.yaml").is_file()
    }
    return _Composed(config, to_plain(config), keys, unknown, files)


def _keys_of(config: DictConfig) -> set[str]:
    """The keys that may be set."""
    keys = set(dotted_keys(OmegaConf.to_container(config, resolve=False)))
    if OmegaConf.is_config(config.get("sweep")):
        keys.remove("sweep")  # which was the name of a group
    return keys


def _found_rates(values: Config, overrides: Sequence[Override]) -> list[Problem]:
    """The problem with a rate that is given, and would be found."""
    if not has_class(values.get("callbacks"), ".LearningRateSweep") or values["resume"]:
        return []
    rates = [item.input_line for item in overrides if item.key_or_group == "optimizer.lr"]
    refusal = "callbacks=lr_sweep finds the rate; leave one of them out"
    return [Problem(f"{rate}: {refusal}") for rate in rates]


_OF_LOCKSTEP = re.compile(r"hydra\.launcher\.(max_members|ray|slurm|stack|workers)\b")
"""The keys of the launcher `lockstep`."""


def _not_composed(error: Exception, overrides: Sequence[Override]) -> Problem:
    """The problem with overrides of which Hydra composes no config."""
    text, words = str(error), {item.key_or_group: str(item.input_line) for item in overrides}
    is_there = r"Multiple values for ([\w/]+)\.|.*An item is already at '([\w.]+)'"
    if found := re.match(is_there, text, re.DOTALL):
        word = words[found[1] or found[2]]
        said = f"{word}: what is there already goes without the +, did you mean "
        meant = word.lstrip("+")
        return Problem(f"{said}{for_shell([meant])}?", word, [meant])
    options = [word for key, word in words.items() if _OF_LOCKSTEP.match(key)]
    if options and "Could not override 'hydra.launcher." in text:
        choice = "hydra/launcher=lockstep"
        return Problem(f"{options[0]}: add {choice}", options[0], [options[0], choice])
    return Problem(first_line(error))


def _with_origin(
    problem: Problem, written: Mapping[str, Override], files: Mapping[str, Path]
) -> Problem:
    """A problem with a value, with the word that set it, or the user's own file that may have."""
    key = key_of(problem.word)
    if key in written:
        return replace(problem, word=str(written[key].input_line))
    file = files.get(key.partition(".")[0])
    return problem if file is None else replace(problem, text=f"{problem.text} ({said_path(file)})")


def choices_of(override: Override, loader: ConfigLoader) -> list[str]:
    """The choices of the group from which an override chooses; none if it does not."""
    choices: list[str] = loader.get_group_options(override.key_or_group)
    return choices


def _own_folders(loader: ConfigLoader) -> list[Path]:
    """The folders of the user's own choices."""
    entries = loader.get_search_path().get_path()
    own = [item.path for item in entries if item.provider in ("command-line", "hydra.searchpath")]
    return folders_of(own)


def _changes_key(override: Override, loader: ConfigLoader) -> bool:
    """Whether an override changes a key of the config.

    Others choose from a group, are Hydra's own, or add a key at the top.
    """
    adds_to_top = _adds(override) and "." not in override.key_or_group
    return not (choices_of(override, loader) or override.is_hydra_override() or adds_to_top)


def _adds(override: Override) -> bool:
    """Whether an override may add a key, with `+` or `++`."""
    return bool(override.is_add() or override.is_force_add())


def bad_choices(command: str, override: Override, loader: ConfigLoader) -> list[Problem]:
    """The problems with the names that an override, or a sweep, chooses from a group."""
    options = choices_of(override, loader)
    if not options or override.is_interval_sweep():
        return []
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    if command != "train" and not override.is_hydra_override():
        options = []
    return [
        bad_choice(command, override, name, options)
        for value in values
        for name in (value if isinstance(value, list) else [value])
        if str(getattr(name, "text", name)) not in options
    ]
