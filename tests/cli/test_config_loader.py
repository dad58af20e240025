"""Configs from the user's own folders, a run's own, and what Hydra's own loader gives."""

import os
import shutil
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import OmegaConf

from multilayer.cli.check import check_command_line
from multilayer.cli.config_loader import CachingConfigLoader, _after_choice
from multilayer.core.config_folder import conf_dir
from multilayer.core.errors import UserError

from ..conftest import Run

COMMAND_LINES = [
    [],
    ["optimizer.lr=0.1"],
    ["data=iris", "optimizer=sgd", "optimizer.momentum=0.9", "seed=3"],
    ["model.d_hidden=[8,8]", "callbacks=[default,diagnostics]", "callbacks.early_stopping=null"],
    ["+trainer.more=1", "~trainer.more", "++model.dropout=0.5", "hydra.job.chdir=false"],
    ["experiment=overfit", "trainer.max_epochs=2"],
    ["hydra.run.dir=here/${hydra.job.override_dirname}", "seed=1", "optimizer.lr=1"],
]


@pytest.fixture
def nothing_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our loader as it is in a new process."""
    monkeypatch.setattr(CachingConfigLoader, "_bases", {})


@pytest.fixture
def loaders(nothing_composed: None) -> tuple[ConfigLoaderImpl, CachingConfigLoader]:
    """Hydra's and ours."""
    setbase("1.3")
    path = create_config_search_path(str(conf_dir()))
    return ConfigLoaderImpl(path), CachingConfigLoader(path)


