"""Learning curves out of `history.csv`."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from multilayer.reports.runs import read_curves

from .fake_sweeps import write_history

NAMES = ("train/loss", "validation/loss")
NAN = float("nan")


def test_curves_are_the_metrics_of_each_epoch(tmp_path: Path) -> None:
    """NaN where one was not finite or not measured; other columns are left out."""
    names = ["train/accuracy", *NAMES]
    write_history(tmp_path, names, [[0.1, 3.0, 6.0], [0.2, NAN, None], [0.3, 1.0, float("inf")]])
    curves = read_curves(tmp_path / "history.csv", NAMES)
    assert curves is not None
    assert curves.epochs.tolist() == [1, 2, 3]
    assert set(curves.values) == set(NAMES)
    np.testing.assert_equal(curves.of("train/loss"), [3.0, NAN, 1.0])
    np.testing.assert_equal(curves.of("validation/loss"), [6.0, NAN, NAN])
    assert np.isnan(curves.of("validation/accuracy")).all()


def test_a_file_that_is_cut_off_anywhere_gives_its_whole_rows(tmp_path: Path) -> None:
    """Of a run that is running, or was killed in the middle of a write."""
    write_history(tmp_path, list(NAMES), [[3.25, 6.25], [2.25, 4.25]])
    path = tmp_path / "history.csv"
    content = path.read_bytes()
    found = []
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        curves = read_curves(tmp_path / "history.csv", NAMES)
        found.append([] if curves is None else curves.of("validation/loss").tolist())
    assert all(now[: len(before)] == before for before, now in pairwise(found))
    assert {tuple(each) for each in found} == {(), (6.25,), (6.25, 4.25)}


def test_an_epoch_that_was_trained_again_counts_once(tmp_path: Path) -> None:
    """As it was the last time, in the order of the epochs."""
    rows = ["epoch,train/loss", "1,3.0", "2,2.0", "3,9.0", "2,1.5", "3,1.0"]
    (tmp_path / "history.csv").write_text("\n".join([*rows, ""]))
    curves = read_curves(tmp_path / "history.csv", NAMES)
    assert curves is not None
    assert curves.epochs.tolist() == [1, 2, 3]
    assert curves.of("train/loss").tolist() == [3.0, 1.5, 1.0]


@pytest.mark.parametrize(
    ("row", "n"),
    [("3,0.5", 3), ("3,x", 2), ("three,0.5", 2), ("3", 2), ("-3,0.5", 2), ("9" * 30 + ",0.5", 2)],
)
def test_a_row_that_is_none_ends_the_curve(tmp_path: Path, row: str, n: int) -> None:
    """What comes before it is there."""
    (tmp_path / "history.csv").write_text(f"epoch,train/loss\n1,3.0\n2,2.0\n{row}\n")
    curves = read_curves(tmp_path / "history.csv", NAMES)
    assert curves is not None
    assert curves.epochs.tolist() == [1, 2, 3][:n]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"epoch,step\n1,2\n", b"train/loss\n3.0\n", b"\xff\xfe\x00\n1\n", b"\x00" * 99],
)
def test_files_of_another_kind_are_no_curves(tmp_path: Path, content: bytes) -> None:
    """Nor an error; nor is a folder without the file, as older versions left it."""
    assert read_curves(tmp_path / "history.csv", NAMES) is None
    (tmp_path / "history.csv").write_bytes(content)
    assert read_curves(tmp_path / "history.csv", NAMES) is None
