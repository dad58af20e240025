"""The picture of a run's losses."""

from pathlib import Path

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multilayer.callbacks.learning_curves import _draw
from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train


def test_the_picture_is_in_the_run_folder_and_in_tensorboard(tmp_path: Path) -> None:
    """`callbacks=[default,learning_curves]` draws it."""
    overrides = ["data=iris", "trainer.max_epochs=3", "callbacks=[default,learning_curves]"]
    config = check_command_line("train", overrides)
    assert config is not None
    train(config, tmp_path, quiet=True)
    assert imread(tmp_path / "figures" / "learning_curves.png").std() > 0.01
    assert EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["images"]


def test_the_curves_are_the_losses_and_the_mark_is_the_best_epoch() -> None:
    """Read back from the figure."""
    curves = {"epoch": [1, 2, 3], "train": [3.0, 2.0, 1.0], "validation": [4.0, 2.5, 3.0]}
    (axes,) = _draw(curves, best_epoch=2).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["train"].get_ydata()) == curves["train"]
    assert list(lines["validation"].get_ydata()) == curves["validation"]
    mark = lines["turning point: epoch 2"]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((2, 2.5))
