"""Run folders and checkpoints from strangers: they are data, and may not start anything."""

import copy
import math
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.instantiate import check_trusted_targets
from multilayer.training.loading import load

from ..conftest import Run

REFUSED = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.hub.load",  # not below an allowed package
    "torch.nn.modules.module.torch.hub.load",  # reached through one that is allowed
    "multilayer.runs.folder.subprocess.run",  # likewise
    "multilayer.data.table_io.write_frame",  # ours, and no network
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
        check_trusted_targets({component: {"_target_": target}}, [])
    with pytest.raises(UserError):
        check_trusted_targets({component: node}, [])


def test_allowed_names_pass() -> None:
    """Ours and torch's."""
    check_trusted_targets({"model": {"_target_": "multilayer.MLP"}}, [])
    check_trusted_targets({"model": {"_target_": "torch.nn.Linear"}}, [])
    check_trusted_targets({"data": {"_target_": "multilayer.data.BuiltinData"}}, [])


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
    assert 'if you trust the run, add "trusted_packages=[os]"\n' in outcome.err
    assert "Traceback" not in outcome.err


def test_a_network_of_the_users_own_is_allowed_by_name(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trusted_packages=[mine]` takes classes of that package."""
    (tmp_path / "mine_networks.py").write_text(
        "from multilayer import MLP\nclass Net(MLP):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = with_target(finished_run, tmp_path / "mine.ckpt", "mine_networks.Net")
    with pytest.raises(UserError, match="mine_networks"):
        load(path)
    trained = load(path, trusted_packages=["mine_networks"])
    assert type(trained.task_model.network).__name__ == "Net"


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
        assert f"{name} is damaged, or not a checkpoint" in outcome.err
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"weights: none\n"])
def test_a_file_that_is_no_checkpoint_is_told(
    multilayer: Run, tmp_path: Path, content: bytes
) -> None:
    """Empty, cut short, or of another kind."""
    (tmp_path / "x.ckpt").write_bytes(content)
    outcome = multilayer("evaluate", "run=x.ckpt")
    assert outcome.code == 2
    assert "x.ckpt is damaged, or not a checkpoint" in outcome.err


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


DELETED = object()

WRONG = [
    DELETED, None, "x", -1, 10**9, 1e300, math.nan, [], {}, [[]], [10**9], "y" * 10**5,
    torch.zeros(3), {"_target_": "torch.nn.Linear"},
]  # fmt: skip


def keys_in(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each value of nested dicts and lists."""
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield (*above, key)
            yield from keys_in(node[key], (*above, key))


def with_value(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value, or without one."""
    content = copy.deepcopy(content)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if value is DELETED:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return content


GOLDEN = Path(__file__).parents[1] / "golden"
READ = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "multilayer")
NOT_READ = ("trainer", "callbacks", "logger", "scheduler", "optimizer")
"""Of the config, by those who evaluate and predict."""

CHANGES = {"split_seed", "label_smoothing", "classes", "target"}
"""Keys that may be other ones, or take their defaults: then these are other rows, say."""


@pytest.mark.parametrize("run", ["finished", "table"])
def test_a_crafted_checkpoint_is_refused_or_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    """Any of its values missing, of another type, huge, negative or nested, one at a time."""
    content = {
        key: value
        for key, value in read_checkpoint(GOLDEN / run / "checkpoints" / "best.ckpt").items()
        if key in READ
    }
    rows = torch.zeros(4, len(content["multilayer"]["columns"]["features"]))
    path = tmp_path / "crafted.ckpt"
    torch.save(content, path)
    expected = load(path).task_model(rows)
    paths = [
        each
        for each in keys_in(content)
        if not (each[:2] == ("multilayer", "config") and each[2:3] and each[2] in NOT_READ)
    ]
    cases = random.Random(0).sample([(each, value) for each in paths for value in WRONG], 150)
    n_refused = 0
    for where, value in cases:
        torch.save(with_value(content, where, value), path)
        try:
            found = load(path).task_model(rows)
        except UserError:
            n_refused += 1
        else:
            is_weight = where[0] == "state_dict"
            assert is_weight or torch.equal(found, expected), (where, value)
    assert n_refused > 50


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("config", "model", "d_hidden"), [200_000, 200_000], "network of 4.,..., numbers"),
        (("config", "model", "d_hidden"), [-3], "config.model.d_hidden"),
        (("config", "model", "d_hidden"), [10**30], "model: empty.*unpacking long long$"),
        (("threads",), 100_000, "threads=100000"),
        (("columns", "features"), ["a", "a"], "must differ"),
        (("columns", "unheard_of"), 1, "unheard_of"),
        (("config", "data", "_target_"), DELETED, "_target_"),
        (("config", "loss"), {"_target_": "torch.nn.Identity"}, "takes 2 positional arguments"),
        (("config", "model"), {"_target_": "torch.nn.LSTM", "_args_": [4, 3]}, "got a tuple"),
        (("config", "model"), {"_target_": "torch.nn.MSELoss"}, "missing 1 required"),
        (("config", "data", "path"), None, None),
    ],
)
def test_what_a_crafted_checkpoint_says_is_checked_before_it_is_built(
    finished_run: Path, tmp_path: Path, where: tuple[str, ...], value: Any, message: str | None
) -> None:
    """No memory is taken for it, and no thread is started; a key more is nothing."""
    before = torch.get_num_threads()
    content = read_checkpoint(finished_run / "checkpoints" / "best.ckpt")
    path = tmp_path / "crafted.ckpt"
    torch.save(with_value(content, ("multilayer", *where), value), path)
    if message is None:
        assert load(path)
        return
    with pytest.raises(UserError, match=message.replace(".,...,", r"[\d,]+")):
        load(path)
    assert torch.get_num_threads() == before


def test_a_checkpoint_that_holds_itself_is_refused(finished_run: Path, tmp_path: Path) -> None:
    """And one that is nested without an end in sight."""
    content = read_checkpoint(finished_run / "checkpoints" / "best.ckpt")
    config = content["multilayer"]["config"]
    path = tmp_path / "crafted.ckpt"
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    for part, message in ((deep, "nested deeper"), ([config, config], "holds itself")):
        config["more"] = part
        torch.save(content, path)
        with pytest.raises(UserError, match=message):
            load(path)


def test_a_tensor_that_is_larger_than_the_file_is_refused(
    finished_run: Path, tmp_path: Path
) -> None:
    """A few bytes that say they are many: torch would copy each of them."""
    content = read_checkpoint(finished_run / "checkpoints" / "best.ckpt")
    content["state_dict"]["preprocessing.mean"] = torch.zeros(1).expand(10**12)
    torch.save(content, tmp_path / "crafted.ckpt")
    with pytest.raises(UserError, match="larger than what is stored"):
        load(tmp_path / "crafted.ckpt")


@pytest.mark.parametrize("name", ["mean", "scale", "median", "quantiles", "slots", "target_mean"])
def test_fitted_numbers_of_another_shape_are_refused(
    finished_run: Path, tmp_path: Path, name: str
) -> None:
    """One mean for all columns would be repeated, and give wrong predictions."""
    content = read_checkpoint(finished_run / "checkpoints" / "best.ckpt")
    content["state_dict"][f"preprocessing.{name}"] = torch.ones(1)
    torch.save(content, tmp_path / "crafted.ckpt")
    with pytest.raises(UserError, match=rf"size mismatch for {name}: \(1,\)"):
        load(tmp_path / "crafted.ckpt")


def test_an_allowed_name_for_a_class_from_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`torch.nn` shows classes that live elsewhere, and so may a package that the user allows."""

    class Elsewhere(torch.nn.Linear):
        """As a class of another package that an allowed one imports."""

    monkeypatch.setattr(torch.nn, "Borrowed", Elsewhere, raising=False)
    node = {"model": {"_target_": "torch.nn.Borrowed"}}
    with pytest.raises(UserError, match=r"torch\.nn\.Borrowed for model, which may not be loaded"):
        check_trusted_targets(node, [])
    check_trusted_targets(node, [Elsewhere.__module__])
