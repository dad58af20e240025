"""Composing a config in Python, as the command line composes it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.version import VersionBase

from multilayer.cli.check import check_command_line
from multilayer.cli.config_loader import make_hydra
from multilayer.cli.help import COMMANDS
from multilayer.cli.search_path import existing_folder, search_path_in
from multilayer.core.errors import UserError, unknown_name
from multilayer.runs.config import Config


def compose(
    command: str = "train", overrides: Sequence[str] = (), *, config_dir: str | Path | None = None
) -> Config:
    """The config that a command line asks for, checked as the command checks it.

    Hydra composes it of the config groups. No Hydra app is started, and one that is initialized is
    left as it was. torch is not imported, and no data is read.

    Args:
        command: the command whose config it is.
        overrides: the words of the command line, as `optimizer.lr=0.1`; each has one value, since
            a config is of one run.
        config_dir: a folder with further choices of your own, as with `--config-dir`.

    Returns:
        The config as plain data: dicts, lists, strings and numbers, which may be changed before
        `train` gets it. Paths in it are relative to the working folder.

    Raises:
        UserError: With every problem found: an unknown key or choice, a wrong type or value, a
            sweep.

    >>> config = compose("train", ["data=iris", "optimizer=sgd", "optimizer.lr=0.1"])
    >>> config["optimizer"]["lr"], config["data"]["name"]
    (0.1, 'iris')
    >>> compose("train", ["optimizer.lr=fast"])
    Traceback (most recent call last):
    multilayer.core.errors.UserError: optimizer.lr=fast: must be a valid number
    """
    if command not in COMMANDS:
        raise UserError(unknown_name("command", str(command), COMMANDS))
    if isinstance(overrides, str):
        raise UserError(f"overrides must be a list of words, as [{overrides!r}], got one string")
    words = list(map(str, overrides))
    with _hydra_left_alone():
        config = check_command_line(
            command, words, config_dir=None if config_dir is None else str(config_dir)
        )
        folder = None if config_dir is None else existing_folder("config_dir=", str(config_dir))
        mode = make_hydra(search_path_in(words), folder).get_mode(command, words)
    if config is None or mode == RunMode.MULTIRUN:
        raise UserError("these overrides are of a sweep; compose the config of each run instead")
    return config


@contextmanager
def _hydra_left_alone() -> Iterator[None]:
    """Leave what Hydra keeps for the whole process as another Hydra app has set it."""
    config, version = HydraConfig.instance(), VersionBase.instance()
    before = config.cfg, version.version_base
    try:
        yield
    finally:
        config.cfg, version.version_base = before
