"""Epochs that take hours, since their rows are streamed: kept and shown within."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from torch import Tensor

from multilayer.callbacks import TrainingProgress
from multilayer.training.module import BinaryModule

from ..trained import same, train_in, weights_of

N = 2000


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A training of two epochs of some 27 minibatches, on a file with many small pieces."""
    monkeypatch.setattr("multilayer.data.parquet_stream._CHUNK_VALUES", 3 * 100)
    monkeypatch.setattr("multilayer.data.parquet_stream._HELD_OUT_BYTES", 3 * 4 * 200)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, N))
    pl.DataFrame({"x": x, "y": y, "label": x * y > 0}).write_parquet(tmp_path / "t.parquet")
    return [
        "data=table", f"data.path={tmp_path / 't.parquet'}", "data.target=label",
        "data.stream=true", "data.batch_size=64", "trainer.max_epochs=2", "model.dropout=0.2",
        "logger=none", "num_threads=1",
    ]  # fmt: skip


@pytest.fixture
def before_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], None]:
    """Has something happen within a step of the next training, counted from 0 in that training."""
    usual = BinaryModule.training_step

    def arrange(number: int, happen: Callable[[], Any]) -> None:
        numbers = iter(range(10**6))

        def step(module: BinaryModule, batch: Any, index: int) -> Tensor:
            if next(numbers) == number:
                happen()
            return usual(module, batch, index)

        monkeypatch.setattr(BinaryModule, "training_step", step)

    return arrange


@pytest.mark.parametrize("n_accumulated", [1, 3])
def test_a_training_that_is_killed_within_an_epoch_goes_on(
    n_accumulated: int,
    words: list[str],
    before_step: Callable[[int, Callable[[], Any]], None],
    tmp_path: Path,
) -> None:
    """Killed twice, it ends as the one that went through, bit for bit.

    A run that is killed is what its folder holds at that moment.
    """

    def killed(name: str) -> None:
        shutil.copytree(tmp_path / name, tmp_path / f"{name} killed")

    words = [*words, f"trainer.accumulate_grad_batches={n_accumulated}"]
    often = [*words, "callbacks.checkpoint.every_seconds=0"]
    whole = train_in(tmp_path / "whole", *words)
    before_step(10, lambda: killed("first"))
    train_in(tmp_path / "first", *often)
    before_step(20, lambda: killed("second"))
    train_in(tmp_path / "second", *often, f"resume={tmp_path / 'first killed'}")
    rest = train_in(tmp_path / "rest", *often, f"resume={tmp_path / 'second killed'}")

    for name in ("first", "second", "rest"):
        for file in ("last.ckpt", "best.ckpt"):
            assert same(weights_of(tmp_path / "whole", file), weights_of(tmp_path / name, file))
    assert rest.metrics == whole.metrics
    for key in ("steps", "best_epoch", "stop_reason"):
        assert rest.manifest[key] == whole.manifest[key]
    status = json.loads((tmp_path / "second killed" / "manifest.json").read_text())["status"]
    assert status == "running"


def test_after_ctrl_c_and_a_kill_it_goes_on(
    words: list[str],
    before_step: Callable[[int, Callable[[], Any]], None],
    tmp_path: Path,
) -> None:
    """Lightning counts a step as begun after Ctrl-C within it; that must not stay so."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    often = [*words, "callbacks.checkpoint.every_seconds=0"]
    whole = train_in(tmp_path / "whole", *words)
    before_step(5, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path / "first", *words)
    before_step(7, lambda: shutil.copytree(tmp_path / "second", tmp_path / "killed"))
    train_in(tmp_path / "second", *often, f"resume={tmp_path / 'first'}")
    rest = train_in(tmp_path / "rest", *words, f"resume={tmp_path / 'killed'}")
    assert same(
        weights_of(tmp_path / "whole", "last.ckpt"), weights_of(tmp_path / "rest", "last.ckpt")
    )
    assert rest.metrics == whole.metrics


@pytest.mark.parametrize("is_terminal", [True, False])
def test_minibatches_are_counted_within_an_epoch(
    is_terminal: bool, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With their rate and the time left, on a terminal and elsewhere."""
    screen = io.StringIO()
    usual = TrainingProgress.__init__

    def with_screen(self: TrainingProgress) -> None:
        usual(self)
        self.console = Console(file=screen, force_terminal=is_terminal, width=120)

    monkeypatch.setattr(TrainingProgress, "__init__", with_screen)
    for name in ("SECONDS_BETWEEN_LINES", "SECONDS_BETWEEN_MOVES"):
        monkeypatch.setattr(f"multilayer.callbacks.progress.{name}", -1.0)
    steps = train_in(tmp_path / "run", *words).manifest["steps"] // 2
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())  # without colours
    assert "2/2" in text
    assert re.search(rf"minibatch\s+{steps}/{steps}", text)
    assert re.search(r"[1-9][0-9,]* a second", text)
    assert re.search(r"0:00:\d\d left", text)
    if not is_terminal:
        first, *lines = re.findall(r"(?m)^epoch 2/2  minibatch (.*)$", text)
        assert first == f"1/{steps}"  # after one minibatch there is no rate yet
        expected = [rf"{n}/{steps}  [1-9][0-9,]* a second  \S+ left" for n in range(2, steps + 1)]
        assert len(lines) == len(expected)
        assert all(re.fullmatch(*pair) for pair in zip(expected, lines, strict=True))
