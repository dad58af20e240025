"""Columns far from 0, whose differences float32 would round away: they are centred before."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.data import TableData
from multilayer.data.numeric_column import NumericColumn
from multilayer.data.numerics import is_rounded
from multilayer.data.origin import Origin
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table_builder import encode_table, table_from_frame
from multilayer.data.table_io import write_frame
from multilayer.runs.folder import Result
from multilayer.training.evaluate import evaluate
from multilayer.training.predict import predict

from ..trained import config_of
from .test_properties import SETTINGS, written

N = 300


def drawn(n: int = N, seed: int = 0) -> Any:
    """Normal deviates."""
    return np.random.default_rng(seed).standard_normal(n)


def data_of(path: str | Path, **options: Any) -> TableData:
    """The data set of a file, set up."""
    data = TableData(path=str(path), target="y", **options)
    data.setup()
    return data


def standardised(values: Any, rows: Any) -> Any:
    """By the mean and deviation of some rows, in float64 from values without their offset."""
    return (values - values[rows].mean()) / values[rows].std()


def run_on(frame: pl.DataFrame, tmp_path: Path, *words: str) -> Result:
    """A linear network that is trained to its end, in the folder `run`."""
    frame.write_parquet(tmp_path / "t.parquet")
    overrides = ["data=table", f"data.path={tmp_path / 't.parquet'}", "data.target=y"]
    overrides += ["model.d_hidden=[]", "optimizer.lr=0.05", "trainer.max_epochs=40", "logger=none"]
    return train(config_of(*overrides, *words), tmp_path / "run", overrides, quiet=True)


@SETTINGS
@given(
    offset=st.sampled_from([0.0, -273.15, 2000.5, 1e6, 1.7e9, -4e12]),
    unit=st.sampled_from([1e-2, 1.0, 86_400.0]),
    whole=st.booleans(),
    sentinel=st.sampled_from([None, 0.0, -1e12]),
    ending=st.sampled_from([".csv", ".parquet"]),
    stream=st.booleans(),
)
def test_features_and_targets_are_centred_before_they_are_rounded(
    offset: float, unit: float, whole: bool, sentinel: float | None, ending: str, stream: bool
) -> None:
    """As in float64, within what `ROUNDING` allows; read again from the file, they are the same."""
    x = unit * drawn()
    x, y = (np.round(each, 0 if whole and unit >= 1 else 4) for each in (x + offset, offset - x))
    if sentinel is not None:
        x[::100] = sentinel
    frame = pl.DataFrame({"x": x, "z": drawn(seed=1), "y": y})
    stream = stream and ending == ".parquet"
    with written(frame, ending=ending) as (path,):
        data = data_of(path, stream=stream, task="regression", batch_size=64)
        again = encode_table(frame, data.columns, Origin("t.parquet"))
        held = [data.split_tensors("validation"), data.split_tensors("test")]
        parts = [*data.train_minibatches(), *held]
    features = data.preprocessing(again.features)
    targets = data.preprocessing.scale_target(again.target)
    if not stream:
        rows = data.rows["train"]
        assert_allclose(features[:, 0], standardised(x, rows), atol=1e-3, rtol=1e-4)
        assert_allclose(targets, standardised(y, rows), atol=1e-3, rtol=1e-4)
        assert_allclose(data.features, features, rtol=0, atol=1e-6)
        assert_allclose(data.targets, targets, rtol=0, atol=1e-6)
    both = [torch.cat([features, target[:, None]], dim=1) for features, target in parts]
    found, expected = torch.cat(both), torch.cat([features, targets[:, None]], dim=1)
    order, expected_order = (np.lexsort(each.numpy().T) for each in (found, expected))
    assert_allclose(found[order], expected[expected_order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("numbers", ["standard", "quantile"])
@pytest.mark.parametrize("stream", [False, True])
def test_noise_far_from_0_cannot_be_predicted(tmp_path: Path, numbers: str, stream: bool) -> None:
    """R squared is about 0 and the error the noise's; float32 would make of it a constant."""
    frame = pl.DataFrame({"x": drawn(seed=1), "y": 1e9 + drawn()})
    metrics = run_on(
        frame, tmp_path, f"data.numeric_scaling={numbers}", f"data.stream={stream}".lower()
    ).metrics
    for split in ("validation", "test"):
        assert -0.5 < metrics[split]["r2"] < 0.1
        assert metrics[split]["rmse"] == pytest.approx(1.0, abs=0.3)
    again = evaluate(
        {
            "run": str(tmp_path / "run"),
            "split": "test",
            "data": {"path": str(tmp_path / "t.parquet")},
            "device": "auto",
            "trusted_packages": [],
        }
    ).metrics
    assert -0.2 < again["r2"] < 0.1
    assert again["rmse"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", ["seconds", "datetimes", "float32 neighbours"])
@pytest.mark.parametrize("stream", [False, True])
def test_times_some_seconds_apart_are_told_apart(tmp_path: Path, kind: str, stream: bool) -> None:
    """In all paths: the training, the evaluation of a file and the predictions."""
    seconds = np.random.default_rng(0).permutation(N)
    start = datetime(2026, 11, 26)
    x = {
        "seconds": 1_764_115_200 + seconds,
        "datetimes": [start + timedelta(seconds=int(each)) for each in seconds],
        "float32 neighbours": 16_777_216.0 + seconds / 100,
    }[kind]
    frame = pl.DataFrame({"x": x, "y": 1e9 + seconds + drawn()})
    result = run_on(frame, tmp_path, f"data.stream={stream}".lower())
    assert result.metrics["test"]["r2"] > 0.99
    words = {
        "run": str(tmp_path / "run"),
        "device": "auto",
        "trusted_packages": [],
        "split": "test",
    }
    again = evaluate({**words, "data": {"path": str(tmp_path / "t.parquet")}}).metrics
    assert again["r2"] > 0.99
    files = {"input": str(tmp_path / "t.parquet"), "output": str(tmp_path / "out.csv")}
    predict({**words, **files, "keep_input_columns": False})
    written_again = pl.read_csv(tmp_path / "out.csv")["prediction"].to_numpy()
    assert np.abs(written_again - frame["y"].to_numpy()).max() < 12
    rmse = np.sqrt(np.mean((written_again - frame["y"].to_numpy()) ** 2))
    assert rmse == pytest.approx(again["rmse"], rel=1e-6)


def test_a_stack_centres_as_a_run_alone(tmp_path: Path) -> None:
    """Its members' metrics are of targets that are told apart."""
    frame = pl.DataFrame({"x": drawn(seed=1), "y": 1e9 + drawn()})
    alone = run_on(frame, tmp_path).metrics
    (tmp_path / "run").rename(tmp_path / "alone")
    stacked = run_on(frame, tmp_path, "engine=lockstep").metrics
    for split, values in alone.items():
        assert stacked[split] == pytest.approx(values, rel=1e-3, abs=1e-4)


def test_folds_and_files_of_splits_are_centred_too(tmp_path: Path) -> None:
    """By the training rows' mean and deviation."""
    x = 1e9 + drawn()
    frame = pl.DataFrame({"x": x, "y": drawn(seed=1)})
    write_frame(frame, tmp_path / "t.csv")
    data = data_of(tmp_path / "t.csv", folds=3, fold=1)
    expected = standardised(x - 1e9, data.rows["train"])
    assert_allclose(data.features[:, 0], expected, atol=1e-3)
    write_frame(frame[:50], tmp_path / "test.csv")
    data = data_of(tmp_path / "t.csv", test_path=str(tmp_path / "test.csv"))
    expected = ((x - 1e9) - (x - 1e9)[data.rows["train"]].mean()) / x[data.rows["train"]].std()
    assert_allclose(data.split_tensors("test")[0][:, 0], expected[:50], atol=1e-3)


def test_preprocessing_by_itself_centres_float64_columns() -> None:
    """Numbers with a median, quantiles, and a target; what it gives is float32."""
    x = torch.from_numpy(1.7e9 + np.stack([drawn(), drawn(seed=1)], axis=1))
    x[::7, 1] = torch.nan
    small = x - 1.7e9
    for numbers in ("standard", "quantile"):
        found = Preprocessing(2, numeric_scaling=numbers).fit_(x, x[:, 0])  # type: ignore[arg-type]
        expected = Preprocessing(2, numeric_scaling=numbers).fit_(small, small[:, 0])  # type: ignore[arg-type]
        features = found(x)
        assert features.dtype == torch.float32
        assert_allclose(features, expected(small), atol=1e-5)
        scaled = found.scale_target(x[:, 0])
        assert scaled.dtype == torch.float32
        assert_allclose(found.unscale_target(scaled), x[:, 0], rtol=0, atol=1e-6)
        assert_allclose(found.unscale_numbers(features)[1::7], x[1::7], rtol=0, atol=1e-2)


def test_a_table_that_float32_holds_stays_float32(tmp_path: Path) -> None:
    """So that it takes half the memory, and has the fingerprint that it had."""
    frame = pl.DataFrame(
        {
            "year": 2000.5 + 10 * drawn(),
            "constant but for gaps": [0.1, None, 0.1] * (N // 3),
            "rare": np.where(np.arange(N) % 50 == 0, 1e-3, 0.1),
            "large": np.arange(N) * 2**24,
            "y": 101_325.5 + 500 * drawn(seed=1),
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    table = TableData(path=str(tmp_path / "t.parquet"), target="y").load()
    assert table.features.dtype == table.target.dtype == torch.float32
    data = data_of(tmp_path / "t.parquet")
    assert {data.preprocessing.mean.dtype, data.preprocessing.target_mean.dtype} == {torch.float32}


def test_columns_that_differ_beyond_float32_are_neither_constant_nor_equal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Row numbers are told as such, and a column near the target is not it."""
    y = 1e9 + drawn()
    frame = pl.DataFrame({"id": 10**12 + np.arange(N), "near": y + 0.1 * drawn(seed=1), "y": y})
    write_frame(frame, tmp_path / "t.csv")
    data = data_of(tmp_path / "t.csv")
    assert data.columns.features == ["id", "near"]
    assert data.columns.dropped == {}
    assert "column 'id' has another number in every row" in caplog.text
    assert "equals the target" not in caplog.text
    write_frame(frame.with_columns(near=pl.col("y")), tmp_path / "t.csv")
    data_of(tmp_path / "t.csv")
    assert "column 'near' equals the target" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_numbers_beyond_float32_are_used(tmp_path: Path, ending: str, stream: bool) -> None:
    """As features and as a target; what is infinite is refused as such, with its row."""
    if stream and ending == ".csv":
        return
    frame = pl.DataFrame({"x": 1e200 * drawn(), "z": drawn(), "y": 1e300 * drawn(seed=1)})
    write_frame(frame, tmp_path / f"t{ending}")
    data = data_of(tmp_path / f"t{ending}", stream=stream)
    again = encode_table(frame, data.columns, Origin("t"))
    features = data.preprocessing(again.features)
    assert_allclose(features[:, 0], features[:, 1], atol=1e-5)
    assert data.preprocessing.scale_target(again.target).isfinite().all()
    infinite = frame.with_columns(x=pl.when(pl.int_range(N) == 7).then(np.inf).otherwise("x"))
    write_frame(infinite, tmp_path / f"i{ending}")
    with pytest.raises(UserError, match="column 'x' is infinite in row 8"):
        data_of(tmp_path / f"i{ending}", stream=stream)


def test_a_number_too_far_from_the_training_rows_is_reported(tmp_path: Path) -> None:
    """It would be infinite for the network; the message has the true reason and the row."""
    frame = pl.DataFrame({"x": drawn(), "y": drawn(seed=1)})
    far = frame[:9].with_columns(x=pl.when(pl.int_range(9) == 3).then(1e300).otherwise("x"))
    far.write_parquet(tmp_path / "far.parquet")
    run_on(frame, tmp_path, "trainer.max_epochs=1")
    message = r"column 'x' is {} in row 4{}: too far from the training rows, whose mean is "
    with pytest.raises(UserError, match=message.format("beyond float32", r" of far\.parquet")):
        data_of(tmp_path / "t.parquet", test_path=str(tmp_path / "far.parquet"))
    words = {
        "run": str(tmp_path / "run"),
        "device": "auto",
        "trusted_packages": [],
        "split": "test",
    }
    with pytest.raises(UserError, match=message.format(r"1e\+300", r" of far\.parquet")):
        evaluate({**words, "data": {"path": str(tmp_path / "far.parquet")}})
    output = tmp_path / "out.csv"
    files = {"input": str(tmp_path / "far.parquet"), "output": str(output)}
    with pytest.raises(UserError, match=message.format(r"1e\+300", r" of far\.parquet")):
        predict({**words, **files, "keep_input_columns": False})
    assert not output.exists()


def test_preprocessing_keeps_its_precision_where_a_network_changes_its_own() -> None:
    """Lightning's `precision=bf16-true` moves the whole module."""
    x = torch.from_numpy(1e9 + drawn())[:, None]
    preprocessing = Preprocessing(1).fit_(x, x[:, 0])
    before = {name: value.clone() for name, value in preprocessing.state_dict().items()}
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        for name, value in preprocessing.to(dtype).state_dict().items():
            assert value.dtype == before[name].dtype
            assert torch.equal(value, before[name])


def test_a_checkpoint_of_float32_columns_treats_float64_ones_alike() -> None:
    """A value that many rows share is tied with itself, though 0.1 is another in float64."""
    x = np.repeat([0.1, 0.2, 0.7], 20)[:, None]
    narrow = torch.from_numpy(x).float()
    preprocessing = Preprocessing(1, numeric_scaling="quantile").fit_(narrow)
    assert torch.equal(preprocessing(torch.from_numpy(x)), preprocessing(narrow))


def test_json_has_all_digits_of_a_metric(tmp_path: Path) -> None:
    """An error near 1e25 is finite, and so is its square's mean."""
    frame = pl.DataFrame({"x": drawn(seed=1), "y": 1e25 * drawn()})
    metrics = run_on(frame, tmp_path).metrics["test"]
    assert metrics["mae"] <= metrics["rmse"] < 2e25
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"] == metrics


@pytest.mark.parametrize("share", [0.003, 0.01, 0.05, 0.09, 0.3])
@pytest.mark.parametrize("offset", [1e9, 1_700_000_000.0])
@pytest.mark.parametrize("stream", [False, True])
def test_rare_rows_far_from_0_keep_their_difference(
    tmp_path: Path, share: float, offset: float, stream: bool
) -> None:
    """Most rows are exact in float32; of those that are not, none is lost, wherever it is."""
    n = 3000
    rare = 5.0 * (np.arange(n) % round(1 / share) == 1)
    frame = pl.DataFrame(
        {"x": offset + rare, "z": np.where(np.arange(n) == 7, -1.0, drawn(n)), "y": offset + rare}
    )
    frame.write_parquet(tmp_path / "t.parquet")
    data = data_of(tmp_path / "t.parquet", stream=stream)
    for split in ("train", "validation", "test"):
        if split != "train" or not stream:
            features, target = data.split_tensors(split)
            assert_allclose(features[:, 0], target, atol=1e-5)
            assert len(target.unique()) == 2 or share == 0.003
    assert data.preprocessing.target_scale.item() == pytest.approx(rare.std(), rel=0.3)


@pytest.mark.parametrize(
    "values",
    [
        np.where(np.arange(N) < 0.6 * N, 100.0, 80 + 10 * drawn()),
        np.where(np.arange(N) < 0.4 * N, 0.0, 100 + 15 * drawn()),
        np.where(np.arange(N) % 50 == 0, -1e12 / 3, drawn()),
        np.exp(5 * drawn()),
        1e3 * np.arange(N) / 3,
    ],
    ids=["capped", "many zeros", "sentinel", "heavy tail", "sorted"],
)
def test_caps_outliers_and_tails_need_no_float64(values: Any) -> None:
    """Their differences are as float32 has them."""
    assert not is_rounded(values)
    table = table_from_frame(pl.DataFrame({"x": values, "y": drawn(seed=1)}), target="y", name="t")
    assert table.features.dtype == torch.float32


@pytest.mark.parametrize(
    ("unit", "far", "row"),
    [(1.0, [0.1, 1e39, *drawn(20)], 2), (1e6, 1e9 + 3 * drawn(20), None), (1.0, [-2e40] * 5, 1)],
    ids=["one beyond float32", "differences rounded away", "all beyond float32"],
)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_targets_too_far_from_the_training_rows_are_reported(
    tmp_path: Path, unit: float, far: Any, row: int | None, split: str
) -> None:
    """Their errors would be infinite, or their differences those of float32."""
    x = drawn()
    run_on(pl.DataFrame({"x": x, "y": unit * x}), tmp_path, "trainer.max_epochs=1")
    other = tmp_path / "other.parquet"
    pl.DataFrame({"x": drawn(len(far)), "y": far}).write_parquet(other)
    number = row or r"\d+"
    message = rf"the target 'y' is \S+ in row {number} of other.parquet: too far from the training"
    with pytest.raises(UserError, match=message):
        data_of(tmp_path / "t.parquet", **{f"{split}_path": str(other)})
    words = {
        "run": str(tmp_path / "run"),
        "device": "auto",
        "trusted_packages": [],
        "split": "test",
    }
    with pytest.raises(UserError, match=message):
        evaluate({**words, "data": {"path": str(other)}})


def test_targets_of_a_file_that_need_float64_keep_their_differences(tmp_path: Path) -> None:
    """Though those of the training are held in float32; far away alone is no reason to refuse."""
    y = 1e9 * (drawn() + 1)
    pl.DataFrame({"x": drawn(), "y": y.round(-6)}).write_parquet(tmp_path / "t.parquet")
    near = pl.DataFrame({"x": drawn(20), "y": 1e9 + 1e4 * drawn(20)})
    near.write_parquet(tmp_path / "near.parquet")
    data = data_of(tmp_path / "t.parquet", test_path=str(tmp_path / "near.parquet"))
    target = data.preprocessing.unscale_target(data.split_tensors("test")[1])
    assert_allclose(target.double() - 1e9, near["y"] - 1e9, atol=10)
    far = near.with_columns(y=1e12 + 1e11 * drawn(20))
    far.write_parquet(tmp_path / "far.parquet")
    data_of(tmp_path / "t.parquet", test_path=str(tmp_path / "far.parquet"))


@pytest.mark.parametrize("stream", [False, True])
def test_whole_numbers_that_float64_rounds_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """Once each, as a feature and as a target; of those far apart the last digits do not matter."""
    near = [2**60 + int(500 * each) for each in drawn()]
    far = [int(1e18 * each) for each in drawn()]
    small = [10**15 + int(500 * each) for each in drawn()]
    frame = pl.DataFrame({"near": [None, *near[1:]], "far": far, "small": small, "y": near})
    frame.write_parquet(tmp_path / "t.parquet")
    data_of(tmp_path / "t.parquet", stream=stream)
    found = [line for line in caplog.messages if "float64 rounds" in line]
    assert [line.split(":")[1] for line in found] == [" column 'near'", " column 'y'"]
    assert "by up to 127; subtract 11529" in found[0]
    caplog.clear()
    shifted = frame.with_columns(pl.col("near", "y") - min(near))
    shifted.write_parquet(tmp_path / "t.parquet")
    data_of(tmp_path / "t.parquet", stream=stream)
    assert "float64 rounds" not in caplog.text


def test_a_column_that_begins_near_0_and_goes_on_far_from_it_needs_float64() -> None:
    """A single value that float32 rounds, among others that it holds, is in no sample of rows."""
    far = 1e7 + np.arange(10_000.0) % 5
    far[5_001] += 0.5
    column = NumericColumn(pl.Float64())
    for values in (drawn(1_000), far, far):
        column.examine(values)
        column.add(values, pl.Series(values))
    assert column.needs_float64()


def test_numbers_of_a_part_of_a_table_are_known() -> None:
    """Those of parts with gaps too."""
    column = NumericColumn(pl.Float64())
    for values in ([3.0, np.nan, 1.0], [2.0, 4.0], [np.nan, np.nan]):
        column.add(np.array(values), pl.Series(values))
    assert (column.low, column.high, column.has_gaps) == (1, 4, True)


@pytest.mark.parametrize("unit", [1e-44, 1e-60, 1e-200, 1e-310])
def test_numbers_below_float32_are_used(tmp_path: Path, unit: float) -> None:
    """Charges in units of astronomers: as the same numbers in another unit, not as zeros."""
    x = drawn()
    frame = pl.DataFrame({"x": x, "z": drawn(seed=1), "y": x + 2})
    small = frame.with_columns(pl.col("x", "y") * unit)
    tables = []
    for name, table in (("a", frame), ("b", small)):
        table.write_parquet(tmp_path / f"{name}.parquet")
        tables.append(data_of(tmp_path / f"{name}.parquet"))
    (features, target), (expected, scores) = (each.split_tensors("train") for each in tables[::-1])
    assert_allclose(features, expected, atol=1e-5)
    assert_allclose(target, scores, atol=1e-5)


def test_zeros_with_a_rare_number_below_float32_need_float64() -> None:
    """None of the rows that are sampled is one."""
    values = np.zeros(10_000)
    values[5_001] = 1e-50
    column = NumericColumn(pl.Float64())
    column.examine(values)
    column.add(values, pl.Series(values))
    assert column.needs_float64()
