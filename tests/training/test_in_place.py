"""A run that was interrupted goes on in its own folder, and ends as if nothing had happened."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import Any

import polars as pl
import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from torch import Tensor

from multilayer.callbacks.checkpoint import Checkpoint
from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.core.files import partial_of
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import Result, RunFolder, find_state
from multilayer.training.epoch_callback import Record
from multilayer.training.module import MulticlassModule

from ..conftest import Run
from ..core.test_files import ended_process
from ..trained import config_of, same, train_in, weights_of

WORDS = [
    "data=iris", "data.batch_size=16", "model.d_hidden=[8]", "model.dropout=0.3",
    "model.normalization=batch", "optimizer=adamw", "trainer.max_epochs=6", "compile=false",
]  # fmt: skip
PLATEAU = ["scheduler=plateau", "scheduler.scheduler.patience=0", "optimizer.lr=0.1"]
STOPS = ["callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1"]
DIVERGES = ["optimizer=sgd", "optimizer.lr=1e25", "model.normalization=null"]


def go_on(folder: Path, words: list[str]) -> Result:
    """Go on in the folder, as a sweep does: with the config of the run that begins."""
    return train(config_of(*words) | {"resume": str(folder)}, folder, words, quiet=True)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the folder of a run copied at each moment: what a run leaves that is killed then.

    They are next to it: "1" and so on after the checkpoint of an epoch, "end" before the last file.
    """

    def copy(folder: Path, moment: str) -> None:
        if folder.name == "whole":
            shutil.copytree(folder, folder.parent / moment)

    on_epoch_end, write_metrics = Checkpoint.on_epoch_end, RunFolder.write_metrics

    def after_checkpoint(self: Checkpoint, record: Record) -> None:
        on_epoch_end(self, record)
        copy(self.folders[0].parent, str(record.epoch[0]))

    def after_metrics(self: RunFolder, metrics: Any) -> None:
        write_metrics(self, metrics)
        copy(self.path, "end")

    monkeypatch.setattr(Checkpoint, "on_epoch_end", after_checkpoint)
    monkeypatch.setattr(RunFolder, "write_metrics", after_metrics)


def history_in(folder: Path) -> pl.DataFrame:
    """The table of a run, without its times."""
    return pl.read_csv(folder / "history.csv").drop("seconds")


