"""Checks a command line whole, before torch is imported and any data is read."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from multilayer.cli.compose import make_hydra
from multilayer.core.config_folder import choices_with
from multilayer.core.config_problems import has_class
from multilayer.core.errors import UserError, did_you_mean, first_line, raise_all
from multilayer.core.renamed import current_key
from multilayer.core.schema import sweep_problems
from multilayer.core.text import as_override, quote_for_shell
from multilayer.runs.config import Config, mask_overrides, problems_with, to_plain


def check_command_line(
    command: str, overrides: Sequence[str], *, config_dir: str | None = None, sweep: bool = False
) -> Config | None:
    """Compose what the overrides ask for, and check it.

    In a sweep, one valid job is enough: what is wrong in a single job ends that job alone.

    Args:
        command: `train`, for example.
        overrides: the words of the command line without flags.
        config_dir: a folder with the user's own choices.
        sweep: whether the overrides are those of a sweep.

    Returns:
        The config, in a sweep that of the first valid job; None where only a sweeper knows it.

    Raises:
        UserError: with every problem found.
    """
    hydra = make_hydra(_search_path(_parse(overrides), config_dir))
    loader = hydra.config_loader
    parsed = _parse(overrides, loader)
    swept = [override for override in parsed if override.is_sweep_override()]
    of_sweep = [item for item in parsed if item.key_or_group.startswith("sweep.")]
    launching = [item for item in parsed if re.match("hydra[./]launcher", item.key_or_group)]
    for_sweep = [*of_sweep, *launching] if command == "train" else []
    if (swept or for_sweep) and not sweep:
        # The chosen files may make it a sweep, as those of some experiments do.
        choices = [item for item in parsed if item not in swept and _choices(item, loader)]
        mode = hydra.get_mode(command, [str(item.input_line) for item in choices])
        sweep = mode == RunMode.MULTIRUN
        raise_all([] if sweep else [_several_values(override) for override in swept])
    if not sweep:
        raise_all([f"{item.input_line}: this is for a sweep, add -m" for item in for_sweep])
        return _check_job(command, parsed, loader)
    several = [
        f"{item.input_line}: one value for the whole sweep" for item in of_sweep if item in swept
    ]
    raise_all(several + [problem for item in swept for problem in _bad_choices(item, loader)])
    first = None
    for job in _jobs(parsed):
        try:
            return _check_job(command, job, loader, in_sweep=True)
        except UserError as error:
            first = first or error
    if first is not None:
        if "Could not override 'hydra.launcher." in str(first):
            raise_all(_lacking_launcher(overrides, launching))
        raise first
    return None


_OF_LOCKSTEP = re.compile(r"hydra\.launcher\.(max_members|ray|slurm|stack|workers)\b")
"""The keys of the launcher `lockstep`."""


def _lacking_launcher(overrides: Sequence[str], launching: Sequence[Override]) -> list[str]:
    """The problem with options of a launcher that was not chosen, and the command that chooses it.

    Args:
        overrides: the words of the command line.
        launching: those of them that choose a launcher or set its options.
    """
    options = [item.input_line for item in launching if _OF_LOCKSTEP.match(item.key_or_group)]
    if not options:
        return []
    words = ["multilayer", "train", "-m", *mask_overrides(overrides), "hydra/launcher=lockstep"]
    return [f"{options[0]}: add hydra/launcher=lockstep, as in {shlex.join(words)}"]


def _parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse overrides in Hydra's grammar, in which `glob(*)` asks the loader for choices."""
    parser = OverridesParser.create(config_loader=loader)
    parsed, problems = [], []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            problems.append(f"{text}: not of the form key=value ({first_line(error)}){_hint(text)}")
    raise_all(problems)
    return parsed


def _hint(text: str) -> str:
    """How to write a punctuation mark for Hydra: a shell removes one pair of quotes.

    >>> print(_hint("data.decimal=,"))
    ; a mark is written in quotes twice: "data.decimal=','"
    """
    mark = re.fullmatch(r"([\w.]+)=([^\w'\"]{1,2})", text)
    return f"; a mark is written in quotes twice: {as_override(*mark.groups())}" if mark else ""


def _search_path(parsed: Sequence[Override], config_dir: str | None) -> list[str]:
    """The folders with further choices that the command line names."""
    named = [item.value() for item in parsed if item.key_or_group == "hydra.searchpath"]
    folders = [str(each) for each in named[0]] if named and isinstance(named[0], list) else []
    if config_dir is None:
        return folders
    if not Path(config_dir).is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder")
    return [f"file://{Path(config_dir).resolve()}", *folders]


def _several_values(override: Override) -> str:
    """The problem with several values where one is expected."""
    key, values = override.get_key_element(), override.get_value_string()
    as_list = quote_for_shell(f"{key}=[{values}]")
    return f"{key}={values}: several values are a sweep, add -m; a list is {as_list}"


