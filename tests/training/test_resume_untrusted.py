"""A run of a stranger that is to go on: nothing of it acts before it is compared."""

from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint

from .resumed import config_in, crafted, go_on


def stranger(run: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a run whose config says something else in its checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    config = content["multilayer"]["config"]
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


EVIL = {"_target_": "os.system", "_args_": ["touch started"]}
EVIL_FACTORY = EVIL | {"_partial_": True}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"callbacks": {"x": EVIL}}, "names os.system for callbacks.x"),
        ({"logger": {"x": EVIL}}, "names os.system for logger.x"),
        ({"optimizer": EVIL}, "names os.system for optimizer"),
        ({"scheduler": EVIL_FACTORY}, "names os.system for scheduler"),
        ({"data": EVIL}, "names os.system for data"),
        ({"trainer": {"profiler": EVIL}}, "names os.system for trainer.profiler"),
        ({"trainer": {"plugins": [EVIL]}}, r"names os.system for trainer.plugins\[0\]"),
        ({"trainer": EVIL}, "names os.system for trainer"),
        ({"trainer": {"plugins": (EVIL,)}}, "hold a tuple, which is no plain data"),
        ({"callbacks": {"x": EVIL | {"_target_": nan}}}, "callbacks.x._target_=nan: "),
        ({"callbacks": {"x": {"_target_": "torch.optim.SGD"}}}, "may not be loaded"),
        (
            {"callbacks": {"x": {"_target_": "multilayer.data.table_io.write_frame"}}},
            "may not be loaded",
        ),
        ({"callbacks": {"checkpoint": {"folder": "/elsewhere"}}}, "give it as callbacks.checkp"),
        ({"logger": {"x": {"save_dir": "../elsewhere"}}}, "give it as logger.x.save_dir=VALUE"),
        ({"logger": {"x": {"uri": "https://example.org"}}}, "give it as logger.x.uri=VALUE"),
        ({"logger": {"x": {"uris": [1, "https://a.org"]}}}, r"give it as logger.x.uris\[1\]=VALUE"),
        ({"logger": {"x": {"uri": "${oc.env:HOME}"}}}, "give it as logger.x.uri=VALUE"),
        ({"logger": {"x": {"uri": "${seed}"}}}, "give it as logger.x.uri=VALUE"),
        ({"logger": {"x": {"api_key": 1234}}}, "give it as logger.x.api_key=VALUE"),
        ({"monitor": "${oc.env:HOME}"}, "give it as monitor=VALUE"),
        ({"data": {"path": "s3://bucket/x"}}, r"give it as data\.path=VALUE"),
    ],
)
def test_a_strangers_run_starts_nothing(
    full_batch: dict[str, Path],
    tmp_path: Path,
    changes: dict[str, Any],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And writes nowhere but where a run writes."""
    monkeypatch.chdir(tmp_path)
    run = stranger(full_batch["adam"], tmp_path / "run", **changes)
    with pytest.raises(UserError, match=expected):
        go_on(run, tmp_path / "on", "trainer.max_epochs=5")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_the_user_says_instead_of_a_stranger_is_trusted(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The callbacks of the run are gone with it; its own list does not allow anything."""
    run = stranger(
        full_batch["adam"], tmp_path / "run", callbacks={"x": EVIL}, trusted_packages=["os"]
    )
    with pytest.raises(UserError, match=r"if you trust the run, add \"trusted_packages=\[os\]\""):
        go_on(run, tmp_path / "on", "trainer.max_epochs=4")
    go_on(run, tmp_path / "on", "trainer.max_epochs=4", "callbacks=default")
    assert "x" not in config_in(tmp_path / "on")["callbacks"]


def test_what_is_only_compared_is_a_strangers_too(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The schedule of the run is gone through even where another takes its place."""
    run = stranger(full_batch["adam"], tmp_path / "run", scheduler=EVIL_FACTORY)
    with pytest.raises(UserError, match=r"names os\.system for scheduler"):
        go_on(run, tmp_path / "on", "trainer.max_epochs=4", "scheduler=cosine")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("trainer", None, "config.trainer=null: "),
        ("optimizer", "x", "config.optimizer=x: "),
        ("optimizer", {"_target_": 3}, "config.optimizer._target_=3: "),
        ("trainer", {"max_epochs": "x"}, "config.trainer.max_epochs=x: "),
        ("callbacks", "x", "is damaged, or no last.ckpt"),
        ("callbacks", {"progress": "abc"}, "is damaged, or no last.ckpt"),
        ("logger", 3, "logger=3: must be a valid dict"),
        ("seed", None, "seed=null: must be a valid integer"),
        ("engine", ["lightning"], "engine"),
    ],
)
def test_a_config_of_the_wrong_shape_is_refused_by_name(
    full_batch: dict[str, Path], tmp_path: Path, key: str, value: Any, expected: str
) -> None:
    """Before anything is made of it."""
    run = stranger(full_batch["adam"], tmp_path / "run", **{key: value})
    with pytest.raises(UserError, match=expected):
        go_on(run, tmp_path / "on", "trainer.max_epochs=5", "engine=lockstep")
    assert not (tmp_path / "on").exists()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("pytorch-lightning_version",), "x"),
        (("state_dict", "more"), torch.zeros(1)),
        (("optimizer_states", 0, "state", 1), {}),
        (("optimizer_states", 0, "param_groups", 0, "initial_lr"), [0.1]),
        (("optimizer_states", 0, "param_groups", 0, "lr"), torch.zeros(2)),
        (("callbacks", "Checkpoint", "cpu"), torch.zeros(5056, dtype=torch.int64)),
        (("callbacks", "Checkpoint", "cpu"), torch.zeros(5056, dtype=torch.uint8)),
        (("callbacks", "History", "columns", "step"), []),
        (("callbacks", "History", "columns", "train/loss"), ["x"] * 2),
        (("loops", "fit_loop", "state_dict", "combined_loader", 0, "n_given"), "x"),
        (("multilayer", "config", "callbacks", "early_stopping"), torch.zeros(2)),
    ],
    ids=lambda it: str(it)[:60],
)
def test_a_crafted_checkpoint_is_refused_before_anything_is_written(
    full_batch: dict[str, Path], tmp_path: Path, where: tuple[Any, ...], value: Any
) -> None:
    """Also where types and shapes are right, and only a library finds what is wrong."""
    run = crafted(full_batch["sgd"], tmp_path / "run", where, value)
    words = ["trainer.max_epochs=5", "callbacks=[default,learning_curves]"]
    with pytest.raises(UserError, match=r"last\.ckpt"):
        go_on(run, tmp_path / "on", *words)
    assert not (tmp_path / "on").exists()