def finite(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights with a number for each NaN, which no number is equal to."""
    return {name: value.nan_to_num(7.0) for name, value in weights.items()}


def check_same_run(folder: Path, whole: Path) -> None:
    """Raise unless a run left the very numbers of another one."""
    names = [path.name for path in (whole / "checkpoints").iterdir()]
    assert sorted(names) == sorted(path.name for path in (folder / "checkpoints").iterdir())
    for name in names:
        weights, expected = (finite(weights_of(each, name)) for each in (folder, whole))
        assert same(weights, expected)
    assert history_in(folder).equals(history_in(whole))
    for name in ("metrics.json", "config.yaml"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    found, noted = (RunFolder(each).read_manifest() for each in (folder, whole))
    assert found["attempts"] == 2
    assert found.keys() - {"attempts"} == noted.keys()
    for key in found.keys() - {"attempts", "fit_seconds", "steps_per_second"}:
        assert found[key] == noted[key], key


@pytest.mark.usefixtures("killed")
@pytest.mark.parametrize("more", [["scheduler=cosine"], PLATEAU, [*PLATEAU, *STOPS], DIVERGES])
def test_it_ends_as_the_undisturbed_run(more: list[str], tmp_path: Path) -> None:
    """To the bits, wherever it was killed; also where nothing but the end was left to do."""
    words = [*WORDS, *more]
    whole = tmp_path / "whole"
    train_in(whole, *words, "callbacks.checkpoint.every_seconds=0")
    moments = [path for path in tmp_path.iterdir() if path != whole]
    assert len(moments) == history_in(whole).height + 1
    for folder in moments:
        assert find_state(folder) == "resumable"
        go_on(folder, [*words, "callbacks.checkpoint.every_seconds=0"])
        check_same_run(folder, whole)
        assert find_state(folder) == "finished"


@pytest.fixture
def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed after four epochs, two after its last checkpoint."""
    folder = tmp_path / "behind"
    monkeypatch.setattr(Checkpoint, "_is_time", lambda self: (folder / "two").exists())
    monkeypatch.setattr("multilayer.training.history._SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr("multilayer.training.history._SECONDS_A_FILE", 0.0)
    on_epoch_end = Checkpoint.on_epoch_end

    def end_epoch(self: Checkpoint, record: Record) -> None:
        if record.epoch[0] == 2:
            (folder / "two").touch()
        on_epoch_end(self, record)
        (folder / "two").unlink(missing_ok=True)
        if record.epoch[0] == 4:
            record.tensorboard().flush()
            shutil.copytree(folder, tmp_path / "killed")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", end_epoch)
        train_in(folder, *WORDS)
    return tmp_path / "killed"


def test_what_came_after_the_checkpoint_is_gone(behind: Path) -> None:
    """From the table, from TensorBoard's curves, and what was half written."""
    assert history_in(behind)["epoch"].to_list() == [1, 2, 3, 4]
    (earlier,) = (behind / "tensorboard").iterdir()
    with earlier.open("ab") as file:
        file.write(earlier.read_bytes()[-30:-10])  # killed within a record
    for written in (behind / "a.json", behind / "checkpoints" / "a.ckpt"):
        partial_of(written, ended_process()).write_text("half")
    go_on(behind, [*WORDS, "trainer.max_epochs=6"])
    assert history_in(behind)["epoch"].to_list() == [1, 2, 3, 4, 5, 6]
    assert len([*(behind / "tensorboard").iterdir()]) == 2
    curves = EventAccumulator(str(behind / "tensorboard")).Reload()
    steps = [event.step for event in curves.Tensors("validation/loss")]
    assert steps == [7 * epoch - 1 for epoch in range(1, 7)]
    assert not [*behind.rglob(".partial*")]


def test_the_table_ends_where_the_checkpoint_does(
    behind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start, so that no epoch is there twice if it is killed again."""
    found: list[list[int]] = []
    begin = Checkpoint.on_epoch_start

    def on_epoch_start(self: Checkpoint, record: Record) -> None:
        found.append(history_in(behind)["epoch"].to_list())
        begin(self, record)

    monkeypatch.setattr(Checkpoint, "on_epoch_start", on_epoch_start)
    go_on(behind, WORDS)
    assert found[0] == [1, 2]


def test_attempts_are_counted(behind: Path) -> None:
    """From the first one's start on."""
    manifest = RunFolder(behind).read_manifest()
    RunFolder(behind).write_manifest(manifest | {"started": "2026-01-01", "attempts": 4})
    result = go_on(behind, WORDS)
    assert result.manifest["attempts"] == 5
    assert result.manifest["started"] == "2026-01-01"
    assert RunFolder(behind).read_manifest() == result.manifest


def test_the_command_line_goes_on_in_place(behind: Path, multilayer: Run) -> None:
    """With nothing repeated; a second time there is nothing to go on with."""
    words = [f"resume={behind}", f"hydra.run.dir={behind}"]
    assert multilayer("train", *words).code == 0
    assert history_in(behind).height == 6
    before = sorted(path.stat().st_mtime_ns for path in behind.rglob("*"))
    again = multilayer("train", *words)
    assert again.code == 2
    assert "came to its end" in again.err
    assert before == sorted(path.stat().st_mtime_ns for path in behind.rglob("*"))


@pytest.mark.parametrize(
    "change", ["optimizer.lr=1", "trainer.max_epochs=9", "data.batch_size=8", "scheduler=step"]
)
def test_it_stays_the_run_that_it_was(behind: Path, change: str) -> None:
    """What would be another run needs another folder; nothing is written."""
    before = RunFolder(behind).read_manifest()
    with pytest.raises(UserError, match="must stay so: the run goes on in its own folder"):
        go_on(behind, [*WORDS, change])
    assert RunFolder(behind).read_manifest() == before


def test_states_of_folders(finished_run: Path, behind: Path) -> None:
    """A run without a checkpoint is to be trained anew."""
    assert find_state(behind / "elsewhere") == "none"
    assert find_state(finished_run) == "finished"
    assert find_state(behind) == "resumable"
    shutil.rmtree(behind / "checkpoints")
    assert find_state(behind) == "unfinished"
    with pytest.raises(UserError, match="has no checkpoint: it still trains, or was killed"):
        go_on(behind, WORDS)
    (behind / "manifest.json").write_text('{"status": "running"}')
    with pytest.raises(UserError, match=r"manifest\.json is damaged: 'started'"):
        RunFolder(behind).begin_again({})
    (behind / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        find_state(behind)


@pytest.mark.usefixtures("killed")
def test_a_found_rate_stays_found(tmp_path: Path) -> None:
    """The sweep of learning rates is not repeated, though the config asks for it."""
    words = ["data=iris", "callbacks=[default,lr_sweep]", "trainer.max_epochs=2", "seed=3"]
    words += ["callbacks.checkpoint.every_seconds=0"]
    train_in(tmp_path / "whole", *words)
    result = go_on(tmp_path / "1", words)
    assert "lr_sweep_seconds" not in result.manifest
    assert history_in(tmp_path / "1").equals(history_in(tmp_path / "whole"))
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("1", "whole")))
    config, expected = ((tmp_path / name / "config.yaml").read_text() for name in ("1", "whole"))
    assert config == expected


def test_a_process_that_is_killed_goes_on(tmp_path: Path) -> None:
    """By a real SIGKILL, at whatever moment."""
    words = [*WORDS, "trainer.max_epochs=40", "callbacks.checkpoint.every_seconds=0"]
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "multilayer", "train", *words, f"hydra.run.dir={folder}"]
    with subprocess.Popen(command) as process:
        while epochs_in(folder) < 5 and process.poll() is None:
            sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert find_state(folder) == "resumable"
    train_in(whole, *words)
    go_on(folder, words)
    for run in map(RunFolder, (folder, whole)):
        manifest = run.read_manifest()
        run.write_manifest(manifest | {"started": "", "command": "", "overrides": []})
    check_same_run(folder, whole)


IS_KILLED_BETWEEN_FILES = """
import os
import signal
import sys
from multilayer.cli.main import command

move, checkpoints = os.replace, []

def move_and_die(source, target):
    move(source, target)
    if str(target).endswith(".ckpt"):
        checkpoints.append(target)
        if len(checkpoints) == 5:  # the first of two in the third epoch
            os.kill(os.getpid(), signal.SIGKILL)

os.replace = move_and_die
command(sys.argv[1:])
"""


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_killed_between_its_last_checkpoints_a_run_has_both(engine: str, tmp_path: Path) -> None:
    """The best weights are those of the last epoch, after which nothing is left to train."""
    words = [*WORDS, f"engine={engine}", "trainer.max_epochs=3", "monitor=train/loss"]
    words += ["callbacks.checkpoint.every_seconds=0", "model.dropout=0", "optimizer.lr=0.01"]
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", IS_KILLED_BETWEEN_FILES, "train", *words]
    done = subprocess.run([*command, f"hydra.run.dir={folder}"], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    result = train_in(whole, *words)
    assert result.manifest["best_epoch"] == 3
    go_on(folder, words)
    for name in ("best.ckpt", "last.ckpt"):
        assert same(weights_of(folder, name), weights_of(whole, name))


def epochs_in(folder: Path) -> int:
    """How many epochs the last checkpoint has; 0 without one."""
    path = folder / "checkpoints" / "last.ckpt"
    return 1 + int(read_checkpoint(path)["epoch"]) if path.exists() else 0


@pytest.mark.parametrize("scheduler", ["cosine", "step"])
@pytest.mark.parametrize(
    ("hook", "n_calls"), [("training", 3), ("training", 7), ("training", 17), ("validation", 2)]
)
def test_within_an_epoch_nothing_is_lost(
    hook: str, n_calls: int, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C within a step, the epoch's metrics and rate are those of all of its rows.

    TensorBoard shows the losses of the same steps, and each epoch's rate once.
    """
    words = [
        *WORDS,
        f"scheduler={scheduler}",
        "trainer.max_epochs=4",
        "trainer.log_every_n_steps=2",
    ]
    train_in(tmp_path / "whole", *words)
    step, numbers = getattr(MulticlassModule, f"{hook}_step"), iter(range(1000))

    def interrupted(module: MulticlassModule, *arguments: Any) -> Tensor:
        result = step(module, *arguments)
        if next(numbers) == n_calls:
            signal.raise_signal(signal.SIGINT)
        return result  # type: ignore[no-any-return]

    monkeypatch.setattr(MulticlassModule, f"{hook}_step", interrupted)
    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        train_in(folder, *words)
    assert find_state(folder) == "resumable"
    if hook == "training":
        assert RunFolder(folder).read_manifest()["steps"] == n_calls + 1
    go_on(folder, words)
    manifest = RunFolder(folder).read_manifest()
    started = RunFolder(tmp_path / "whole").read_manifest()["started"]
    RunFolder(folder).write_manifest(manifest | {"started": started})
    check_same_run(folder, tmp_path / "whole")
    assert curves_in(folder) == curves_in(tmp_path / "whole")


def curves_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"]) - {"custom_scalars__config__"}
    assert "train/loss_step" in tags
    return {
        tag: [(each.step, each.tensor_proto.float_val[0]) for each in events.Tensors(tag)]
        for tag in tags
    }


def test_crafted_outputs_of_an_epoch_are_refused(behind: Path) -> None:
    """Before anything is written."""
    path = behind / "checkpoints" / "last.ckpt"
    content = read_checkpoint(path)
    manifest = RunFolder(behind).read_manifest()
    outputs = {
        "n_minibatches": 1, "n_packs": 0, "losses": torch.ones(1), "weights": torch.ones(1),
        "outputs": [torch.ones(16, 3)], "targets": [torch.zeros(16, dtype=torch.long)],
    }  # fmt: skip
    for name, value in [
        ("n_packs", "x"), ("losses", 3), ("outputs", []), ("targets", [torch.ones(5)]),
    ]:  # fmt: skip
        torch.save(content | {"unfinished_epoch": outputs | {name: value}}, path)
        with pytest.raises(
            UserError, match=r"last\.ckpt.* (no training that can go on|as many rows)"
        ):
            go_on(behind, WORDS)
    assert RunFolder(behind).read_manifest() == manifest