def _jobs(parsed: Sequence[Override]) -> Iterator[list[Override]]:
    """The overrides of each job of a sweep, in the order of Hydra's own sweeper.

    Nothing where a value is only known to a sweeper that searches.
    """
    if not any(override.is_interval_sweep() for override in parsed):
        (jobs,) = BasicSweeper.split_arguments(list(parsed), max_batch_size=None)
        yield from map(_parse, jobs)


def _check_job(
    command: str, parsed: Sequence[Override], loader: ConfigLoader, *, in_sweep: bool = False
) -> Config:
    """The plain config of one job, checked for choices, keys, missing values, types and ranges.

    Values are set after the composition, which is done once; `${hydra:overrides.task}` and the
    names made of it lack them here, and have them in the run. `${hydra:job.num}` is that of a first
    job.
    """
    bad = [(f"{item.key_or_group}.", _bad_choices(item, loader)) for item in parsed]
    groups = tuple(key for key, problems in bad if problems)
    right = [item for item in parsed if not f"{item.key_or_group}.".startswith(groups)]
    start = "resume" if command == "train" else ""
    changes = [item for item in right if item.key_or_group != start and _changes_key(item, loader)]
    try:
        words = [str(item.input_line) for item in right if item not in changes]
        config = loader.load_configuration(command, words, RunMode.RUN)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = 0
            config.hydra.runtime.output_dir = os.getcwd()
            HydraConfig.instance().set_config(config)
            del config["hydra"]
        keys = set(_dotted_keys(OmegaConf.to_container(config, resolve=False)))
        if OmegaConf.is_config(config.get("sweep")):
            keys.remove("sweep")  # which was the name of a group
        unknown = [item for item in changes if not _adds(item) and item.key_or_group not in keys]
        known = [item for item in changes if item not in unknown]
        ConfigLoaderImpl._apply_overrides_to_config(known, config)
        values = to_plain(config)
        of_sweep = OmegaConf.select(config, "sweep") if in_sweep else None
    except (HydraException, OmegaConfBaseException) as error:
        is_there = "An item is already at" in str(error)
        hint = " Leave out the +, or write ++." if is_there else ""
        raise UserError(first_line(error) + hint) from error
    finally:
        HydraConfig.instance().cfg = None
    raise_all(
        [problem for _, problems in bad for problem in problems]
        + [_unknown_key(item.key_or_group, keys, loader) for item in unknown]
        + problems_with(command, values, in_sweep=in_sweep)
        + (sweep_problems(OmegaConf.to_container(of_sweep)) if of_sweep is not None else [])
    )
    if has_class(values.get("callbacks"), ".LearningRateSweep") and values["resume"] is None:
        rates = [item.input_line for item in right if item.key_or_group == "optimizer.lr"]
        refusal = "callbacks=lr_sweep finds the rate; leave one of them out"
        raise_all([f"{rate}: {refusal}" for rate in rates])
    return values


def _choices(override: Override, loader: ConfigLoader) -> list[str]:
    """The choices of the group from which an override chooses; none if it does not."""
    choices: list[str] = loader.get_group_options(override.key_or_group)
    return choices


def _changes_key(override: Override, loader: ConfigLoader) -> bool:
    """Whether an override changes a key of the config.

    Others choose from a group, are Hydra's own, or add a key at the top.
    """
    adds_to_top = _adds(override) and "." not in override.key_or_group
    return not (_choices(override, loader) or override.is_hydra_override() or adds_to_top)


def _adds(override: Override) -> bool:
    """Whether an override may add a key, with `+` or `++`."""
    return bool(override.is_add() or override.is_force_add())


def _bad_choices(override: Override, loader: ConfigLoader) -> list[str]:
    """The problems with the names that an override, or a sweep, chooses from a group."""
    options = _choices(override, loader)
    if not options or override.is_interval_sweep():
        return []
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    return [
        f"{override.key_or_group}={'null' if name is None else name}: no such choice, "
        f"{did_you_mean(str(name), options)}"
        for value in values
        for name in (value if isinstance(value, list) else [value])
        if str(getattr(name, "text", name)) not in options
    ]


def _unknown_key(key: str, keys: set[str], loader: ConfigLoader) -> str:
    """The problem with a key, and where such a key would fit."""
    current = current_key(key)
    if current != key and (current in keys or loader.get_group_options(current)):
        return f"{key}: renamed to {current}"
    group, _, name = current.rpartition(".")
    owners = choices_with(group, name)
    if owners:
        return f"{key}: not a key here; {', '.join(owners)} {'have' if owners[1:] else 'has'} it"
    deeper = sorted(known for known in keys if known.endswith(f".{key}"))
    if deeper:
        return f"{key}: unknown key, did you mean {deeper[0]}?"
    siblings = [known for known in keys if group and known.rpartition(".")[0] == group]
    top = [known for known in keys if "." not in known]
    return f"{key}: unknown key, {did_you_mean(key, siblings or top)}"


def _dotted_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of nested dicts, as an override writes it.

    >>> list(_dotted_keys({"a": {"b": 1}}))
    ['a', 'a.b']
    """
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _dotted_keys(value, f"{prefix}{key}.")