SWEEPS = [
    ["hydra.mode=MULTIRUN", "optimizer.lr=0.1,0.2", "seed=range(3)"],
    ["optimizer=sgd,adam", "seed=1,2", "hydra/launcher=lockstep", "hydra.sweep.dir=here"],
]


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
def test_a_config_is_what_hydra_composes(
    loaders: tuple[ConfigLoaderImpl, CachingConfigLoader],
    mode: RunMode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also after others of the same choices, in another folder, and with Hydra's own node."""
    lines = [*COMMAND_LINES, *(SWEEPS if mode == RunMode.MULTIRUN else [])]
    theirs, ours = (
        lambda words, loader=each: OmegaConf.to_container(
            loader.load_configuration("train", words, mode), resolve=False
        )
        for each in loaders
    )
    expected = [theirs(words) for words in lines]
    assert [ours(words) for words in lines] == expected
    monkeypatch.chdir(tmp_path)
    for config in expected:
        config["hydra"]["runtime"]["cwd"] = str(tmp_path)
    assert [ours(words) for words in lines[::-1]] == expected[::-1]


def test_a_wrong_key_is_refused_as_hydra_refuses_it(
    loaders: tuple[ConfigLoaderImpl, CachingConfigLoader],
) -> None:
    """With the same words."""
    messages = []
    for loader in loaders:
        with pytest.raises(ConfigCompositionException) as error:
            loader.load_configuration("train", ["optimizer.rate=1"], RunMode.RUN)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("words", "n"),
    [
        (["data=iris", "optimizer.lr=0.1"], 1),
        (["data=iris", "+trainer.gradient_clip_algorithm=norm", "~callbacks.learning_rate"], 1),
        (["-m", "data=iris", "optimizer.lr=0.1,0.2", "seed=0,1"], 1),
        (["-m", "data=iris", "optimizer=sgd,adam", "seed=0,1"], 3),
    ],
)
def test_files_are_read_once_for_the_same_choices(
    multilayer: Run,
    monkeypatch: pytest.MonkeyPatch,
    nothing_composed: None,
    words: list[str],
    n: int,
) -> None:
    """By the check, the run and all jobs of a sweep together."""
    composed = []
    own = ConfigLoaderImpl._load_configuration_impl

    def counted(*arguments: object, **named: object) -> object:
        composed.append(arguments)
        return own(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    assert multilayer("train", *words, "trainer.max_epochs=1").code == 0
    assert len(composed) <= n


@pytest.mark.parametrize(
    "words", [["--config-dir", "mine"], ["hydra.searchpath=[file://mine]"]], ids=" ".join
)
def test_a_file_that_changed_is_read_again(
    multilayer: Run, tmp_path: Path, words: list[str]
) -> None:
    """By the next command in the same process."""
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    file = tmp_path / "mine" / "optimizer" / "own.yaml"
    for rate in ("0.5", "0.25"):
        file.write_text(f"_target_: torch.optim.SGD\n_partial_: true\nlr: {rate}\n")
        outcome = multilayer("train", *words, "optimizer=own", "--cfg", "job")
        assert f"lr: {rate}" in outcome.out


def test_a_variable_that_changed_is_copied_again(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next command in the same process."""
    for value in ("one", "two"):
        monkeypatch.setenv("COPIED", value)
        outcome = multilayer("train", "hydra.job.env_copy=[COPIED]", "--cfg", "hydra")
        assert f"COPIED: {value}" in outcome.out


def test_a_file_of_ours_that_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_composed: None
) -> None:
    """Others are not: they are composed once in a process."""
    ours = shutil.copytree(conf_dir(), tmp_path / "conf")
    monkeypatch.setattr("multilayer.cli.config_loader.conf_dir", lambda: ours)
    file = ours / "optimizer" / "sgd.yaml"
    bases = []
    for text in (
        file.read_text(),
        file.read_text(),
        "_target_: torch.optim.SGD\n_partial_: true\nlr: 0.125\n",
    ):
        if text != file.read_text():
            file.write_text(text)
            os.utime(file, ns=(0, 0))
        config = check_command_line("train", ["optimizer=sgd"])
        assert config is not None
        assert (config["optimizer"]["lr"] == 0.125) == ("0.125" in text)
        bases.append([*CachingConfigLoader._bases.values()])
    assert bases[0][0] is bases[1][0]


def test_a_folder_of_the_users_own_adds_choices(tmp_path: Path) -> None:
    """By `--config-dir`."""
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text(
        "_target_: torch.optim.SGD\n_partial_: true\nlr: 0.5\n"
    )
    config = check_command_line("train", ["optimizer=mine"], config_dir=str(tmp_path))
    assert config is not None
    assert config["optimizer"]["lr"] == 0.5


def test_a_class_has_one_name_however_it_is_spelt() -> None:
    """A run that goes on compares it; `multilayer` has the public names of its packages."""
    config = check_command_line("train", ["model._target_=multilayer.MLP"])
    assert config is not None
    assert config["model"]["_target_"] == "multilayer.nn.MLP"


def test_a_group_of_a_users_search_path_may_be_added(tmp_path: Path) -> None:
    """Another name is refused, with the choices."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "more.yaml").write_text("# @package trainer\nmax_epochs: 7\n")
    words = [f"hydra.searchpath=[file://{tmp_path}]", "data=iris"]
    config = check_command_line("train", [*words, "+extra=more"])
    assert config is not None
    assert config["trainer"]["max_epochs"] == 7
    with pytest.raises(UserError, match="extra=less: no such choice, choose from more"):
        check_command_line("train", [*words, "+extra=less"])


def test_a_users_search_path_adds_choices_to_a_group(tmp_path: Path) -> None:
    """As `--config-dir` does, and together with it."""
    for folder in ("a", "b"):
        (tmp_path / folder / "loss").mkdir(parents=True)
        file = tmp_path / folder / "loss" / f"{folder}.yaml"
        file.write_text("_target_: torch.nn.HuberLoss\ndelta: 3.0\n")
    word = f"hydra.searchpath=[file://{tmp_path / 'a'}]"
    for choice, config_dir in (("loss=a", None), ("loss=b", str(tmp_path / "b"))):
        config = check_command_line("train", [word, choice], config_dir=config_dir)
        assert config is not None
        assert config["loss"]["delta"] == 3.0
    with pytest.raises(UserError, match="loss=zzz: no such choice, choose from a, auto"):
        check_command_line("train", [word, "loss=zzz"])


COSINE, STEP = ({"_target_": f"torch.{name}", "gamma": 1, "n": 1} for name in ("Cosine", "Step"))


@pytest.mark.parametrize(
    ("own", "chosen", "expected"),
    [
        ({"interval": "step", "scheduler": COSINE}, STEP, {"interval": "epoch", "scheduler": STEP}),
        (
            {"interval": "step", "scheduler": COSINE | {"n": 5}},
            COSINE | {"gamma": 2},
            {"interval": "step", "scheduler": COSINE | {"n": 5, "gamma": 2}},
        ),
    ],
)
def test_a_choice_changes_what_it_says_otherwise_than_the_default(
    own: dict[str, object], chosen: dict[str, object], expected: dict[str, object]
) -> None:
    """Of a schedule, below `scheduler`; of another class, all of it."""
    default = {"interval": "epoch", "scheduler": COSINE}
    assert _after_choice(own, default, {"interval": "epoch", "scheduler": chosen}) == expected
