"""Reading a checkpoint back, as plain data from a stranger."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from multilayer.build import make_module
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Columns
from multilayer.errors import UserError
from multilayer.modules import SupervisedModule
from multilayer.runs.checkpoint_file import read_plain
from multilayer.targets import check_stranger
from multilayer.threads import set_recorded_threads


@dataclass(frozen=True)
class Trained:
    """A trained module with the config and the columns it was trained on."""

    module: SupervisedModule
    config: dict[str, Any]
    columns: Columns
    preprocessing: Preprocessing
    data_fingerprint: str


def load_trained(path: Path, *, allowed: list[str]) -> Trained:
    """Rebuild a trained module from its checkpoint alone, ready to predict on the CPU.

    Only networks, losses and data sets from the allowed packages are instantiated.

    Raises `UserError` for a file that is no checkpoint of ours, or names what it may not.
    """
    checkpoint = read_checkpoint(path)
    about = checkpoint["multilayer"]
    config, columns = about["config"], Columns(**about["columns"])
    check_stranger({name: config[name] for name in ("data", "model", "loss")}, allowed)
    preprocessing = Preprocessing.of(columns, numbers=config["data"].get("numbers", "standard"))
    load_weights(preprocessing, part_of(checkpoint["state_dict"], "preprocessing."), path)
    fingerprint = about["data_fingerprint"]
    module = make_module(config, columns, preprocessing, data_fingerprint=fingerprint)
    load_weights(module, checkpoint["state_dict"], path)
    set_recorded_threads(about["threads"])
    return Trained(module.eval(), config, columns, preprocessing, fingerprint)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The plain data in a checkpoint file.

    Raises `UserError` for a file that is damaged, or no checkpoint of ours.
    """
    checkpoint = read_plain(path)
    if "multilayer" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of multilayer: it holds no config")
    return checkpoint


def part_of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load the weights, which must fit the network that the config describes."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the config: {error}") from error
