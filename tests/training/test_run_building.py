"""Modules and trainers from a plain config."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from multilayer import RegressionModule
from multilayer.core.errors import UserError
from multilayer.data.table import Columns
from multilayer.runs.folder import RunFolder
from multilayer.training.components import make_all
from multilayer.training.epoch_outputs import KEPT_BYTES
from multilayer.training.lightning_adapter import unwrapped_callbacks
from multilayer.training.run import _make_module, _make_trainer

from ..trained import config_of
from .test_components import FLATS, fitted_to_flats


def test_a_module_has_what_its_config_says_and_what_rebuilds_it() -> None:
    """The task decides the class; the config, the columns and the fingerprint travel along."""
    config = config_of(
        "loss=huber", "data=diabetes", "scheduler=cosine", "monitor=validation/r2", "mode=max"
    )
    preprocessing = fitted_to_flats()
    data: Any = SimpleNamespace(
        columns=FLATS,
        preprocessing=preprocessing,
        fingerprint="f",
        stream="rows",
        train_minibatches=lambda: SimpleNamespace(batch_size=4, n_rows=8),
    )
    module = _make_module(config, data, n_steps=40)
    assert isinstance(module, RegressionModule)
    assert isinstance(module.loss, nn.HuberLoss)
    assert module.preprocessing is preprocessing
    assert module.metadata["config"] == config
    assert Columns(**module.metadata["columns"]) == FLATS
    assert module.metadata["data_fingerprint"] == "f"
    assert (module.scheduler_interval, module.monitor) == ("step", "validation/r2")
    assert module.epochs["train"][0].kept_bytes == KEPT_BYTES
    data.stream = None
    in_memory = _make_module(config, data, n_steps=40)
    assert in_memory.epochs["train"][0].kept_bytes is None
    assert module.make_optimizer is not None
    assert module.make_scheduler is not None
    optimizer = module.make_optimizer([nn.Parameter(torch.zeros(1))])
    scheduler: Any = module.make_scheduler(optimizer)
    for _ in range(40):
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.0])


def test_a_trainer_has_the_callbacks_of_the_config_and_no_others(tmp_path: Path) -> None:
    """And the history; Lightning's monitor needs a logger; a quiet one has no summary."""
    run = RunFolder(tmp_path)

    def names(*overrides: str, quiet: bool = False) -> set[str]:
        trainer = _make_trainer(config_of(*overrides), run, quiet=quiet)
        assert trainer.default_root_dir == str(tmp_path)
        return {type(each).__name__ for each in unwrapped_callbacks(trainer)}

    usual = names()
    assert {"BestWeights", "EarlyStopping", "LearningRate", "NetworkSummary"} <= usual
    monitor = "+callbacks.rates._target_=pytorch_lightning.callbacks.LearningRateMonitor"
    assert names(monitor) == usual | {"LearningRateMonitor"}
    assert names(monitor, "logger=none") == usual
    assert names(quiet=True) == usual - {"NetworkSummary"}
    assert names("callbacks=none", "logger=none") == {"History"}
    assert _make_trainer(config_of("trainer.max_epochs=3"), run).max_epochs == 3


def test_components_that_are_null_are_left_out_and_others_need_a_target() -> None:
    """Each is named by its key, and is of a class that its group is for."""
    relu = {"_target_": "torch.nn.ReLU"}
    (made,) = make_all("callbacks", {"one": relu, "two": None}, {}, nn.Module)
    assert isinstance(made, nn.ReLU)
    with pytest.raises(UserError, match=r"callbacks\.two: has no _target_; choose the file of"):
        make_all("callbacks", {"one": relu, "two": {"patience": 3}}, {}, nn.Module)
    with pytest.raises(
        UserError, match="one: must be of a subclass of Callback or Logger, got ReL"
    ):
        make_all("callbacks", {"one": relu}, {}, pl.Callback, Logger)
