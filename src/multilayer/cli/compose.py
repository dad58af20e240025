"""Composing the config groups, and checking what the user wrote. No torch here."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from multilayer.cli.resumed_config import use_config_loader
from multilayer.core.config_folder import choices_with, conf_dir
from multilayer.core.errors import UserError, did_you_mean, first_line, raise_all
from multilayer.core.renamed import current_key
from multilayer.core.schema import finds_lr
from multilayer.core.text import as_override
from multilayer.runs.config import Plain, problems_with, to_plain


def check_command_line(
    command: str, overrides: Sequence[str], *, config_dir: str | None = None, sweep: bool = False
) -> Plain | None:
    """Compose what the overrides ask for and check it whole, without torch and without data.

    In a sweep, one sound job is enough: what is wrong in a single job stops that job alone.
    Returns the config, in a sweep that of the first sound job; None where only a sweeper knows it.

    Raises `UserError` with every problem found.
    """
    with hydra_at(conf_dir(), config_dir):
        parsed = parse(overrides)
        swept = [override for override in parsed if override.is_sweep_override()]
        if swept and not sweep:
            sweep = is_sweep_by_itself(command, [item for item in parsed if item not in swept])
            raise_all([] if sweep else [several_values(override) for override in swept])
        if not sweep:
            return check_job(command, parsed)
        raise_all(
            [problem for choice in swept_choices(parsed) for problem in unknown_choices(choice)]
        )
        errors = []
        for job in jobs(parsed):
            try:
                return check_job(command, job, in_sweep=True)
            except UserError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return None


@contextmanager
def hydra_at(root: Path, config_dir: str | None) -> Iterator[None]:
    """Hydra's compose API on our config groups, with a folder of the user's beside them.

    `hydra.initialize_config_dir` does the same for one folder alone.
    """
    search_path = create_config_search_path(str(root))
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir {config_dir}: no such folder")
        folder = f"file://{Path(config_dir).resolve()}"
        search_path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
    setbase("1.3")
    use_config_loader()
    Hydra.create_main_hydra2(task_name="multilayer", config_search_path=search_path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides in Hydra's grammar."""
    parser = OverridesParser.create(config_loader=config_loader())
    parsed, problems = [], []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            problems.append(f"{text}: not of the form key=value ({first_line(error)}){hint(text)}")
    raise_all(problems)
    return parsed


def hint(text: str) -> str:
    """How to write a mark, which is no word to Hydra: a shell takes one pair of quotes away.

    >>> print(hint("data.decimal=,"))
    ; a mark is written in quotes twice: "data.decimal=','"
    """
    is_mark = re.fullmatch(r"([\w.]+)=([^\w'\"]{1,2})", text)
    return (
        f"; a mark is written in quotes twice: {as_override(*is_mark.groups())}" if is_mark else ""
    )


def is_sweep_by_itself(command: str, parsed: Sequence[Override]) -> bool:
    """Whether the chosen files make it a sweep without -m, as those of some experiments do."""
    choices = [override.input_line or "" for override in parsed if is_group(override)]
    try:
        mode = compose(command, choices, return_hydra_config=True).hydra.mode
    except HydraException:
        return False
    return bool(mode == RunMode.MULTIRUN)


def several_values(override: Override) -> str:
    """The problem with several values where one is expected."""
    key, values = override.get_key_element(), override.get_value_string()
    return f"{key}={values}: several values are a sweep, add -m; a list is {key}=[{values}]"


def swept_choices(parsed: Sequence[Override]) -> list[Override]:
    """Each choice that some job of a sweep makes from a config group."""
    swept = [override for override in parsed if override.is_choice_sweep() and is_group(override)]
    return parse(
        [
            f"{override.get_key_element()}={value}"
            for override in swept
            for value in override.sweep_string_iterator()
        ]
    )


def jobs(parsed: Sequence[Override]) -> Iterator[list[Override]]:
    """The overrides of each job of a sweep, in the order of Hydra's own sweeper.

    Nothing where a value is only known to a sweeper that searches.
    """
    if any(override.is_interval_sweep() for override in parsed):
        return
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in parsed
    ]
    for job in product(*choices):
        yield parse(job)


