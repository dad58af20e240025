"""What `--help` shows."""

from pathlib import Path

from ..conftest import Run


def test_help_shows_groups_choices_and_keys(multilayer: Run, tmp_path: Path) -> None:
    """Also the choices in a folder of the user's own."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "my_network.yaml").write_text("_target_: mine.Net\n")
    outcome = multilayer("train", "--help", "--config-dir", "mine")
    assert outcome.code == 0
    keys = ("optimizer.lr: 0.003", "data.batch_size: auto", "model.d_hidden: [128, 64]")
    for words in ("optimizer", "adadelta", "my_network", "seed: 0", "-m", *keys):
        assert words in outcome.out
    assert "@n_features" not in outcome.out
    assert "one that diverged has ended, and is no failure" in outcome.out


def test_help_of_a_command_is_asked_for_in_any_order(multilayer: Run) -> None:
    """And what other programs have for it is no mistake then."""
    expected = multilayer("evaluate", "--help").out
    assert "  -m " not in expected  # which is for training
    assert multilayer("help", "evaluate").out == expected
    assert multilayer("evaluate", "--verbose", "--help").out == expected


def test_help_has_neither_hydras_files_nor_files_to_start_from(multilayer: Run) -> None:
    """They are no choices."""
    groups = multilayer("train", "--help").out.partition("Keys,")[0]
    assert "_base" not in groups
    assert "hydra" not in groups
