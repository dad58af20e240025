"""Configs from the user's own folders, and a run's own."""

from pathlib import Path

import pytest

from multilayer.cli.check import check_command_line
from multilayer.cli.compose import _after_choice
from multilayer.core.errors import UserError


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
