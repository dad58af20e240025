"""Tables of any kind, good and broken: a run trains on them, or ends with a message."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multilayer.data import TableData
from multilayer.data.datamodule import count_rows
from multilayer.errors import UserError
from multilayer.frames import read_frame
from multilayer.train import train

from ..test_train import config_of

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
}


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """A few columns of some kinds, with gaps; the last one is called y."""
    n_rows = draw(st.integers(0, 60))
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4))
    target = draw(st.sampled_from(["whole", "real", "flag", "word", "constant"]))
    columns = {}
    for index, kind in enumerate([*kinds, target]):
        is_target = index == len(kinds)
        gaps = draw(st.booleans()) and (not is_target or draw(st.integers(0, 9)) == 0)
        value = st.none() | VALUES[kind] if gaps else VALUES[kind]
        values = draw(st.lists(value, min_size=n_rows, max_size=n_rows))
        columns["y" if is_target else f"{kind}_{index}"] = pl.Series(values, strict=False)
    return pl.DataFrame(columns)


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{ending}"
        if ending in (".csv", ".tsv"):
            frame.write_csv(path, separator="," if ending == ".csv" else "\t")
        elif ending == ".parquet":
            frame.write_parquet(path)
        else:
            frame.write_ipc(path)
        data = TableData(path=str(path), target="y")
        refusal = refusal_of(data.setup)
        if refusal is not None:
            assert "\n" not in refusal
            return
        assert sum(count_rows(data).values()) == frame.height
        for features, target in map(data.rows_of, data.rows):
            assert features.isfinite().all()
            assert target.isfinite().all()
            assert features.shape[1] == data.preprocessing.n_features


@SETTINGS
@given(st.binary(max_size=200) | st.text(alphabet='a1,;"\n\t é.', max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_refused(content: bytes) -> None:
    """As a CSV file: one message that names the file, or a table with the header's names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        refusal = refusal_of(lambda: read_frame(path))
        if refusal is None:
            assert read_frame(path).width >= 1
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
