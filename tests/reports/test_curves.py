"""Learning curves out of what the loggers write."""

from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from multilayer.reports.curves import read_curves
from multilayer.training.loggers import TensorBoard

NAMES = ("train/loss", "validation/loss")


def write_events(folder: Path, losses: list[float], first_step: int = 9) -> None:
    """Our logger's files, with things in them that are no curve."""
    logger = TensorBoard(str(folder))
    logger.experiment.add_text("note", "not a number")
    for epoch, loss in enumerate(losses):
        step = first_step + 10 * epoch
        logger.log_metrics({"lr-Adam": 0.1}, step - 9)
        logger.log_metrics({"train/loss_step": 7.0}, step)
        logger.log_metrics({"train/loss": loss, "validation/loss": 2 * loss, "epoch": 1}, step)
    logger.finalize("success")


def test_curves_are_what_the_logger_wrote(tmp_path: Path) -> None:
    """By epoch, though TensorBoard only knows steps."""
    write_events(tmp_path, [3.0, float("nan"), 1.0])
    curves = read_curves(tmp_path, NAMES)
    assert curves is not None
    assert curves.epochs.tolist() == [1, 2, 3]
    np.testing.assert_equal(curves.of("train/loss"), [3.0, np.nan, 1.0])
    np.testing.assert_equal(curves.of("validation/loss"), [6.0, np.nan, 2.0])
    assert np.isnan(curves.of("validation/accuracy")).all()


def test_scalars_of_a_summary_writer_are_read(tmp_path: Path) -> None:
    """One event for each metric, as another logger writes them."""
    with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
        for step in range(3):
            for name in NAMES:
                writer.add_scalar(name, step + 0.5, step)
    curves = read_curves(tmp_path, NAMES)
    assert curves is not None
    assert curves.of("validation/loss").tolist() == [0.5, 1.5, 2.5]


def test_a_file_that_is_cut_off_anywhere_gives_what_is_whole(tmp_path: Path) -> None:
    """A run that is running, or was killed in the middle of a write."""
    write_events(tmp_path, [3.0, 2.0])
    (path,) = (tmp_path / "tensorboard").iterdir()
    content = path.read_bytes()
    found = []
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        curves = read_curves(tmp_path, NAMES)
        found.append(0 if curves is None else len(curves.epochs))
    assert found == sorted(found)
    assert set(found) == {0, 1, 2}


def test_the_files_of_a_resumed_run_are_one_curve(tmp_path: Path) -> None:
    """An epoch that was trained again counts once, as it was the last time."""
    write_events(tmp_path, [3.0, 2.0])
    (first,) = (tmp_path / "tensorboard").iterdir()
    first.rename(first.with_name("events.out.tfevents.1.a.1.0"))
    write_events(tmp_path, [1.5, 1.0], first_step=19)
    curves = read_curves(tmp_path, NAMES)
    assert curves is not None
    assert curves.of("train/loss").tolist() == [3.0, 1.5, 1.0]


def test_curves_of_the_csv_logger(tmp_path: Path) -> None:
    """Rows of other metrics are passed over."""
    (tmp_path / "csv").mkdir()
    rows = ["epoch,lr,step,train/loss,validation/loss", ",0.1,0,,", "0,,9,3.0,4.0", "1,,19,2.0,nan"]
    (tmp_path / "csv" / "metrics.csv").write_text("\n".join(rows))
    curves = read_curves(tmp_path, NAMES)
    assert curves is not None
    assert curves.epochs.tolist() == [1, 2]
    np.testing.assert_equal(curves.of("validation/loss"), [4.0, np.nan])


def test_without_a_logger_there_are_none(tmp_path: Path) -> None:
    """`logger=none`."""
    assert read_curves(tmp_path, NAMES) is None


@pytest.mark.parametrize("content", [b"", b"not an event file at all, but long enough to be one"])
def test_files_of_another_kind_are_no_curves(tmp_path: Path, content: bytes) -> None:
    """Nor an error."""
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.1").write_bytes(content)
    assert read_curves(tmp_path, NAMES) is None
