"""A run from its config to its folder: trained, saved, loaded, evaluated and resumed for real."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from sklearn.utils.class_weight import compute_class_weight
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.runs.folder import RunFolder
from multilayer.training.components import make_data
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.evaluate import evaluate
from multilayer.training.lightning_adapter import _LightningAdapter

from ..conftest import Run, only_folder
from ..trained import config_of, is_rate_of_fit, same, train_in, weights_of

QUICK = ["data=iris", "trainer.max_epochs=8", "data.batch_size=32"]


def test_the_default_run_reads_digits_well(multilayer: Run, tmp_path: Path) -> None:
    """`multilayer train` as it comes: at least 97 % on the test rows, and it says where it is."""
    outcome = multilayer("train")
    assert outcome.code == 0, outcome.err
    folder = only_folder(tmp_path)
    metrics = RunFolder(folder).read_metrics()
    assert metrics["test"]["accuracy"] >= 0.97
    relative = folder.relative_to(tmp_path)
    assert outcome.out.splitlines()[-2:] == [
        f"run folder  {relative}",
        f"look at it  tensorboard --logdir {relative}",
    ]


def test_a_run_says_what_matters_and_nothing_of_lightning_s(tmp_path: Path) -> None:
    """In another process, where Lightning is imported after the start."""
    words = [sys.executable, "-m", "multilayer", "train", "data=iris", "trainer.max_epochs=1"]
    outcome = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line for line in outcome.stderr.splitlines() if line[0] not in "┏┃┡│└"]  # the layers
    assert lines == [
        "data: 1 of 23 test rows is the same as a training row",
        "data: train 104, validation 23, test 23 rows; 4 numbers; multiclass, 3 classes",
        "compile=auto: not compiling, with 2 steps ahead on cpu",
    ]


def test_a_run_folder_holds_what_the_design_says(multilayer: Run, tmp_path: Path) -> None:
    """Config, manifest, history, metrics, checkpoints and event files, and nothing else."""
    assert multilayer("train", *QUICK).code == 0
    folder = only_folder(tmp_path)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard/events.out.tfevents.")}
    assert len(events) == 1
    assert files - events == {
        "config.yaml",
        "manifest.json",
        "metrics.json",
        "history.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config == config_of(*QUICK)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["command"] == "multilayer train " + " ".join(QUICK)
    assert manifest["overrides"] == QUICK
    assert manifest["seed"] == 0
    assert manifest["status"] == "done"
    assert manifest["stop_reason"] == "reached trainer.max_epochs=8"
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["rows"] == {"train": 104, "validation": 23, "test": 23}
    assert manifest["steps"] == 8 * math.ceil(104 / 32)
    assert is_rate_of_fit(manifest, manifest["steps"])
    assert 1 <= manifest["best_epoch"] <= 8
    assert set(json.loads((folder / "metrics.json").read_text())) == {"train", "validation", "test"}


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    """Weights to the last bit; another seed gives others, and seed 0 is a seed."""
    train_in(tmp_path / "a", *QUICK, "seed=0", "model.dropout=0.2")
    train_in(tmp_path / "b", *QUICK, "seed=0", "model.dropout=0.2")
    train_in(tmp_path / "c", *QUICK, "seed=1", "model.dropout=0.2")
    first = weights_of(tmp_path / "a")
    assert same(first, weights_of(tmp_path / "b"))
    assert not same(first, weights_of(tmp_path / "c"))


@pytest.mark.parametrize("data", ["iris", "breast_cancer", "diabetes", "pass_class"])
def test_evaluate_gives_the_metrics_of_the_training(tmp_path: Path, data: str) -> None:
    """To the last digit, for each task and split, from the folder alone."""
    result = train_in(tmp_path, f"data={data}", "trainer.max_epochs=2")
    question = {
        "run": str(tmp_path),
        "data": {"path": None},
        "device": "auto",
        "trusted_packages": [],
    }
    saved = json.loads((tmp_path / "metrics.json").read_text())
    for split in ("train", "validation", "test"):
        assert evaluate(question | {"split": split}).metrics == result.metrics[split], split
        assert saved[split] == result.metrics[split], split


def test_the_best_weights_are_kept_and_restored(tmp_path: Path) -> None:
    """The metrics are those of the best epoch, though the last is far worse."""
    result = train_in(
        tmp_path, "data=pass_class", "optimizer=adam", "optimizer.lr=0.05", "trainer.max_epochs=30"
    )
    scalars = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [event.value for event in scalars.Scalars("validation/loss")]
    assert result.manifest["best_epoch"] == losses.index(min(losses)) + 1
    assert result.metrics["validation"]["loss"] == pytest.approx(min(losses), rel=1e-5)
    assert not same(weights_of(tmp_path), weights_of(tmp_path, "last.ckpt"))


def test_the_turning_point_is_in_tensorboard(tmp_path: Path) -> None:
    """As a point of its own, at the step and the loss of the best epoch."""
    train_in(tmp_path, "data=pass_class", "optimizer.lr=0.05", "trainer.max_epochs=30")
    scalars = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (point,) = scalars.Scalars("turning_point/loss")
    best = min(scalars.Scalars("validation/loss"), key=lambda event: event.value)
    assert point.value == best.value
    assert point.step == best.step
    assert "custom_scalars__config__" in scalars.Tags()["tensors"]


def test_early_stopping_says_why_in_the_manifest(tmp_path: Path) -> None:
    """The metric, its best value, the epoch and the patience."""
    result = train_in(
        tmp_path, "data=iris", "optimizer.lr=0", "callbacks.early_stopping.patience=3"
    )
    assert result.manifest["stop_reason"].startswith("early stopping: validation/loss")
    assert "for 3 epochs" in result.manifest["stop_reason"]
    assert result.manifest["steps"] == 4 * 2  # epochs, minibatches an epoch
    assert result.manifest["best_epoch"] == 1


class Elsewhere(EpochCallback):
    """Says that it has done something else than train for a long time."""

    seconds_apart = 1e6


def test_seconds_that_a_callback_spends_on_something_else_are_no_training(tmp_path: Path) -> None:
    """Whichever callback it is, as the learning-rate sweep does."""
    own = f"+callbacks.elsewhere._target_={__name__}.Elsewhere"
    seconds = train_in(tmp_path, *QUICK, "trainer.max_epochs=1", own).manifest["fit_seconds"]
    assert -1e6 < seconds < 0


class StopsAtOnce(pl.Callback):
    """A user's own, which gives no reason."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = True


