"""Tables that are read while a network trains."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.data import TableData
from multilayer.data.origin import Origin
from multilayer.data.parquet_stream import ParquetStream, StreamedMinibatches, _ClassCounts
from multilayer.data.table_builder import encode_table
from multilayer.data.table_io import write_frame
from multilayer.nn.mlp import MLP
from multilayer.training.evaluate import evaluate
from multilayer.training.module import MulticlassModule

from ..conftest import Run, only_folder
from ..trained import config_of

N = 5000
PIECE = 100


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 100 rows, so that a small file has many."""
    monkeypatch.setattr("multilayer.data.parquet_stream._CHUNK_VALUES", 5 * PIECE)
    monkeypatch.setattr("multilayer.data.parquet_stream._HELD_OUT_BYTES", 5 * 4 * 400)


@pytest.fixture
def frame() -> pl.DataFrame:
    """Numbers with gaps, words, a row number, and classes of which one is rare."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=N)
    return pl.DataFrame(
        {
            "row": np.arange(N, dtype=np.float64) / 2,
            "x": x,
            "gaps": np.where(rng.random(N) < 0.1, np.nan, rng.normal(size=N)),
            "word": rng.choice(["red", "green", "blue"], N),
            "y": np.where(np.arange(N) // 3 == N // 3 - 9, "rare", np.where(x > 0, "yes", "no")),
        }
    ).with_columns(pl.col("gaps").fill_nan(None))


@pytest.fixture
def path(frame: pl.DataFrame, tmp_path: Path) -> Path:
    """As a file with row groups of another size than the pieces."""
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=130)
    return tmp_path / "t.parquet"


def stream_of(path: Path, **options: object) -> TableData:
    """The data set, set up."""
    data = TableData(path=str(path), target="y", stream=True, **{"batch_size": 64, **options})  # type: ignore[arg-type]
    data.setup()
    return data


def epoch_of(data: TableData, epoch: int = 0) -> list[tuple[Tensor, Tensor]]:
    """All minibatches of an epoch."""
    minibatches = data.train_minibatches()
    assert minibatches.sampler is not None
    minibatches.sampler.set_epoch(epoch)
    return list(minibatches)


def rows_in(data: TableData, features: Tensor) -> list[int]:
    """The numbers of rows in the file, from the column that tells them."""
    k = data.columns.features.index("row")
    raw = features[:, k].double() * data.preprocessing.scale[k] + data.preprocessing.mean[k]
    return (raw * 2).round().int().tolist()


def test_an_epoch_has_every_training_row_once(path: Path, frame: pl.DataFrame) -> None:
    """And no other; each as the preprocessing makes it of the row in the file."""
    data = stream_of(path)
    parts = epoch_of(data)
    features, target = (torch.cat(each) for each in zip(*parts, strict=True))
    rows = rows_in(data, features)
    held_out = [rows_in(data, data.split_tensors(split)[0]) for split in ("validation", "test")]
    assert sorted([*rows, *held_out[0], *held_out[1]]) == list(range(N))
    assert data.count_rows() == {
        "train": len(rows),
        "validation": len(held_out[0]),
        "test": len(held_out[1]),
    }
    whole = encode_table(frame, data.columns, Origin("t.parquet"))
    torch.testing.assert_close(features, data.preprocessing(whole.features[rows]))
    assert torch.equal(target, whole.target[rows])
    sizes = [len(target) for _, target in parts]
    assert sizes == [64] * (len(rows) // 64) + [len(rows) % 64]
    assert len(data.train_minibatches()) == len(parts)


def test_nothing_is_drawn_where_there_is_no_terminal(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even an empty line while the rows are checked."""
    stream_of(path)
    assert capsys.readouterr().err == ""


def test_what_is_kept_in_memory_has_a_bound(path: Path) -> None:
    """400 rows or so for validation, for test, and for the sample of training rows."""
    data = stream_of(path)
    assert 200 < len(data.rows["validation"]) < 600
    assert 200 < len(data.rows["test"]) < 600
    assert 200 < len(data.rows["train"]) < 600
    assert set(rows_in(data, data.split_tensors("train")[0])) <= set(
        rows_in(data, torch.cat([features for features, _ in epoch_of(data)]))
    )


