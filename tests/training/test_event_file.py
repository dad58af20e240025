"""The event file of a run, read back by TensorBoard."""

import resource
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from multilayer.runs.folder import HPARAMS_FILE
from multilayer.training.event_file import EventFile, _charts_of


def read(folder: Path) -> EventAccumulator:
    """All events of a folder."""
    guidance = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    events = EventAccumulator(str(folder), size_guidance=guidance)
    events.Reload()
    return events


def test_scalars_are_read_back_in_their_order(tmp_path: Path) -> None:
    """Those of steps with their times, single ones, infinite ones, over several flushes."""
    file = EventFile(tmp_path / "tensorboard")
    for step in range(6):
        file.add_scalars_of_step({"train/loss": 1 / (step + 1), "b": np.inf}, step, 100.0 + step)
        if step % 2:
            file.flush()
    file.add_scalar("one", torch.tensor(0.5), 3)
    file.add_scalar("two", scalar_value=np.float64(2), global_step=None, walltime=7.0)
    file.flush()
    file.flush()
    assert len(list(tmp_path.rglob("*tfevents*"))) == 1
    events = read(file.folder)
    found = [(each.step, each.value, each.wall_time) for each in events.Scalars("train/loss")]
    assert found == [(i, pytest.approx(1 / (i + 1)), 100.0 + i) for i in range(6)]
    assert {each.value for each in events.Scalars("b")} == {np.inf}
    assert [(each.step, each.value) for each in events.Scalars("one")] == [(3, 0.5)]
    assert [(each.step, each.wall_time) for each in events.Scalars("two")] == [(0, 7.0)]


def add_all(writer: Any) -> None:
    """What callbacks add, and what users may."""
    axes = (figure := Figure()).add_subplot()
    axes.plot([1, 2, 3])
    writer.add_figure("figure", figure, 4)
    writer.add_histogram("histogram", torch.arange(10.0), global_step=5)
    writer.add_text("text", "in words", 6)
    writer.add_scalar("scalar", 0.25, global_step=7)
    writer.add_scalar("scalar", torch.tensor(0.5), 8)
    writer.add_scalars("several", {"a": 1.0}, 9)
    writer.add_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
    writer.flush()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_has_the_methods_of_a_summary_writer(tmp_path: Path) -> None:
    """What they add is equal to what torch's own writes."""
    ours, theirs = EventFile(tmp_path / "ours"), SummaryWriter(str(tmp_path / "theirs"))
    for writer in (ours, theirs):
        add_all(writer)
    found, expected = read(ours.folder), read(tmp_path / "theirs")
    assert found.Tags() == expected.Tags()
    assert found.Tags()["images"] == ["figure"]
    assert found.Images("figure")[0].encoded_image_string.startswith(b"\x89PNG")
    for one, other in (
        (found.Images("figure"), expected.Images("figure")),
        (found.Histograms("histogram"), expected.Histograms("histogram")),
        (found.Scalars("scalar"), expected.Scalars("scalar")),
        (found.Tensors("text/text_summary"), expected.Tensors("text/text_summary")),
    ):
        stripped = [[replace(each, wall_time=0.0) for each in events] for events in (one, other)]
        assert stripped[0] == stripped[1]
    assert found.Graph() == expected.Graph()
    assert [each.value for each in read(tmp_path / "ours" / "several_a").Scalars("several")] == [
        1.0
    ]
    theirs.close()
    ours.close()
    with pytest.raises(AttributeError, match="add_nothing"):
        ours.add_nothing()


def test_the_charts_are_those_that_torch_adds(tmp_path: Path) -> None:
    """With the first scalars that have both splits, and once."""
    scalars = {"train/loss": 1.0, "validation/loss": 2.0, "train/f1": 0.5, "validation/f1": 0.1}
    file = EventFile(tmp_path / "ours")
    file.add_scalars_of_step({"train/loss_step": 1.0}, 0)
    for step in (1, 2):
        file.add_scalars_of_step(scalars, step)
    file.flush()
    writer = SummaryWriter(str(tmp_path / "theirs"))
    writer.add_custom_scalars({"train and validation": _charts_of(scalars)})
    writer.close()
    layouts = []
    for name in ("ours", "theirs"):
        (event,) = read(tmp_path / name).Tensors("custom_scalars__config__")
        layouts.append((event.step, layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])))
        metadata = read(tmp_path / name).SummaryMetadata("custom_scalars__config__")
        assert metadata.plugin_data.plugin_name == "custom_scalars"
    assert layouts[0] == layouts[1]


@pytest.mark.parametrize("remove", [shutil.rmtree, lambda folder: next(folder.iterdir()).unlink()])
def test_what_was_removed_is_not_made_again(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    """Neither the folder nor the file, nor a folder above that never was."""
    file = EventFile(tmp_path / "tensorboard")
    file.flush()
    remove(file.folder)
    file.add_scalar("a", 1.0, 1)
    with pytest.raises(FileNotFoundError):
        file.flush()
    assert not list(tmp_path.rglob("*tfevents*"))
    with pytest.raises(FileNotFoundError):
        EventFile(tmp_path / "nowhere" / "tensorboard").flush()


def test_nothing_is_lost_between_threads(tmp_path: Path) -> None:
    """One adds while others write."""
    file = EventFile(tmp_path / "tensorboard")
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            file.flush()

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for step in range(3000):
        file.add_scalar("a", step, step)
    ended.set()
    for thread in threads:
        thread.join()
    file.flush()
    assert [each.step for each in read(file.folder).Scalars("a")] == list(range(3000))


def test_files_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    """Several runs may log to one folder."""
    for file in [EventFile(tmp_path / "tensorboard") for _ in range(3)]:
        file.flush()
    assert len(list(tmp_path.rglob("*tfevents*"))) == 3


def test_a_run_that_goes_on_hides_what_came_later(tmp_path: Path) -> None:
    """In TensorBoard, though its file begins in the same second, once and once more.

    The table of a sweep that was interrupted has a file that comes after all others.
    """
    (tmp_path / HPARAMS_FILE).touch()
    for n_before in (None, 3, 1):
        file = EventFile(tmp_path, n_before)
        for step in range(n_before or 0, 6):
            file.add_scalar("loss", step + 10 * (n_before or 0), step)
        file.flush()
    curves = read(tmp_path)
    assert [each.step for each in curves.Scalars("loss")] == [0, 1, 2, 3, 4, 5]
    assert [each.value for each in curves.Scalars("loss")] == [0, 11, 12, 13, 14, 15]


def test_no_record_is_torn_where_writing_fails(tmp_path: Path) -> None:
    """As a kill or a full disk may have it: the records of a flush are there all or none."""
    file = EventFile(tmp_path)
    file.flush()
    before = file.path.read_bytes()
    for step in range(1000):
        file.add_scalar("loss", step, step)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.path.read_bytes() == before