def test_a_training_without_a_last_epoch_has_not_reached_it(tmp_path: Path) -> None:
    """A callback has stopped it."""
    own = f"+callbacks.stops._target_={__name__}.StopsAtOnce"
    limits = ["trainer.max_epochs=-1", "trainer.max_steps=1000", "trainer.min_epochs=1"]
    result = train_in(tmp_path, *QUICK, *limits, own)
    assert result.manifest["stop_reason"] == "stopped by a callback"


TIMER = "+callbacks.timer={_target_: pytorch_lightning.callbacks.Timer, duration: '%s'}"


@pytest.mark.parametrize("limit", ["trainer.max_time=%s", TIMER])
@pytest.mark.parametrize(
    ("duration", "reason"),
    [("00:00:00:00", "reached the time limit"), ("01:00:00:00", "stopped by a callback")],
)
def test_the_time_limit_is_the_reason_only_where_the_time_is_over(
    tmp_path: Path, limit: str, duration: str, reason: str
) -> None:
    """Whether the trainer has it or a `Timer`; a callback stops the training in any case."""
    own = f"+callbacks.stops._target_={__name__}.StopsAtOnce"
    result = train_in(tmp_path, *QUICK, "trainer.min_epochs=1", limit % duration, own)
    assert result.manifest["stop_reason"] == reason


def test_a_run_that_diverges_keeps_its_last_finite_best(multilayer: Run, tmp_path: Path) -> None:
    """Status diverged, exit code 1, and no NaN in the files."""
    outcome = multilayer("train", "data=diabetes", "optimizer=sgd", "optimizer.lr=1e20")
    assert outcome.code == 1
    assert "diverged" in outcome.out
    folder = only_folder(tmp_path)
    manifest = RunFolder(folder).read_manifest()
    assert manifest["status"] == "diverged"
    assert "NaN" not in (folder / "metrics.json").read_text()
    assert "NaN" not in (folder / "manifest.json").read_text()