@pytest.mark.parametrize("room", [10**6, 500])
def test_a_stream_is_divided_in_the_shares_asked_for_as_far_as_they_fit(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Within five standard errors; of a larger file as many rows as there is room for."""
    monkeypatch.setattr("multilayer.data.parquet_stream._HELD_OUT_BYTES", 5 * 4 * room)
    data = stream_of(path, validation_fraction=0.2, test_fraction=0.05)
    counts = data.count_rows()
    assert sum(counts.values()) == N
    for split, share in (("validation", min(0.2, room / N)), ("test", 0.05)):
        expected, error = share * N, np.sqrt(N * share * (1 - share))
        assert abs(counts[split] - expected) < 5 * error, split


def test_rows_of_all_over_the_file_are_shuffled(path: Path) -> None:
    """A minibatch has rows of several pieces, and no epoch has the order of another."""
    data = stream_of(path)
    orders = [rows_in(data, torch.cat([x for x, _ in epoch_of(data, e)])) for e in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    for order in orders:
        assert len({row // PIECE for row in order[:64]}) >= 6
        spread = np.std([np.mean(order[i : i + 64]) for i in range(0, len(order) - 64, 64)])
        assert spread < 0.15 * N  # one piece at a time gives 0.29 N, eight together 0.10 N


@pytest.fixture
def training_file(frame: pl.DataFrame, tmp_path: Path) -> Callable[[int], TableData]:
    """Data whose training rows are the first so many of a table, in a file of their own."""
    frame[4000:4300].write_parquet(tmp_path / "held_out.parquet")
    held_out = str(tmp_path / "held_out.parquet")

    def make(n_rows: int) -> TableData:
        frame[:n_rows].write_parquet(tmp_path / f"{n_rows}.parquet")
        path = tmp_path / f"{n_rows}.parquet"
        return stream_of(path, validation_path=held_out, test_path=held_out)

    return make


def test_the_rows_of_a_buffer_have_another_order_in_each_epoch(
    training_file: Callable[[int], TableData],
) -> None:
    """Also where a file is one piece, which always comes first and alone."""
    data = training_file(PIECE)
    orders = [rows_in(data, torch.cat([x for x, _ in epoch_of(data, e)])) for e in range(4)]
    assert all(sorted(order) == list(range(PIECE)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_the_rows_of_two_buffers_have_orders_of_their_own(
    training_file: Callable[[int], TableData],
) -> None:
    """Of 16 equal pieces the first eight are a buffer, and the others another."""
    data = training_file(16 * PIECE)
    minibatches = data.train_minibatches()
    pieces = minibatches.sampler.order().tolist()  # type: ignore[union-attr]
    order = rows_in(data, torch.cat([x for x, _ in minibatches]))
    places = [pieces.index(row // PIECE) * PIECE + row % PIECE for row in order]
    first, second = places[: 8 * PIECE], [place - 8 * PIECE for place in places[8 * PIECE :]]
    assert sorted(first) == sorted(second) == list(range(8 * PIECE))
    assert first != second


def test_features_are_made_for_some_minibatches_at_a_time_across_buffers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For three here, always, whatever a buffer leaves over; the minibatches are the same."""
    whole, data = epoch_of(stream_of(path)), stream_of(path)
    three = 3 * 64 * data.preprocessing.n_features
    monkeypatch.setattr("multilayer.data.parquet_stream._PREPROCESSED_VALUES", three)
    lengths = []
    usual = StreamedMinibatches._preprocess

    def noted(self: StreamedMinibatches, features: Tensor, target: Tensor) -> tuple:
        lengths.append(len(target))
        return usual(self, features, target)

    monkeypatch.setattr(StreamedMinibatches, "_preprocess", noted)
    parts = epoch_of(data)
    assert len(lengths) > 10
    assert set(lengths[:-1]) == {3 * 64}
    for (x, y), (x2, y2) in zip(parts, whole, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_the_order_is_given_by_seed_and_epoch(path: Path) -> None:
    """Alike in a new process, say, and other for another seed."""
    first, again = epoch_of(stream_of(path), 3), epoch_of(stream_of(path), 3)
    other = epoch_of(stream_of(path, shuffle_seed=1), 3)
    for (x, y), (x2, y2) in zip(first, again, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert not torch.equal(first[0][0], other[0][0])


def test_a_buffer_has_another_order_in_every_epoch(frame: pl.DataFrame, tmp_path: Path) -> None:
    """And for every seed, also where its pieces cannot change places: here it has only one."""
    frame[:PIECE].write_parquet(tmp_path / "t.parquet")
    orders = []
    for seed in (0, 1):
        data = stream_of(tmp_path / "t.parquet", shuffle_seed=seed)
        for epoch in (0, 1, 2):
            orders.append(rows_in(data, torch.cat([x for x, _ in epoch_of(data, epoch)])))
    assert len({tuple(order) for order in orders}) == 6
    assert len({tuple(sorted(order)) for order in orders}) == 1


@pytest.mark.parametrize("n_given", [0, 1, 7, 12, 30, 50])
def test_an_epoch_goes_on_where_it_was_interrupted(
    path: Path, n_given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the minibatches that were still to come, and without reading those before."""
    data = stream_of(path)
    whole = epoch_of(data, 2)
    interrupted = data.train_minibatches()
    assert interrupted.sampler is not None
    interrupted.sampler.set_epoch(2)
    given = iter(interrupted)
    for _ in range(n_given):
        next(given)
    state = interrupted.state_dict()
    given.close()  # type: ignore[attr-defined]
    read = []
    usual = ParquetStream.read
    monkeypatch.setattr(ParquetStream, "read", lambda self, i: (read.append(i), usual(self, i))[1])
    resumed = data.train_minibatches()
    resumed.load_state_dict(state)
    assert resumed.sampler is not None
    resumed.sampler.set_epoch(2)
    rest = list(resumed)
    assert len(rest) == len(whole) - n_given
    for (x, y), (x2, y2) in zip(rest, whole[n_given:], strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    n_seen = n_given * 64 // (8 * PIECE) * 8  # whole buffers, of which fewer rows are for training
    assert len(read) <= N // PIECE - n_seen


def test_several_files_are_one_stream(path: Path, frame: pl.DataFrame, tmp_path: Path) -> None:
    """In the order of their names, with the rows that one file of all would have."""
    frame[: 20 * PIECE].write_parquet(tmp_path / "part-0.parquet")
    frame[20 * PIECE :].write_parquet(tmp_path / "part-1.parquet")
    one, two = stream_of(path), stream_of(tmp_path / "part-*.parquet")
    for (x, y), (x2, y2) in zip(epoch_of(one), epoch_of(two), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_every_class_is_known(path: Path) -> None:
    """Also one of three rows, near the end of the file."""
    data = stream_of(path)
    assert data.columns.classes == ["no", "rare", "yes"]
    _, target = data.split_tensors("train")
    assert set(target.tolist()) == {0, 1, 2}


def test_files_of_splits_are_taken_whole(path: Path, frame: pl.DataFrame, tmp_path: Path) -> None:
    """What is not given is drawn from the streamed rows."""
    frame.head(700).write_csv(tmp_path / "test.csv")
    data = stream_of(path, test_path=str(tmp_path / "test.csv"))
    assert rows_in(data, data.split_tensors("test")[0]) == list(range(700))
    n = data.count_rows()
    assert n["train"] + n["validation"] == N


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("x").replace({4321.0: float("inf")}), r"'x' is infinite in row 4322"),
        (pl.col("y").replace({"4321": None}), r"the target 'y' is missing in row 4322"),
        (
            pl.when(pl.col("x") == 4321).then(float("inf")).otherwise("x").alias("y"),
            r"the target 'y' is infinite in row 4322",
        ),
        (
            pl.when(pl.col("x") == 4321).then(pl.lit("a")).otherwise(pl.lit("b")).alias("y"),
            r"class 'a' of column 'y' has 1 row, fewer than the 3 splits",
        ),
        (pl.concat_list("x").alias("y"), r"column 'y' holds List\(Float64\), where one value"),
    ],
)
def test_every_row_is_looked_at_before_the_training(
    change: pl.Expr, message: str, frame: pl.DataFrame, tmp_path: Path
) -> None:
    """A fault far down is told with its row."""
    values = pl.Series(np.arange(N, dtype=np.float64))
    frame = frame.with_columns(x=values, y=values.cast(pl.Int64).cast(pl.String))
    frame = frame.with_columns(change)
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=message):
        stream_of(tmp_path / "t.parquet", task="multiclass")


def test_a_word_among_numbers_is_reported_with_its_row(frame: pl.DataFrame, tmp_path: Path) -> None:
    """The row of the file, though only a sample of the rows is kept."""
    is_slip = (pl.col("row") > 1000) & (pl.col("row") % 10 == 6)
    size = pl.when(is_slip).then(pl.lit("?")).otherwise(pl.col("row").cast(pl.String))
    frame = frame.with_columns(size=size)
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: column 'size' holds numbers, but") as error:
        stream_of(tmp_path / "t.parquet")
    row = int(re.search(r"in row (\d+)", str(error.value))[1])  # type: ignore[index]
    assert frame["size"][row - 1] == "?"
    assert row > 2000


def test_what_is_known_of_a_sample_is_said_so(
    frame: pl.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other rows may be others."""
    flag = (pl.col("row") * 2 == 4321).cast(pl.Int64)
    frame.with_columns(flag=flag).write_parquet(tmp_path / "t.parquet")
    stream_of(tmp_path / "t.parquet")
    assert "a sample of t.parquet: column 'flag' is left out: it has the same" in caplog.text


def test_a_number_may_be_a_class(frame: pl.DataFrame, tmp_path: Path) -> None:
    """Where the task says so; one that few rows have is known too."""
    y = pl.when(pl.col("y") == "rare").then(2.5).when(pl.col("x") > 0).then(1.5).otherwise(0.5)
    frame.with_columns(y=y).write_parquet(tmp_path / "t.parquet")
    data = stream_of(tmp_path / "t.parquet", task="multiclass")
    assert data.columns.classes == ["0.5", "1.5", "2.5"]
    assert sum(len(target) for _, target in epoch_of(data)) == data.count_rows()["train"]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Decimal(10, 2)])
def test_many_whole_numbers_are_no_classes(
    frame: pl.DataFrame, tmp_path: Path, dtype: pl.DataType
) -> None:
    """And are not all kept in memory."""
    frame.with_columns(y=(pl.col("row") * 2).cast(dtype)).write_parquet(tmp_path / "t.parquet")
    data = stream_of(tmp_path / "t.parquet")
    assert data.columns.task == "regression"
    assert len(data.targets) < 3 * 600


def test_too_many_classes_are_reported(
    frame: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of each is kept in memory."""
    monkeypatch.setattr("multilayer.data.parquet_stream._MAX_CLASSES", 500)
    frame.with_columns(y=pl.col("row").cast(pl.String)).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: column 'y' has more than 500 classes"):
        stream_of(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_column": "word"}, "group_column=word is for tables in memory"),
        ({"folds": 5}, "folds=5 is for tables in memory"),
        ({"max_train_rows": 100}, "max_train_rows=100 is for tables in memory"),
    ],
)
def test_what_needs_all_rows_is_refused(
    path: Path, options: dict[str, object], message: str
) -> None:
    """By the constructor, before anything is read."""
    with pytest.raises(ValueError, match=message):
        stream_of(path, **options)


def test_a_table_too_small_to_stream_is_reported(tmp_path: Path) -> None:
    """Each split needs a row."""
    pl.DataFrame({"x": [1.0, 2.0], "y": [0.5, 1.5]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t.parquet: of 2 rows none is left to be a "):
        stream_of(tmp_path / "t.parquet")
    pl.DataFrame({"x": [], "y": []}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="has a header and no rows"):
        stream_of(tmp_path / "t.parquet")


@pytest.mark.parametrize("n_rows", [N - 1, 100, 2 * N])
def test_a_file_that_is_written_anew_while_it_is_read_is_reported(
    path: Path, frame: pl.DataFrame, n_rows: int
) -> None:
    """By its name, from the thread that reads ahead."""
    data = stream_of(path)
    pl.concat([frame, frame]).head(n_rows).write_parquet(path)
    with pytest.raises(UserError, match=r"t\.parquet: it was written anew"):
        epoch_of(data)


def test_a_file_that_lacks_its_end_is_reported(path: Path) -> None:
    """By its name, before the training."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read"):
        stream_of(path)


def test_the_fingerprint_is_of_all_rows(path: Path, frame: pl.DataFrame) -> None:
    """Also of those that are only streamed; a copy of the file has the same."""
    data = stream_of(path)
    first = data.fingerprint
    path.touch()
    assert stream_of(path).fingerprint == first
    kept = rows_in(data, torch.cat([data.split_tensors(split)[0] for split in data.rows]))
    row = min(set(range(N)) - set(kept))
    x = pl.when(pl.col("row") * 2 == row).then(pl.lit(9.0)).otherwise("x")
    frame.with_columns(x=x).write_parquet(path, row_group_size=130)
    assert stream_of(path).fingerprint != first


def test_the_network_may_be_on_another_device(path: Path) -> None:
    """The rows are preprocessed where they are read, whatever becomes of the module's own."""
    data = stream_of(path)
    expected = epoch_of(data)
    n_features = data.preprocessing.n_features
    module = MulticlassModule(MLP(n_features, 3), preprocessing=data.preprocessing).to("meta")
    again = epoch_of(data)
    assert all(torch.equal(x, x2) for (x, _), (x2, _) in zip(expected, again, strict=True))
    assert module.preprocessing.mean.device.type == "meta"
    assert {x.device.type for x, _ in data.train_minibatches(torch.device("meta"))} == {"meta"}
    assert {x.device.type for x, _ in data.minibatches("test", torch.device("meta"))} == {"meta"}


def test_categories_are_kept_as_they_were_read(path: Path) -> None:
    """Their features take many times the memory: they are made for some minibatches at a time."""
    data = stream_of(path, max_categories=2, min_frequency=1)
    assert data.features.shape[1] == len(data.columns.features) == 4
    minibatches = data.train_minibatches()
    assert isinstance(minibatches, StreamedMinibatches)
    assert {x.shape[1] for x, _ in minibatches._buffers(0)} == {4}
    assert data.preprocessing.n_features == 3 + 1 + 3  # numbers, a gap, labels and the others
    assert {x.shape[1] for x, _ in epoch_of(data)} == {7}
    assert {x.shape[1] for x, _ in data.minibatches("validation")} == {7}


@pytest.mark.parametrize("n_given", [1, 30])
@pytest.mark.parametrize(
    "option", [{"batch_size": 32}, {"batch_size": 1000}, {"batch_size": 10**6}, {"shuffle_seed": 1}]
)
def test_an_epoch_cannot_go_on_with_other_minibatches(
    path: Path, option: dict[str, object], n_given: int
) -> None:
    """Rows would be given twice, or never; however many minibatches the epoch has by now."""
    interrupted = stream_of(path).train_minibatches()
    for _ in zip(range(n_given), interrupted, strict=False):
        pass
    assert 0 < interrupted.n_yielded < len(interrupted)
    resumed = stream_of(path, **option).train_minibatches()
    resumed.load_state_dict(interrupted.state_dict())
    ((key, value),) = option.items()
    with pytest.raises(UserError, match=rf"data\.{key}={value}: .* only go on with data\.{key}="):
        next(iter(resumed))
    assert resumed.sampler is not None
    resumed.load_state_dict(interrupted.state_dict())
    resumed.sampler.set_epoch(1)  # another epoch may have others
    next(iter(resumed))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.arrow", 'a b\'s "t".csv'])
def test_how_to_convert_a_file_to_parquet_is_reported(
    name: str, frame: pl.DataFrame, tmp_path: Path
) -> None:
    """By a command that does it."""
    frame = frame.with_columns(pl.col("row").cast(pl.Int64))
    write_frame(frame, tmp_path / name)
    with pytest.raises(UserError, match="reads Parquet, not ") as error:
        stream_of(tmp_path / name)
    _, flag, program = shlex.split(str(error.value).partition("as Parquet: ")[2])
    assert flag == "-c"
    subprocess.run([sys.executable, "-c", program], check=True)
    written = tmp_path / name.replace(Path(name).suffix, ".parquet")
    assert pl.read_parquet(written).equals(frame)


def test_mistakes_on_the_command_line_are_reported(path: Path, multilayer: Run) -> None:
    """With exit code 2, and nothing left behind."""
    write_frame(pl.read_parquet(path), "t.csv")
    words = ["train", "data=table", "data.target=y", "data.stream=true"]
    for more, message in (
        (["data.path=t.csv"], "data.stream=true reads Parquet, not t.csv; write it once as"),
        ([f"data.path={path}", "data.batch_size=full"], "data.batch_size=full: all rows at once"),
        ([f"data.path={path}", "engine=lockstep"], "data.stream=true"),
        ([f"data.path={path}", "data.folds=3"], "folds=3 is for tables in memory"),
    ):
        outcome = multilayer(*words, *more)
        assert outcome.code == 2
        assert message in outcome.err
        assert "Traceback" not in outcome.err
        assert not Path("runs").exists()


def test_a_streamed_run_trains_and_is_evaluated_again(path: Path, multilayer: Run) -> None:
    """It says what it read, learns, and its folder gives its metrics again to the last digit."""
    outcome = multilayer(
        "train", "data=table", f"data.path={path}", "data.target=y", "data.stream=true",
        "trainer.max_epochs=3", "loss=cross_entropy",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "training rows are streamed" in outcome.out + outcome.err
    run = only_folder(Path())
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["validation"]["accuracy"] > 0.9
    for split in ("train", "validation", "test"):
        config = {"run": str(run), "split": split, "data": {"path": None}}
        found = evaluate({**config, "device": "cpu", "trusted_packages": []})
        assert found.metrics == metrics[split]


def test_a_streamed_run_is_resumed_bit_for_bit(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle of an epoch, it ends with the weights it would have had."""
    words = [
        "data=table", f"data.path={path}", "data.target=y", "data.stream=true",
        "trainer.max_epochs=2", "model.dropout=0.2", "logger=none", "num_threads=1",
    ]  # fmt: skip
    train(config_of(*words), tmp_path / "whole", words, quiet=True)

    usual, n_steps = MulticlassModule.training_step, []

    def interrupted(module: MulticlassModule, batch: object, index: int) -> Tensor:
        n_steps.append(index)
        if len(n_steps) == 90:
            raise KeyboardInterrupt
        return usual(module, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(MulticlassModule, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config_of(*words), tmp_path / "part", words, quiet=True)
    again = config_of(*words, f"resume={tmp_path / 'part'}")
    train(again, tmp_path / "rest", words, quiet=True)
    one, two = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "rest")
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_streamed_jobs_train_alone_in_a_sweep(path: Path, multilayer: Run) -> None:
    """The lockstep launcher says why."""
    outcome = multilayer(
        "train", "-m", "hydra/launcher=lockstep", "data=table", f"data.path={path}",
        "data.target=y", "data.stream=true", "trainer.max_epochs=1", "seed=0,1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "jobs 0 to 1 alone: data.stream=true" in outcome.out + outcome.err


def test_classes_are_counted_over_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is new once, up to as many as there may be."""
    monkeypatch.setattr("multilayer.data.parquet_stream._MAX_CLASSES", 3)
    classes = _ClassCounts(None)
    parts = [["b", "a", "b"], ["a", "c", None], ["b", "b"]]
    assert [classes.add(pl.Series("y", part), "f.parquet") for part in parts] == [
        [0, 1],
        [1],
        [],
    ]
    assert classes.counts == {"b": 4, "a": 2, "c": 1}
    with pytest.raises(UserError, match=r"f\.parquet: column 'y' has more than 3 classes"):
        classes.add(pl.Series("y", ["d"]), "f.parquet")
