"""Tables of any kind, good and broken: a run trains on them, or ends with a message."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.data import TableData
from multilayer.data.table_io import read_frame, write_frame

from ..trained import config_of

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-(10**6), 10**6),
    "real": st.floats(-1e6, 1e6),
    "odd": st.sampled_from([float("nan"), float("inf"), 1e38, -1e-40, 0.0]),
    "flag": st.booleans(),
    "word": st.sampled_from(["red", "blue", "green", "", " ", 'a "b", c', "ü"]),
    "mixed": st.sampled_from(["1", "2.5", "n/a", "3"]),
    "constant": st.just(7),
    "date": st.dates(),
    "time": st.datetimes(),
    "span": st.timedeltas(timedelta(days=-9), timedelta(days=9)),
    "price": st.decimals(-1000, 1000, places=2),
    "list": st.lists(st.integers(0, 3), max_size=2),
}


NO_TEXT = pl.selectors.nested() | pl.selectors.duration()
"""Columns that text cannot hold."""


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """A few columns of some kinds, with gaps; the last one is called y."""
    n_rows = draw(st.integers(0, 60))
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4))
    target = draw(st.sampled_from(["whole", "real", "flag", "word", "constant", "price", "odd"]))
    columns = {}
    for index, kind in enumerate([*kinds, target]):
        is_target = index == len(kinds)
        gaps = draw(st.booleans()) and (not is_target or draw(st.integers(0, 9)) == 0)
        value = st.none() | VALUES[kind] if gaps else VALUES[kind]
        values = draw(st.lists(value, min_size=n_rows, max_size=n_rows))
        columns["y" if is_target else f"{kind}_{index}"] = pl.Series(values, strict=False)
    frame = pl.DataFrame(columns)
    words = draw(st.sampled_from([pl.String(), pl.Categorical()]))
    return frame.with_columns(pl.col(pl.String).cast(words))


@contextmanager
def written(*frames: pl.DataFrame, ending: str = ".parquet") -> Iterator[list[str]]:
    """The frames as files of their own, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"t{i}{ending}") for i in range(len(frames))]
        for frame, path in zip(frames, paths, strict=True):
            write_frame(frame, path)
        yield paths


def check_rows(features: torch.Tensor, target: torch.Tensor, data: TableData) -> None:
    """No silent NaN, and as many features as the network takes."""
    assert features.isfinite().all()
    assert target.isfinite().all()
    assert features.shape[1] == data.preprocessing.n_features


def refusal_of(read: Callable[[], object]) -> str | None:
    """The message with which something is refused; None where it is not."""
    try:
        read()
    except UserError as error:
        return str(error)
    return None


@SETTINGS
@given(frames(), st.sampled_from([".csv", ".tsv", ".parquet", ".arrow"]))
def test_a_table_is_read_whole_or_refused(frame: pl.DataFrame, ending: str) -> None:
    """No traceback, no silent NaN among the features, and no row is lost."""
    if ending in (".csv", ".tsv"):
        frame = frame.drop(NO_TEXT)
    with written(frame, ending=ending) as (path,):
        data = TableData(path=path, target="y")
        refusal = refusal_of(data.setup)
        if refusal is not None:
            assert "\n" not in refusal
            return
        assert sum(data.count_rows().values()) == frame.height
        for split in data.rows:
            check_rows(*data.split_tensors(split), data)


@SETTINGS
@given(frames())
def test_a_table_is_streamed_whole_or_refused(frame: pl.DataFrame) -> None:
    """Likewise, in pieces of a few rows."""
    with written(frame) as (path,), pytest.MonkeyPatch.context() as patch:
        patch.setattr("multilayer.data.parquet_stream._CHUNK_VALUES", 7 * frame.width)
        data = TableData(path=path, target="y", stream=True, batch_size=4)
        refusal = refusal_of(data.setup)
        if refusal is not None:
            assert "\n" not in refusal
            return
        parts = list(data.train_minibatches())
        held_out = [data.split_tensors("validation"), data.split_tensors("test")]
        assert sum(len(target) for _, target in parts + held_out) == frame.height
        for part in parts + held_out:
            check_rows(*part, data)


@SETTINGS
@given(frames(), st.data())
def test_a_file_of_validation_rows_fits_or_is_refused(
    frame: pl.DataFrame, drawn: st.DataObject
) -> None:
    """One with the rows of another, with other columns or types, or of another table."""
    changes: list[Callable[[pl.DataFrame], pl.DataFrame]] = [
        lambda own: own.reverse(),
        lambda own: own.head(3),
        lambda own: own.clear(),
        lambda own: own[:, ::-1],
        lambda own: own[:, 1:],
        lambda own: own.with_columns(pl.first().alias("more")),
        lambda own: own.with_columns(pl.selectors.integer().cast(pl.Float64)),
        lambda own: own.with_columns((~NO_TEXT).cast(pl.String)),
        lambda own: drawn.draw(frames()),
    ]
    other = drawn.draw(st.sampled_from(changes))(frame)
    with written(frame, other) as (path, validation_path):
        data = TableData(path=path, validation_path=validation_path, target="y")
        refusal = refusal_of(data.setup)
        if refusal is not None:
            assert "\n" not in refusal
            return
        rows = data.count_rows()
        assert rows["validation"] == other.height
        assert rows["train"] + rows["test"] == frame.height
        for split in data.rows:
            check_rows(*data.split_tensors(split), data)


@SETTINGS
@given(st.binary(max_size=200) | st.text(alphabet='a1,;"\n\t é.', max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_refused(content: bytes) -> None:
    """As a CSV file: one message that names the file, or a table with the header's names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        refusal = refusal_of(lambda: read_frame(path))
        if refusal is None:
            assert read_frame(path)[0].width >= 1
        else:
            assert "t.csv" in refusal


@settings(SETTINGS, max_examples=8)
@given(frames())
def test_a_run_trains_or_ends_with_a_message(frame: pl.DataFrame) -> None:
    """And what it leaves is whole: metrics that are numbers, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        frame.write_parquet(path)
        words = ["data=table", f"data.path={path}", "data.target=y", "callbacks=none"]
        config = config_of(*words, "logger=none", "trainer.max_epochs=1")
        run = Path(folder) / "run"
        try:
            result = train(config, run, words, quiet=True)
        except UserError:
            assert not run.exists()
            return
        loss = torch.tensor(result.metrics["test"]["loss"])
        assert loss.isfinite() or result.manifest["status"] == "diverged"