@pytest.mark.parametrize("scheduler", ["step", "cosine", "plateau"])
def test_a_resumed_run_ends_as_the_one_that_went_through(tmp_path: Path, scheduler: str) -> None:
    """The same weights to the last bit, and the same best epoch."""
    overrides = ["data=iris", "trainer.max_epochs=8", "model.dropout=0.2"]
    overrides.append(f"scheduler={scheduler}")
    whole = train_in(tmp_path / "whole", *overrides)
    length = ["scheduler.scheduler.n_steps=16"] if scheduler == "cosine" else []
    train_in(tmp_path / "half", *overrides, "trainer.max_epochs=4", *length)
    resumed = train_in(tmp_path / "resumed", *overrides, f"resume={tmp_path / 'half'}")
    assert same(
        weights_of(tmp_path / "whole", "last.ckpt"), weights_of(tmp_path / "resumed", "last.ckpt")
    )
    assert resumed.manifest["best_epoch"] == whole.manifest["best_epoch"]
    assert resumed.metrics == whole.metrics


def test_a_run_that_fails_says_so_in_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status failed, with the error; what was learnt until then is saved."""

    def fail(*arguments: Any) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr("multilayer.callbacks.TrainingProgress.on_train_epoch_end", fail)
    with pytest.raises(RuntimeError, match="no more"):
        train_in(tmp_path, *QUICK)
    manifest = RunFolder(tmp_path).read_manifest()
    assert manifest["status"] == "failed"
    assert manifest["stop_reason"] == "RuntimeError: no more"
    assert weights_of(tmp_path, "last.ckpt")


def test_an_interruption_within_an_epoch_loses_no_minibatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run takes up the epoch where it was, and ends as the one that went through."""
    overrides = ["data=iris", "trainer.max_epochs=4", "data.batch_size=16", "model.dropout=0.2"]

    def interrupt(self: Any, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 10:  # of 7 steps an epoch
            raise RuntimeError("the power is out")

    train_in(tmp_path / "whole", *overrides)
    with monkeypatch.context() as patch:
        patch.setattr(_LightningAdapter, "on_train_batch_end", interrupt)
        with pytest.raises(RuntimeError, match="power"):
            train_in(tmp_path / "first", *overrides)
    result = train_in(tmp_path / "second", *overrides, f"resume={tmp_path / 'first'}")
    assert result.manifest["steps"] == 4 * 7
    last = [weights_of(tmp_path / name, "last.ckpt") for name in ("whole", "second")]
    assert same(*last)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trainer.check_val_every_n_epoch=4"], r"=4: .* 3 epochs .* BestWeights, Early.* give 3 "),
        (["trainer.check_val_every_n_epoch=3", "trainer.max_steps=5"], r"2\.5 epochs .* give 2 "),
        (
            ["trainer.check_val_every_n_epoch=4", "callbacks=none", "scheduler=plateau"],
            "and scheduler=plateau would wait",
        ),
        (["trainer.limit_val_batches=0.001"], r"limit_val_batches=0\.001: none of 1 minibatch$"),
        (
            ["+trainer.val_check_interval=3"],
            "val_check_interval=3: .* has only 2 minib",
        ),
    ],
)
def test_a_validation_that_never_comes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    """Before a network is built: no best epoch would be found, and nothing would stop early."""
    monkeypatch.delattr("multilayer.training.run._make_module")
    with pytest.raises(UserError, match=reason):
        train_in(tmp_path / "run", "data=iris", "trainer.max_epochs=3", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.check_val_every_n_epoch=3"],
        ["trainer.check_val_every_n_epoch=4", "callbacks=none"],
        ["trainer.max_steps=1"],
    ],
)
def test_a_validation_that_comes_at_the_end_or_for_nobody_is_not(
    tmp_path: Path, words: list[str]
) -> None:
    """Nor that of a training that ends within an epoch, from where it may go on."""
    result = train_in(tmp_path, "data=iris", "trainer.max_epochs=3", *words)
    assert result.manifest["status"] == "done"


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path: Path) -> None:
    """Its checkpoints would be those of another run."""
    train_in(tmp_path, *QUICK)
    before = (tmp_path / "manifest.json").read_text()
    with pytest.raises(UserError, match=r"holds a run already.*unless it still trains, resume="):
        train_in(tmp_path, *QUICK, "seed=1")
    assert (tmp_path / "manifest.json").read_text() == before


