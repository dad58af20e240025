"""Tables that are read while a network trains."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from multilayer.data import TableData
from multilayer.data.datamodule import count_rows
from multilayer.data.stream import TableStream
from multilayer.data.table import read_table
from multilayer.errors import UserError
from multilayer.evaluate import evaluate
from multilayer.modules import MulticlassModule
from multilayer.train import train

from ..conftest import Run, only_folder
from ..test_train import config_of

N = 5000
PIECE = 100


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 100 rows, so that a small file has many."""
    monkeypatch.setattr("multilayer.data.stream.PIECE_VALUES", 5 * PIECE)
    monkeypatch.setattr("multilayer.data.stream.HELD_OUT_BYTES", 5 * 4 * 400)


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
            "y": np.where(np.arange(N) == N - 40, "rare", np.where(x > 0, "yes", "no")),
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
    held_out = [rows_in(data, data.rows_of(split)[0]) for split in ("validation", "test")]
    assert sorted([*rows, *held_out[0], *held_out[1]]) == list(range(N))
    assert count_rows(data) == {
        "train": len(rows),
        "validation": len(held_out[0]),
        "test": len(held_out[1]),
    }
    whole = read_table(frame, data.columns, "t.parquet")
    torch.testing.assert_close(features, data.preprocessing(whole.features[rows]))
    assert torch.equal(target, whole.target[rows])
    sizes = [len(target) for _, target in parts]
    assert sizes == [64] * (len(rows) // 64) + [len(rows) % 64]
    assert len(data.train_minibatches()) == len(parts)


def test_what_is_kept_in_memory_has_a_bound(path: Path) -> None:
    """400 rows or so for validation, for test, and for the sample of training rows."""
    data = stream_of(path)
    assert 200 < len(data.rows["validation"]) < 600
    assert 200 < len(data.rows["test"]) < 600
    assert 200 < len(data.rows["train"]) < 600
    assert set(rows_in(data, data.rows_of("train")[0])) <= set(
        rows_in(data, torch.cat([features for features, _ in epoch_of(data)]))
    )


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


def test_the_order_is_given_by_seed_and_epoch(path: Path) -> None:
    """Alike in a new process, say, and other for another seed."""
    first, again = epoch_of(stream_of(path), 3), epoch_of(stream_of(path), 3)
    other = epoch_of(stream_of(path, shuffle_seed=1), 3)
    for (x, y), (x2, y2) in zip(first, again, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert not torch.equal(first[0][0], other[0][0])


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
    usual = TableStream.read
    monkeypatch.setattr(TableStream, "read", lambda self, i: (read.append(i), usual(self, i))[1])
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
    """Also one of a single row, near the end of the file."""
    data = stream_of(path)
    assert data.columns.classes == ["no", "rare", "yes"]
    _, target = data.rows_of("train")
    assert set(target.tolist()) == {0, 1, 2}


def test_files_of_splits_are_taken_whole(path: Path, frame: pl.DataFrame, tmp_path: Path) -> None:
    """What is not given is drawn from the streamed rows."""
    frame.head(700).write_csv(tmp_path / "test.csv")
    data = stream_of(path, test_path=str(tmp_path / "test.csv"))
    assert rows_in(data, data.rows_of("test")[0]) == list(range(700))
    n = count_rows(data)
    assert n["train"] + n["validation"] == N


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("x").replace({4321.0: float("inf")}), r"'x' is infinite in row 4322"),
        (pl.col("y").replace({"4321": None}), r"the target 'y' is missing in row 4322"),
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
    with pytest.raises(UserError, match=f"t.parquet: .*{message}"):
        stream_of(tmp_path / "t.parquet", task="multiclass")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "word"}, "group=word is for tables in memory"),
        ({"folds": 5}, "folds=5 is for tables in memory"),
        ({"train_rows": 100}, "train_rows=100 is for tables in memory"),
    ],
)
def test_what_needs_all_rows_is_refused(
    path: Path, options: dict[str, object], message: str
) -> None:
    """By the constructor, before anything is read."""
    with pytest.raises(ValueError, match=message):
        stream_of(path, **options)


def test_a_table_too_small_to_stream_is_told(tmp_path: Path) -> None:
    """Each split needs a row."""
    pl.DataFrame({"x": [1.0, 2.0], "y": [0.5, 1.5]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="none is left to be a "):
        stream_of(tmp_path / "t.parquet")
    pl.DataFrame({"x": [], "y": []}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="has a header and no rows"):
        stream_of(tmp_path / "t.parquet")


def test_a_file_that_is_cut_short_while_it_is_read_is_told(path: Path) -> None:
    """By its name, from the thread that reads ahead."""
    data = stream_of(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read"):
        epoch_of(data)


def test_mistakes_on_the_command_line_are_told(path: Path, multilayer: Run) -> None:
    """With exit code 2, and nothing left behind."""
    pl.read_parquet(path).write_csv("t.csv")
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
        found = evaluate({**config, "device": "cpu", "allow": []})
        assert found.metrics == metrics[split]


def test_a_streamed_run_is_resumed_bit_for_bit(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle of an epoch, it ends with the weights it would have had."""
    words = [
        "data=table", f"data.path={path}", "data.target=y", "data.stream=true",
        "trainer.max_epochs=2", "model.dropout=0.2", "logger=none", "threads=1",
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
    assert "job 0 to 1 alone: data.stream=true" in outcome.out + outcome.err