def check_job(command: str, parsed: Sequence[Override], *, in_sweep: bool = False) -> Plain:
    """The plain config of one job, checked for choices, keys, missing values, types and ranges.

    Values are set after the composing, which is done once; `${hydra:overrides.task}` and the names
    made of it lack them here, and have them in the run.
    """
    wrong = [item for item in parsed if is_group(item) and unknown_choices(item)]
    groups = tuple(f"{item.key_or_group}." for item in wrong)
    right = [
        item for item in parsed if item not in wrong and not item.key_or_group.startswith(groups)
    ]
    start = "resume" if command == "train" else ""
    changes = [item for item in right if item.key_or_group != start and changes_key(item)]
    config = compose_job(command, [item for item in right if item not in changes])
    keys = set(dotted_keys(OmegaConf.to_container(config, resolve=False)))
    unknown = [item for item in changes if not adds(item) and item.key_or_group not in keys]
    change(config, [item for item in changes if item not in unknown])
    values = to_plain(config)
    raise_all(
        [problem for item in wrong for problem in unknown_choices(item)]
        + [unknown_key(item.key_or_group, keys) for item in unknown]
        + problems_with(command, values, in_sweep)
    )
    raise_all(rate_beside_sweep(right, config))
    return values


def is_group(override: Override) -> bool:
    """Whether an override chooses from a config group."""
    return bool(config_loader().get_group_options(override.key_or_group))


def changes_key(override: Override) -> bool:
    """Whether an override changes a key of the config.

    Others choose from a group, are Hydra's own, or add at the top: a group of a
    `hydra.searchpath` perhaps.
    """
    adds_to_top = adds(override) and "." not in override.key_or_group
    return not (is_group(override) or override.is_hydra_override() or adds_to_top)


def adds(override: Override) -> bool:
    """Whether an override may add a key, with `+` or `++`."""
    return bool(override.is_add() or override.is_force_add())


def unknown_choices(override: Override) -> list[str]:
    """The problems with the chosen names of a group."""
    group = override.key_or_group
    options = config_loader().get_group_options(group)
    value = override.value()
    chosen = value if isinstance(value, list) else [value]
    return [
        f"{group}={'null' if name is None else name}: no such choice, "
        f"{did_you_mean(str(name), options)}"
        for name in chosen
        if str(name) not in options
    ]


def unknown_key(key: str, keys: set[str]) -> str:
    """The problem with a key, and where such a key would fit."""
    now = current_key(key)
    if now != key and (now in keys or config_loader().get_group_options(now)):
        return f"{key}: renamed to {now}"
    group, _, name = now.rpartition(".")
    owners = choices_with(group, name)
    if owners:
        return f"{key}: not a key here; {', '.join(owners)} {'have' if owners[1:] else 'has'} it"
    deeper = sorted(known for known in keys if known.endswith(f".{key}"))
    if deeper:
        return f"{key}: unknown key, did you mean {deeper[0]}?"
    siblings = [known for known in keys if group and known.rpartition(".")[0] == group]
    top = [known for known in keys if "." not in known]
    return f"{key}: unknown key, {did_you_mean(key, siblings or top)}"


def compose_job(command: str, overrides: Sequence[Override]) -> DictConfig:
    """Compose a command's config of some of its overrides; what Hydra refuses is a `UserError`.

    A config may refer to what Hydra knows of the job, by `${hydra:job.num}` say; here it is that
    of a first job.
    """
    words = [override.input_line or "" for override in overrides]
    try:
        config = compose(command, words, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(first_line(error)) from error
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = 0
        config.hydra.runtime.output_dir = os.getcwd()
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    return config


def change(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Set, add and delete keys of a composed config, as Hydra does when it composes it."""
    try:
        ConfigLoaderImpl._apply_overrides_to_config(list(overrides), config)
    except HydraException as error:
        is_there = "An item is already at" in str(error)
        hint = " Leave out the +, or write ++." if is_there else ""
        raise UserError(first_line(error) + hint) from error


def rate_beside_sweep(overrides: Sequence[Override], config: DictConfig) -> list[str]:
    """The problem with naming a learning rate where a callback is to find one."""
    if not finds_lr(config.get("callbacks")) or config.get("resume") is not None:
        return []  # a run to go on from has its rate
    return [
        f"{override.input_line}: callbacks=lr_sweep finds the rate; leave one of them out"
        for override in overrides
        if override.key_or_group == "optimizer.lr"
    ]


def dotted_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of nested dicts, as one would write it in an override.

    >>> list(dotted_keys({"a": {"b": 1}}))
    ['a', 'a.b']
    """
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from dotted_keys(value, f"{prefix}{key}.")


def config_loader() -> ConfigLoader:
    """Hydra's loader, which knows the groups."""
    return GlobalHydra.instance().config_loader()