def test_the_best_epoch_can_be_chosen_by_accuracy(tmp_path: Path) -> None:
    """With mode=max; mode=min would keep the worst, and is refused."""
    result = train_in(tmp_path / "run", *QUICK, "monitor=validation/accuracy", "mode=max")
    scalars = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    values = [event.value for event in scalars.Scalars("validation/accuracy")]
    assert result.manifest["best_epoch"] == values.index(max(values)) + 1
    with pytest.raises(UserError, match="more is better"):
        train_in(tmp_path / "refused", *QUICK, "monitor=validation/accuracy")


def test_the_best_epoch_can_be_chosen_by_the_plain_cross_entropy(tmp_path: Path) -> None:
    """Which is the loss where that is neither smoothed nor weighted."""
    choose = [*QUICK, "monitor=validation/cross_entropy"]
    result = train_in(tmp_path / "run", *choose, "loss.class_weights=balanced")
    with (tmp_path / "run" / "history.csv").open() as table:
        rows = [*csv.DictReader(table)]
    values = [float(row["validation/cross_entropy"]) for row in rows]
    assert result.manifest["best_epoch"] == values.index(min(values)) + 1
    losses = {split: (own["loss"], own["cross_entropy"]) for split, own in result.metrics.items()}
    assert losses["train"][0] != losses["train"][1]
    assert losses["validation"][0] != losses["validation"][1]
    assert losses["test"][0] == losses["test"][1]  # which others compare theirs with
    plain = train_in(tmp_path / "plain", *choose, "loss.label_smoothing=0")
    assert plain.metrics["test"]["cross_entropy"] == plain.metrics["test"]["loss"]
    with pytest.raises(UserError, match="monitor=validation/cross_entropy: no such metric"):
        train_in(tmp_path / "refused", *choose, "data=diabetes")


