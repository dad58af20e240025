"""Run folders and checkpoints from strangers: they are data, and may not start anything."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.errors import UserError
from multilayer.runs.checkpoint import load_trained, read_checkpoint
from multilayer.targets import check_stranger

from .conftest import Run

REFUSED = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.hub.load",  # not below an allowed package
    "torch.nn.modules.module.torch.hub.load",  # reached through one that is allowed
    "multilayer.runs.manifest.subprocess.run",  # likewise
    "multilayer.frames.write_frame",  # ours, and no network
    "torch.nn.init.normal_",
    "pytorch_lightning.Trainer",
    "torch.nn.NoSuchLayer",
]


@pytest.mark.parametrize("target", REFUSED)
@pytest.mark.parametrize("component", ["model", "loss", "data"])
def test_a_config_may_only_name_networks_losses_and_data(target: str, component: str) -> None:
    """Also where the name is deep inside a node."""
    node = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": target}]}
    with pytest.raises(UserError):
        check_stranger({component: {"_target_": target}}, [])
    with pytest.raises(UserError):
        check_stranger({component: node}, [])


def test_allowed_names_pass() -> None:
    """Ours and torch's."""
    check_stranger({"model": {"_target_": "multilayer.MLP"}}, [])
    check_stranger({"model": {"_target_": "torch.nn.Linear"}}, [])
    check_stranger({"data": {"_target_": "multilayer.data.BuiltinData"}}, [])


def with_target(finished_run: Path, path: Path, target: str) -> Path:
    """The checkpoint of a run with another name for its network."""
    checkpoint: dict[str, Any] = read_checkpoint(finished_run / "checkpoints" / "best.ckpt")
    checkpoint["multilayer"]["config"]["model"]["_target_"] = target
    torch.save(checkpoint, path)
    return path


def test_a_checkpoint_that_names_a_command_starts_nothing(
    multilayer: Run, finished_run: Path, tmp_path: Path
) -> None:
    """Exit code 2, and the name; how to allow it, for who trusts it."""
    with_target(finished_run, tmp_path / "evil.ckpt", "os.system")
    outcome = multilayer("evaluate", "run=evil.ckpt")
    assert outcome.code == 2
    assert "os.system" in outcome.err
    assert "allow=[os]" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_network_of_the_users_own_is_allowed_by_name(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`allow=[mine]` takes classes of that package."""
    (tmp_path / "mine_networks.py").write_text(
        "from multilayer import MLP\nclass Net(MLP):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = with_target(finished_run, tmp_path / "mine.ckpt", "mine_networks.Net")
    with pytest.raises(UserError, match="mine_networks"):
        load_trained(path, allowed=[])
    trained = load_trained(path, allowed=["mine_networks"])
    assert type(trained.module.network).__name__ == "Net"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_is_not_loaded(multilayer: Run, tmp_path: Path) -> None:
    """Neither as it is, nor inside torch's own format."""
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    torch.save({"multilayer": Bomb(tmp_path / "exploded")}, tmp_path / "torch.ckpt")
    for name in ("pickle.ckpt", "torch.ckpt"):
        outcome = multilayer("evaluate", f"run={name}")
        assert outcome.code == 2
        assert f"{name} is not a checkpoint" in outcome.err
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"weights: none\n"])
def test_a_file_that_is_no_checkpoint_is_told(
    multilayer: Run, tmp_path: Path, content: bytes
) -> None:
    """Empty, cut short, or of another kind."""
    (tmp_path / "x.ckpt").write_bytes(content)
    outcome = multilayer("evaluate", "run=x.ckpt")
    assert outcome.code == 2
    assert "x.ckpt is not a checkpoint" in outcome.err


def test_a_checkpoint_of_another_program_is_told(multilayer: Run, tmp_path: Path) -> None:
    """It holds no config."""
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "other.ckpt")
    outcome = multilayer("evaluate", "run=other.ckpt")
    assert outcome.code == 2
    assert "not a checkpoint of multilayer" in outcome.err


def test_weights_that_do_not_fit_are_told(
    multilayer: Run, finished_run: Path, tmp_path: Path
) -> None:
    """The config says another width than the weights have."""
    checkpoint: dict[str, Any] = read_checkpoint(finished_run / "checkpoints" / "best.ckpt")
    checkpoint["multilayer"]["config"]["model"]["d_hidden"] = [3]
    torch.save(checkpoint, tmp_path / "odd.ckpt")
    outcome = multilayer("evaluate", "run=odd.ckpt")
    assert outcome.code == 2
    assert "weights do not fit" in outcome.err