def test_ctrl_c_leaves_a_run_that_can_be_resumed(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status interrupted, with the last checkpoint, and how to go on."""

    def interrupt(self: Any, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("multilayer.callbacks.TrainingProgress.on_train_epoch_end", interrupt)
        outcome = multilayer("train", *QUICK)
    assert outcome.code == 130
    folder = only_folder(tmp_path)
    assert RunFolder(folder).read_manifest()["status"] == "interrupted"
    assert f"resume={folder.relative_to(tmp_path)}" in outcome.err
    outcome = multilayer("train", *QUICK, f"resume={folder}")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("batch_size", ["full", "1", "16"])
def test_the_three_regimes_of_gradient_descent(tmp_path: Path, batch_size: str) -> None:
    """The full batch takes one step an epoch, one sample as many as there are rows."""
    result = train_in(
        tmp_path, "data=iris", "trainer.max_epochs=2", f"data.batch_size={batch_size}"
    )
    n_rows = 104
    size = n_rows if batch_size == "full" else int(batch_size)
    assert result.manifest["steps"] == 2 * math.ceil(n_rows / size)


def test_full_batch_gradient_descent_is_the_lectures_algorithm(tmp_path: Path) -> None:
    """W <- W - lr dJ/dW over all training rows, written out in float64."""
    from multilayer.training.components import make_data

    overrides = ["data=diabetes", "model=perceptron", "data.batch_size=full", "optimizer=sgd"]
    overrides += ["scheduler=constant", "optimizer.lr=0.1", "trainer.max_epochs=3"]
    config = config_of(*overrides, "callbacks=none")
    config["callbacks"] = config_of("callbacks=checkpoint")["callbacks"]
    train(config, tmp_path, quiet=True)
    data = make_data(config)
    data.setup()
    features, target = (tensor.double() for tensor in data.split_tensors("train"))
    torch.manual_seed(0)
    start = torch.nn.Linear(10, 1).double()
    w, b = start.weight[0].detach().clone(), start.bias[0].detach().clone()
    for _ in range(3):
        error = features @ w + b - target
        w -= 0.1 * 2 * (error[:, None] * features).mean(0)
        b -= 0.1 * 2 * error.mean()
    weights = weights_of(tmp_path, "last.ckpt")
    torch.testing.assert_close(
        weights["network.linear.weight"][0].double(), w, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(weights["network.linear.bias"][0].double(), b, rtol=1e-4, atol=1e-5)


def test_any_module_can_be_the_network(tmp_path: Path) -> None:
    """torch's own layers, named in the config."""
    result = train_in(tmp_path, *QUICK, "model=sequential")
    weights = weights_of(tmp_path)
    assert weights["network.0.weight"].shape == (64, 4)
    assert weights["network.2.weight"].shape == (3, 64)
    assert result.metrics["test"]["loss"] < math.log(3)


def test_without_callbacks_there_are_only_metrics(tmp_path: Path) -> None:
    """No checkpoint; evaluating such a run says what is missing."""
    train_in(tmp_path, *QUICK, "callbacks=none", "logger=none")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.yaml", "manifest.json", "metrics.json", "history.csv"}
    question = {"run": str(tmp_path), "device": "cpu", "trusted_packages": []}
    with pytest.raises(UserError, match="callbacks=checkpoint"):
        evaluate(question)


def test_several_loggers_write_beside_each_other(tmp_path: Path) -> None:
    """TensorBoard and CSV hold the same losses."""
    train_in(tmp_path, *QUICK, "logger=[tensorboard,csv]")
    scalars = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [event.value for event in scalars.Scalars("validation/loss")]
    header, *rows = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("validation/loss")
    written = [float(row.split(",")[column]) for row in rows if row.split(",")[column]]
    assert written == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize(
    "debug", ["default", "limit", "overfit_batch", "profile", "detect_anomaly"]
)
def test_debug_runs_end_quickly(tmp_path: Path, debug: str) -> None:
    """Each runs through; one batch is learnt by heart; the profile is a file of the run."""
    result = train_in(tmp_path, f"debug={debug}", "data=iris")
    assert result.manifest["status"] == "done"
    if debug == "overfit_batch":
        assert result.metrics["train"]["accuracy"] == 1.0
    if debug == "profile":
        assert "run_training_epoch" in (tmp_path / "fit-profile.txt").read_text()
    if debug == "limit":
        assert result.manifest["steps"] <= 9


def test_compiled_and_eager_runs_agree(tmp_path: Path) -> None:
    """To floating-point tolerance over a few steps; checkpoints have the same names."""
    pytest.importorskip("torch._inductor")
    from multilayer.training.runtime import can_compile

    if not can_compile(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    short = ["data=iris", "trainer.max_epochs=1", "data.batch_size=52", "model.d_hidden=[8]"]
    train_in(tmp_path / "eager", *short, "compile=false")
    train_in(tmp_path / "compiled", *short, "compile=true")
    eager, compiled = weights_of(tmp_path / "eager"), weights_of(tmp_path / "compiled")
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data", ["breast_cancer", "wine"])
def test_balanced_weights_are_scikit_learns(tmp_path: Path, data: str) -> None:
    """Of the training rows; evaluation finds them in the checkpoint."""
    folder = tmp_path / "run"
    words = [f"data={data}", "loss.class_weights=balanced", "trainer.max_epochs=2"]
    result = train_in(folder, *words)
    splits = make_data(config_of(*words))
    splits.setup()
    target = splits.split_tensors("train")[1].numpy()
    expected = compute_class_weight("balanced", classes=np.unique(target), y=target)
    np.testing.assert_allclose(weights_of(folder)["loss.weight"].numpy(), expected, rtol=1e-6)
    question = {"run": str(folder), "split": "test", "data": {"path": None}}
    found = evaluate(question | {"trusted_packages": [], "device": "cpu"})
    assert found.metrics == result.metrics["test"]
    assert "class_weights: balanced" in (folder / "config.yaml").read_text()


def test_a_table_of_the_users_own(multilayer: Run, tmp_path: Path, iris_csv: Path) -> None:
    """Train on a CSV; the config names it by its full path, so that it is found from anywhere."""
    outcome = multilayer(
        "train", "data=table", f"data.path={iris_csv.name}", "data.target=species",
        "trainer.max_epochs=20",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    folder = only_folder(tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["path"] == str(iris_csv)
    assert RunFolder(folder).read_metrics()["test"]["accuracy"] > 0.7
