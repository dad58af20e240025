"""A run that goes on from its own config: what is changed is used, or refused by name."""

import csv
import shlex
import shutil
from math import nan
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch.nn.functional import cross_entropy

from multilayer.cli.check import check_command_line
from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import RunFolder
from multilayer.training.factory import make_data, make_network, make_optimizer
from multilayer.training.lightning_adapter import _LightningAdapter
from multilayer.training.run import Result

from ..conftest import Run
from ..trained import config_of, same, train_in, weights_of

SMALL = ["data=iris", "model.d_hidden=[4]", "logger=none", "loss=cross_entropy", "compile=false"]


def config_in(folder: Path) -> dict[str, Any]:
    """The config that a run noted."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return config


def go_on(run: Path, folder: Path, *overrides: str) -> Result:
    """Go on from a run, into another folder."""
    return train_in(folder, f"resume={run}", *overrides)


@pytest.fixture(scope="module")
def full_batch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of three steps, one an epoch on all rows, by optimizer."""
    folders = {}
    for name, own in {
        "sgd": ["optimizer=sgd", "optimizer.momentum=0.9"],
        "adam": ["optimizer.lr=0.01"],
    }.items():
        folders[name] = tmp_path_factory.mktemp(name) / "run"
        words = [*SMALL, *own, "data.batch_size=full", "trainer.max_epochs=3"]
        train_in(folders[name], *words)
    return folders


def steps_by_torch(run: Path, config: dict[str, Any], n_steps: int) -> dict[str, torch.Tensor]:
    """The weights after more full-batch steps by torch's optimizer with the config's numbers."""
    data = make_data(config)
    data.setup()
    features, target = data.split_tensors("train")
    network = make_network(config["model"], n_features=4, n_outputs=3)
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    network.load_state_dict(
        {
            name.removeprefix("network."): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith("network.")
        }
    )
    optimizer = make_optimizer(config)(network.parameters())
    (state,) = checkpoint["optimizer_states"]
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    for epoch in range(3, 3 + n_steps):
        order = data.train_minibatches().sampler
        assert order is not None
        order.set_epoch(epoch)
        rows = order.order()
        optimizer.zero_grad()
        cross_entropy(network(features[rows]), target[rows]).backward()
        optimizer.step()
    return {f"network.{name}": value for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        ("sgd", ["optimizer.lr=0.01"]),
        ("sgd", ["optimizer.lr=1"]),
        ("adam", ["optimizer.lr=0"]),
        ("sgd", ["optimizer.momentum=0.5"]),
        ("sgd", ["optimizer.momentum=0.5", "optimizer.weight_decay=0.1"]),
        ("sgd", ["optimizer.nesterov=true"]),
        ("adam", ["optimizer.lr=0.1"]),
        ("adam", ["optimizer.betas=[0.5,0.6]"]),
        ("adam", ["optimizer.weight_decay=0.3", "optimizer.eps=0.1"]),
    ],
)
def test_new_numbers_of_the_optimizer_are_used(
    full_batch: dict[str, Path], tmp_path: Path, optimizer: str, changes: list[str]
) -> None:
    """From the first step on, as torch's own optimizer has it; and the config is what was used."""
    run = full_batch[optimizer]
    go_on(run, tmp_path / "on", *changes, "trainer.max_epochs=5")
    config = config_in(tmp_path / "on")
    expected = steps_by_torch(run, config, n_steps=2)
    found = weights_of(tmp_path / "on", "last.ckpt")
    unchanged = steps_by_torch(run, config_in(run), n_steps=2)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert any(not torch.allclose(found[name], unchanged[name]) for name in expected)


def test_only_what_is_said_changes(full_batch: dict[str, Path], tmp_path: Path) -> None:
    """Nothing has to be repeated, and nothing else is recorded."""
    run = full_batch["sgd"]
    result = go_on(run, tmp_path / "on", "optimizer.lr=0.01", "trainer.max_epochs=4")
    before, now = config_in(run), config_in(tmp_path / "on")
    assert now["resume"] == str(run)
    before["optimizer"]["lr"], before["trainer"]["max_epochs"] = 0.01, 4
    assert now == before | {"resume": str(run)}
    assert result.manifest["steps"] == 4
    said = read_checkpoint(tmp_path / "on" / "checkpoints" / "last.ckpt")["multilayer"]["config"]
    assert said == now


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (
            "constant",
            ["scheduler=cosine", "scheduler.scheduler.warmup_fraction=0.5", "optimizer.lr=0.3"],
        ),
        ("constant", ["scheduler=one_cycle"]),
        ("constant", ["scheduler=plateau"]),
        ("constant", ["data.batch_size=16", "scheduler=exponential"]),
        ("one_cycle", ["scheduler=step", "scheduler.scheduler.step_size=2"]),
        ("one_cycle", ["optimizer.lr=0.3"]),
        ("one_cycle", []),
        ("step", ["scheduler=exponential", "scheduler.scheduler.gamma=0.5"]),
        ("step", ["optimizer.lr=0.3", "scheduler.scheduler.step_size=3"]),
        ("plateau", ["scheduler=cosine"]),
    ],
)
def test_another_schedule_is_where_it_would_be(
    tmp_path: Path, before: str, changes: list[str]
) -> None:
    """The rates are those that the epochs have where the schedule was so from the start."""
    words = [*SMALL, "logger=csv", "optimizer.lr=0.2", "optimizer=sgd"]
    long = ["trainer.max_epochs=7"]
    train_in(tmp_path / "run", *words, f"scheduler={before}", "trainer.max_epochs=4")
    go_on(tmp_path / "run", tmp_path / "on", *changes, *long)
    kept = [f"scheduler={before}"] if not any("scheduler=" in each for each in changes) else []
    train_in(tmp_path / "whole", *words, *kept, *changes, *long)
    assert rates_in(tmp_path / "on") == pytest.approx(rates_in(tmp_path / "whole")[4:])


def rates_in(folder: Path) -> list[float]:
    """The rate of each epoch of a run."""
    with (folder / "csv" / "metrics.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    (name,) = [name for name in rows[0] if name.startswith("lr-")]
    return [float(row[name]) for row in rows if row[name]]


def test_plateau_keeps_what_it_has_come_down_to(tmp_path: Path) -> None:
    """A new rate is where the schedule starts from; its share of it and what it counted stay."""
    words = [*SMALL, "scheduler=plateau", "scheduler.scheduler.patience=0", "trainer.max_epochs=4"]
    train_in(tmp_path / "run", *words, "optimizer=sgd", "optimizer.lr=1e-5")
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    share = state["optimizer_states"][0]["param_groups"][0]["lr"] / 1e-5
    words = ["optimizer.lr=1e-4", "trainer.max_epochs=5", "logger=csv"]
    go_on(tmp_path / "run", tmp_path / "on", *words)
    assert share < 1
    assert rates_in(tmp_path / "on") == pytest.approx([1e-4 * share])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("seed=99", "seed=99"),
        ("model.d_hidden=[7]", "model.d_hidden=[7]"),
        ("model.dropout=0.5", "model.dropout"),
        ("optimizer=sgd", "optimizer=torch.optim.SGD: it was torch.optim.Adam"),
        ("optimizer.amsgrad=true", "optimizer.amsgrad"),
        ("data=wine", "data.name=wine: it was iris"),
        ("data.split_seed=1", "data.split_seed=1"),
        ("data.max_train_rows=20", "data.max_train_rows=20"),
        ("loss=auto", "loss"),
        ("loss.label_smoothing=0.1", "loss.label_smoothing=0.1"),
        ("loss.class_weights=balanced", "loss.class_weights=balanced: it was null"),
        ("monitor=validation/f1", "monitor"),
        ("callbacks.early_stopping.monitor=train/loss", "callbacks.early_stopping.monitor"),
        ("callbacks=[default,lr_sweep]", "callbacks.lr_sweep"),
        ("trainer._target_=pytorch_lightning.trainer.Trainer", "trainer=pytorch_lightning.trainer"),
        ("experiment=overfit", "experiment=overfit"),
        ("debug=limit", "debug=limit"),
        ("engine=lockstep", "engine=lockstep"),
        ("callbacks.early_stopping.patience=x", "patience=x: must be a valid integer"),
        ("trainer.max_epochs=3", "larger one, from trainer.max_epochs=4 on"),
        ("trainer.max_steps=3", "trainer.max_steps=4"),
        ("optimizer.lrr=3", "optimizer.lrr"),
    ],
)
def test_what_cannot_change_is_refused_by_name(
    full_batch: dict[str, Path], tmp_path: Path, change: str, key: str
) -> None:
    """Before anything is written."""
    with pytest.raises(UserError) as error:
        go_on(full_batch["adam"], tmp_path / "on", "trainer.max_epochs=9", change)
    assert key in str(error.value)
    assert not (tmp_path / "on").exists()


def test_all_that_cannot_change_is_told_at_once(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """A line each."""
    with pytest.raises(UserError) as error:
        go_on(full_batch["adam"], tmp_path, "seed=1", "data.fold=2", "model.activation=tanh")
    lines = str(error.value).splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "data.fold", "model.activation", "seed", "trainer.max_epochs",
    ]  # fmt: skip


def test_a_choice_changes_what_sets_it_apart(full_batch: dict[str, Path], tmp_path: Path) -> None:
    """What the run said otherwise of the same class stays: its rate, its patience, its length."""
    run = tmp_path / "run"
    shutil.copytree(full_batch["adam"], run)
    words = ["optimizer=adam", "trainer=cpu", "data=iris", "callbacks=[default,learning_curves]"]
    config = check_command_line("train", [f"resume={run}", *words])
    before = config_in(run)
    curves = config_of("callbacks=learning_curves")["callbacks"]
    assert config is not None
    assert config["callbacks"] == before["callbacks"] | curves
    assert config["trainer"] == before["trainer"] | {"accelerator": "cpu"}
    for key in ("optimizer", "data", "loss", "model", "scheduler", "monitor"):
        assert config[key] == before[key]


def test_a_choice_of_the_users_own_sets_what_it_names(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """Though the run has the same classes already."""
    folder = tmp_path / "mine" / "callbacks"
    folder.mkdir(parents=True)
    node = {
        "_target_": "multilayer.callbacks.EarlyStopping",
        "patience": 77,
        "monitor": "${monitor}",
    }
    (folder / "patient.yaml").write_text(yaml.safe_dump({"early_stopping": node}))
    words = [f"resume={full_batch['adam']}", "callbacks=[default,patient]"]
    config = check_command_line("train", words, config_dir=str(tmp_path / "mine"))
    assert config is not None
    before = config_in(full_batch["adam"])["callbacks"]["early_stopping"]
    assert config["callbacks"]["early_stopping"] == before | {"patience": 77}


def test_cfg_job_shows_the_config_that_would_be_used(
    multilayer: Run, full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The run's own, with the changes."""
    run = full_batch["sgd"]
    outcome = multilayer("train", f"resume={run}", "optimizer.lr=0.5", "--cfg", "job")
    assert outcome.code == 0, outcome.err
    shown = yaml.safe_load(outcome.out)
    expected = config_in(run) | {"resume": str(run)}
    expected["optimizer"]["lr"] = 0.5
    assert shown == expected
    part = multilayer("train", f"resume={run}", "--cfg", "job", "--package", "optimizer").out
    assert yaml.safe_load(part) == config_in(run)["optimizer"]


def test_keys_are_those_of_the_run(
    multilayer: Run, full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """And not those of a new run, whose optimizer has no momentum; the manifest has the command."""
    run = full_batch["sgd"]
    words = [f"resume={run}", "optimizer.momentum=0.5", "trainer.max_epochs=4"]
    outcome = multilayer("train", *words, "hydra.run.dir=on")
    assert outcome.code == 0, outcome.err
    assert config_in(Path("on"))["optimizer"]["momentum"] == 0.5
    manifest = RunFolder("on").read_manifest()
    assert manifest["overrides"] == words
    assert multilayer(*shlex.split(manifest["command"])[1:], "hydra.run.dir=again").code == 0
    assert same(*(weights_of(Path(name), "last.ckpt") for name in ("on", "again")))
    outcome = multilayer("train", *words, "optimizer.betas=[0.9,0.9]")
    assert (outcome.code, outcome.out) == (2, "")
    assert "optimizer.betas: not a key here" in outcome.err


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=lockstep"]])
def test_a_sweep_goes_on_with_each_rate(
    multilayer: Run, full_batch: dict[str, Path], tmp_path: Path, launcher: list[str]
) -> None:
    """By any launcher, each job with its own; a job that cannot is refused alone."""
    run = full_batch["sgd"]
    words = [f"resume={run}", "optimizer.lr=0.01,0.001", "trainer.max_epochs=5", "seed=0,99"]
    words.append("optimizer.momentum=0.8")
    outcome = multilayer("train", "-m", *launcher, *words, "hydra.sweep.dir=sweep")
    for job, rate in ((0, 0.01), (2, 0.001)):
        folder = Path("sweep") / str(job)
        assert config_in(folder)["optimizer"]["lr"] == rate
        expected = steps_by_torch(run, config_in(folder), n_steps=2)
        found = weights_of(folder, "last.ckpt")
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert RunFolder(folder).read_manifest()["status"] == "done"
    for job in (1, 3):
        assert RunFolder(Path("sweep") / str(job)).read_manifest()["status"] == "failed"
    assert "seed=99: it was 0" in outcome.err
    assert outcome.code != 0


def test_balanced_weights_stay_what_they_were(tmp_path: Path) -> None:
    """They are numbers in the checkpoint; who says the word again must get the same ones."""
    words = ["data=wine", *SMALL[1:], "trainer.max_epochs=1"]
    train_in(tmp_path / "run", *words, "loss.class_weights=balanced")
    for name, again in (("as it is", []), ("said", ["loss.class_weights=balanced"])):
        go_on(tmp_path / "run", tmp_path / name, "trainer.max_epochs=2", *again)
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("as it is", "said")))
    train_in(tmp_path / "other", *words, "loss.class_weights=[1,2,1]")
    with pytest.raises(UserError, match=r"loss.class_weights: .* has others"):
        go_on(tmp_path / "other", tmp_path / "on", "trainer.max_epochs=2", *again)


def test_a_checkpoint_outside_a_run_folder_is_enough(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The config in it is the run's."""
    last = tmp_path / "mine.ckpt"
    shutil.copy(full_batch["sgd"] / "checkpoints" / "last.ckpt", last)
    go_on(last, tmp_path / "on", "trainer.max_epochs=5")
    go_on(full_batch["sgd"], tmp_path / "other", "trainer.max_epochs=5")
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("on", "other")))


def test_limits_count_steps_and_not_minibatches(tmp_path: Path) -> None:
    """Where gradients accumulate over minibatches; the number that is told trains one step more."""
    words = [*SMALL, "data.batch_size=10", "trainer.accumulate_grad_batches=3"]
    train_in(tmp_path / "run", *words, "trainer.max_steps=6", "trainer.max_epochs=50")
    with pytest.raises(UserError, match=r"has 6 steps already; .* from trainer\.max_steps=7 on"):
        go_on(tmp_path / "run", tmp_path / "on")
    result = go_on(tmp_path / "run", tmp_path / "on", "trainer.max_steps=7")
    assert result.manifest["steps"] == 7
    assert weights_of(tmp_path / "on", "last.ckpt")


@pytest.mark.parametrize(("n_steps", "max_epochs"), [(8, -1), (8, 50), (6, -1), (1, 50)])
def test_a_limit_in_steps_costs_no_epoch_and_no_row(
    tmp_path: Path, n_steps: int, max_epochs: int
) -> None:
    """The run ends as the one that went through, whether the limit was an epoch's end or not."""
    words = [*SMALL, f"trainer.max_epochs={max_epochs}", "data.batch_size=32", "model.dropout=0.2"]
    words += [
        "scheduler=cosine",
        "scheduler.scheduler.n_steps=12",
        "callbacks=[default,learning_curves]",
    ]
    train_in(tmp_path / "run", *words, f"trainer.max_steps={n_steps}")
    whole = train_in(tmp_path / "whole", *words, "trainer.max_steps=12")
    result = go_on(tmp_path / "run", tmp_path / "on", "trainer.max_steps=12")
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("whole", "on")))
    assert result.manifest["best_epoch"] == whole.manifest["best_epoch"]
    assert result.manifest["steps"] == 12


class StopAt(pl.Callback):
    """Stops within the second epoch, as a limit in time does."""

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop after six steps."""
        trainer.should_stop = trainer.global_step == 6


def test_what_stopped_within_an_epoch_goes_on_there(tmp_path: Path) -> None:
    """Whatever stopped it; and its rows stay as they are."""
    words = [*SMALL, "trainer.max_epochs=3", "data.batch_size=32", "model.dropout=0.2"]
    train_in(tmp_path / "run", *words, f"+callbacks.stop._target_={__name__}.StopAt")
    train_in(tmp_path / "whole", *words)
    with pytest.raises(UserError, match=r"data.batch_size=16: .*interrupted within epoch 2"):
        go_on(tmp_path / "run", tmp_path / "on", "~callbacks.stop", "data.batch_size=16")
    result = go_on(tmp_path / "run", tmp_path / "on", "~callbacks.stop")
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("whole", "on")))
    assert result.manifest["steps"] == 12


def test_steps_per_second_are_those_of_this_fit(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The steps before took other seconds, which nobody counted."""
    manifest = go_on(full_batch["adam"], tmp_path / "on", "trainer.max_epochs=4").manifest
    assert manifest["steps"] == 4
    assert manifest["steps_per_second"] == pytest.approx(1 / manifest["fit_seconds"], rel=0.1)


def test_a_run_that_was_out_of_patience_needs_more(tmp_path: Path) -> None:
    """The number that is told is enough for an epoch."""
    train_in(tmp_path / "run", *SMALL, "optimizer.lr=0", "callbacks.early_stopping.patience=2")
    with pytest.raises(UserError, match=r"from callbacks\.early_stopping\.patience=3 on"):
        go_on(tmp_path / "run", tmp_path / "on")
    result = go_on(tmp_path / "run", tmp_path / "on", "callbacks.early_stopping.patience=3")
    assert result.manifest["steps"] == (1 + 3) * 2
    assert "for 3 epochs" in result.manifest["stop_reason"]
    without = go_on(
        tmp_path / "run", tmp_path / "w", "callbacks=checkpoint", "trainer.max_epochs=6"
    )
    assert without.manifest["steps"] == 6 * 2


def test_a_run_that_was_out_of_time_needs_more(tmp_path: Path) -> None:
    """The time of before counts."""
    train_in(tmp_path / "run", *SMALL, "trainer.max_time=00:00:10:00", "trainer.max_epochs=1")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"] = 601.0
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"max_time=00:00:10:00: .* for 601 seconds already"):
        go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=2")


def test_a_run_with_time_left_goes_on(tmp_path: Path) -> None:
    """Its seconds are no whole number."""
    train_in(tmp_path / "run", *SMALL, "trainer.max_time=00:00:10:00", "trainer.max_epochs=1")
    assert go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=2").manifest["steps"] == 4


def test_curves_that_begin_after_the_best_epoch_are_drawn(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The best epoch is one of the run before, which drew none; a rate of 100 is no better."""
    words = ["callbacks=[default,learning_curves]", "trainer.max_epochs=5", "optimizer.lr=100"]
    result = go_on(full_batch["sgd"], tmp_path / "on", *words)
    assert result.manifest["best_epoch"] <= 3
    assert (tmp_path / "on" / "figures" / "learning_curves.png").is_file()


def test_a_run_that_diverged_does_not_go_on(tmp_path: Path) -> None:
    """Its weights are no numbers."""
    train_in(tmp_path / "run", "data=diabetes", "optimizer=sgd", "optimizer.lr=1e20", "logger=none")
    with pytest.raises(UserError, match=r"has diverged: its weights are not finite"):
        go_on(tmp_path / "run", tmp_path / "on", "optimizer.lr=0.1", "trainer.max_epochs=99")


def test_a_run_of_the_stacks_engine_goes_on(tmp_path: Path) -> None:
    """By Lightning's, which alone can begin in the middle; this is what is recorded."""
    train_in(tmp_path / "run", *SMALL, "engine=lockstep", "trainer.max_epochs=2")
    result = go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=4")
    assert result.manifest["steps"] == 4 * 2
    assert config_in(tmp_path / "on")["engine"] == "lightning"


@pytest.fixture
def half_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted within its second epoch, of 7 minibatches."""

    def interrupt(self: Any, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 10:
            raise RuntimeError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr(_LightningAdapter, "on_train_batch_end", interrupt)
        words = [*SMALL, "data.batch_size=16", "trainer.max_epochs=4"]
        with pytest.raises(RuntimeError, match="power"):
            train_in(tmp_path / "half", *words)
    return tmp_path / "half"


@pytest.mark.parametrize(
    "change",
    [
        "data.batch_size=8", "data.batch_size=64", "data.batch_size=1000", "data.batch_size=full",
        "data.shuffle_seed=5", "trainer.limit_train_batches=3", "trainer.limit_train_batches=0.9",
        "trainer.accumulate_grad_batches=2", "trainer.devices=2",
    ],
)  # fmt: skip
def test_within_an_epoch_its_rows_stay_as_they_are(
    half_an_epoch: Path, tmp_path: Path, change: str
) -> None:
    """Others would be seen twice, or never."""
    with pytest.raises(UserError, match=rf"{change}: .*interrupted within epoch 2"):
        go_on(half_an_epoch, tmp_path / "on", change)
    assert not (tmp_path / "on").exists()


def test_within_an_epoch_a_new_rate_is_used(half_an_epoch: Path, tmp_path: Path) -> None:
    """The epoch is ended with it; with a rate of nearly 0 the weights stay as they are."""
    result = go_on(half_an_epoch, tmp_path / "on", "optimizer.lr=1e-12")
    assert result.manifest["steps"] == 4 * 7
    before = weights_of(half_an_epoch, "last.ckpt")
    for name, value in weights_of(tmp_path / "on", "last.ckpt").items():
        torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-6)


def test_the_batch_size_may_change_between_epochs(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """Each later epoch then has its rows in the new minibatches, and is validated."""
    words = ["data.batch_size=16", "trainer.max_epochs=5", "logger=csv"]
    result = go_on(full_batch["adam"], tmp_path / "on", *words)
    assert result.manifest["steps"] == 3 + 2 * 7
    with (tmp_path / "on" / "csv" / "metrics.csv").open() as opened:
        losses = [row["validation/loss"] for row in csv.DictReader(opened)]
    assert len([loss for loss in losses if loss]) == 2


def stranger(run: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a run whose config says something else in its checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    config = content["multilayer"]["config"]
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


EVIL = {"_target_": "os.system", "_args_": ["touch started"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"callbacks": {"x": EVIL}}, "names os.system for callbacks.x"),
        ({"logger": {"x": EVIL}}, "names os.system for logger.x"),
        ({"optimizer": EVIL}, "names os.system for optimizer"),
        ({"scheduler": EVIL}, "names os.system for scheduler"),
        ({"data": EVIL}, "names os.system for data"),
        ({"trainer": {"profiler": EVIL}}, "names os.system for trainer.profiler"),
        ({"trainer": {"plugins": [EVIL]}}, r"names os.system for trainer.plugins\[0\]"),
        ({"trainer": EVIL}, "names os.system for trainer"),
        ({"trainer": {"plugins": (EVIL,)}}, "hold a tuple, which is no plain data"),
        ({"callbacks": {"x": EVIL | {"_target_": nan}}}, "callbacks.x._target_=nan: "),
        ({"callbacks": {"x": {"_target_": "torch.optim.SGD"}}}, "may not be loaded"),
        (
            {"callbacks": {"x": {"_target_": "multilayer.data.table_io.write_frame"}}},
            "may not be loaded",
        ),
        ({"callbacks": {"checkpoint": {"folder": "/elsewhere"}}}, "give it as callbacks.checkp"),
        ({"logger": {"x": {"save_dir": "../elsewhere"}}}, "give it as logger.x.save_dir=VALUE"),
        ({"logger": {"x": {"uri": "https://example.org"}}}, "give it as logger.x.uri=VALUE"),
        ({"logger": {"x": {"uris": [1, "https://a.org"]}}}, r"give it as logger.x.uris\[1\]=VALUE"),
        ({"logger": {"x": {"uri": "${oc.env:HOME}"}}}, "give it as logger.x.uri=VALUE"),
        ({"logger": {"x": {"uri": "${seed}"}}}, "give it as logger.x.uri=VALUE"),
        ({"logger": {"x": {"api_key": 1234}}}, "give it as logger.x.api_key=VALUE"),
        ({"monitor": "${oc.env:HOME}"}, "give it as monitor=VALUE"),
        ({"data": {"path": "s3://bucket/x"}}, r"give it as data\.path=VALUE"),
    ],
)
def test_a_strangers_run_starts_nothing(
    full_batch: dict[str, Path],
    tmp_path: Path,
    changes: dict[str, Any],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And writes nowhere but where a run writes."""
    monkeypatch.chdir(tmp_path)
    run = stranger(full_batch["adam"], tmp_path / "run", **changes)
    with pytest.raises(UserError, match=expected):
        go_on(run, tmp_path / "on", "trainer.max_epochs=5")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_the_user_says_instead_of_a_stranger_is_trusted(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The callbacks of the run are gone with it; a list of its own does not allow anything."""
    run = stranger(
        full_batch["adam"], tmp_path / "run", callbacks={"x": EVIL}, trusted_packages=["os"]
    )
    with pytest.raises(UserError, match=r"if you trust the run, add trusted_packages=\[os\]"):
        go_on(run, tmp_path / "on", "trainer.max_epochs=4")
    go_on(run, tmp_path / "on", "trainer.max_epochs=4", "callbacks=default")
    assert "x" not in config_in(tmp_path / "on")["callbacks"]


def test_what_is_only_compared_is_a_strangers_too(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The schedule of the run is gone through even where another takes its place."""
    run = stranger(full_batch["adam"], tmp_path / "run", scheduler=EVIL)
    with pytest.raises(UserError, match=r"names os\.system for scheduler"):
        go_on(run, tmp_path / "on", "trainer.max_epochs=4", "scheduler=cosine")


@pytest.mark.parametrize(
    ("status", "callbacks", "reason"),
    [
        ("running", "default", "it still trains, or was killed before its first checkpoint"),
        ("interrupted", "default", "it ended before its first checkpoint (by a cat)"),
        ("failed", "default", "it ended before its first checkpoint (by a cat)"),
        ("running", "none", "it was trained without callbacks=checkpoint"),
        ("done", "none", "it was trained without callbacks=checkpoint"),
        ("done", "default", "they were removed"),
    ],
)
def test_a_run_without_a_checkpoint_says_why(
    multilayer: Run, tmp_path: Path, status: str, callbacks: str, reason: str
) -> None:
    """To who evaluates it, predicts with it, or goes on from it."""
    run = RunFolder(tmp_path / "run")
    run.begin(config_of(f"callbacks={callbacks}"), {"status": status, "stop_reason": "by a cat"})
    for words in (
        ["evaluate", "run=run"],
        ["predict", "run=run", "input=x.csv", "output=y.csv"],
        ["train", "resume=run"],
    ):
        outcome = multilayer(*words)
        assert outcome.code == 2
        assert reason in outcome.err


def test_the_command_to_go_on_works_as_it_is_printed(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing else repeated, for a folder with a space and a network of the user's own."""

    def interrupt(self: Any, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    (tmp_path / "my_nets.py").write_text("from multilayer import MLP\nclass Net(MLP):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMALL, "trainer.max_epochs=3", "model._target_=my_nets.Net"]
    with monkeypatch.context() as patch:
        patch.setattr("multilayer.callbacks.TrainingProgress.on_train_epoch_end", interrupt)
        outcome = multilayer("train", *words, "hydra.run.dir='my run'")
    assert outcome.code == 130
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("to go on: ")]
    command = shlex.split(line.removeprefix("to go on: multilayer "))
    assert command == ["train", "resume='my run'", "trusted_packages=[my_nets]"]
    outcome = multilayer(*command, "hydra.run.dir=on")
    assert outcome.code == 0, outcome.err
    assert RunFolder("on").read_manifest()["steps"] == 3 * 2
    assert config_in(Path("on"))["model"]["d_hidden"] == [4]


def test_a_rate_that_a_callback_found_stays(tmp_path: Path) -> None:
    """The rate of a run whose config says another one goes on, and is not searched again."""
    finder = "_target_:pytorch_lightning.callbacks.LearningRateFinder,num_training_steps:20"
    words = [*SMALL, "data.batch_size=16", "trainer.max_epochs=2"]
    train_in(tmp_path / "run", *words, f"+callbacks.find={{{finder}}}")
    found = rate_in(tmp_path / "run")
    assert found != pytest.approx(0.001)
    for name, changes in {
        "without": ["~callbacks.find", "trainer.gradient_clip_val=5.0"],
        "with": ["optimizer.weight_decay=0.1", "data.batch_size=8"],
    }.items():
        go_on(tmp_path / "run", tmp_path / name, "trainer.max_epochs=3", *changes)
        assert rate_in(tmp_path / name) == found
    with pytest.raises(UserError, match=r"schedule is to start, as optimizer\.lr="):
        go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3", "scheduler=cosine")


class MoveRate(pl.Callback):
    """Makes the rate three times as large once."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """In the second epoch."""
        if trainer.current_epoch == 1:
            trainer.optimizers[0].param_groups[0]["lr"] *= 3


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ("exponential", "scheduler.scheduler.gamma=0.9"),
        ("exponential", "scheduler=plateau"),
        ("step", "scheduler.scheduler.step_size=2"),
        ("step", "scheduler=cosine"),
        ("plateau", "scheduler=constant"),
    ],
)
def test_a_rate_that_a_callback_moved_is_not_lost(tmp_path: Path, before: str, change: str) -> None:
    """Another schedule is refused, with the rate that it would have to start from."""
    words = [*SMALL, "optimizer=sgd", "optimizer.lr=0.2", f"scheduler={before}", "logger=csv"]
    move = f"+callbacks.move._target_={__name__}.MoveRate"
    train_in(tmp_path / "run", *words, "trainer.max_epochs=3", move)
    words = ["trainer.max_epochs=4", "~callbacks.move"]
    go_on(tmp_path / "run", tmp_path / "on", *words)
    assert rates_in(tmp_path / "on") == [rate_in(tmp_path / "run")]
    with pytest.raises(UserError, match=r"is to start, as optimizer\.lr=0\.6$"):
        go_on(tmp_path / "run", tmp_path / "refused", *words, change)
    go_on(tmp_path / "run", tmp_path / "given", *words, change, "optimizer.lr=0.6")
    assert config_in(tmp_path / "given")["optimizer"]["lr"] == 0.6


def test_a_batch_size_that_was_found_stays(tmp_path: Path) -> None:
    """With its callback and without: nothing is searched, and the config says what is used."""
    kind = "_target_:pytorch_lightning.callbacks.BatchSizeFinder"
    find = f"+callbacks.find={{{kind},init_val:4,max_trials:2,steps_per_trial:1}}"
    train_in(tmp_path / "run", *SMALL, "trainer.max_epochs=1", find)
    n_steps = RunFolder(tmp_path / "run").read_manifest()["steps"]
    for name, change in (("with", []), ("without", ["~callbacks.find"])):
        result = go_on(tmp_path / "run", tmp_path / name, "trainer.max_epochs=2", *change)
        assert result.manifest["steps"] == 2 * n_steps
        config = config_in(tmp_path / name)
        assert -(-104 // config["data"]["batch_size"]) == n_steps > 2
        assert "find" not in config["callbacks"]
    with pytest.raises(UserError, match="searches before a training begins"):
        go_on(tmp_path / "with", tmp_path / "on", "trainer.max_epochs=4", find)


def rate_in(run: Path) -> float:
    """The rate at the end of a run."""
    (state,) = read_checkpoint(run / "checkpoints" / "last.ckpt")["optimizer_states"]
    return float(state["param_groups"][0]["lr"])


@pytest.mark.parametrize(
    ("own", "change"),
    [
        (["optimizer=sgd", "optimizer.momentum=0.9"], "optimizer.momentum=0"),
        (["optimizer=adam", "optimizer.amsgrad=true"], "optimizer.amsgrad=false"),
        (["optimizer=rmsprop", "optimizer.momentum=0.5"], "optimizer.momentum=0"),
        (["optimizer=rmsprop", "optimizer.centered=true"], "optimizer.centered=false"),
    ],
)
def test_what_an_optimizer_gathered_may_be_needed_no_more(
    tmp_path: Path, own: list[str], change: str
) -> None:
    """Momentum and the like are turned off from the next step on."""
    train_in(tmp_path / "run", *SMALL, "trainer.max_epochs=1", "data.batch_size=full", *own)
    go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3", change)
    assert RunFolder(tmp_path / "on").read_manifest()["steps"] == 3


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("trainer", None, "config.trainer=null: "),
        ("optimizer", "x", "config.optimizer=x: "),
        ("optimizer", {"_target_": 3}, "config.optimizer._target_=3: "),
        ("trainer", {"max_epochs": "x"}, "config.trainer.max_epochs=x: "),
        ("callbacks", "x", "is damaged, or no last.ckpt"),
        ("callbacks", {"progress": "abc"}, "is damaged, or no last.ckpt"),
        ("logger", 3, "logger=3: must be a valid dict"),
        ("seed", None, "seed=null: must be a valid integer"),
        ("engine", ["lightning"], "engine"),
    ],
)
def test_a_config_of_the_wrong_shape_is_refused_by_name(
    full_batch: dict[str, Path], tmp_path: Path, key: str, value: Any, expected: str
) -> None:
    """Before anything is made of it."""
    run = stranger(full_batch["adam"], tmp_path / "run", **{key: value})
    with pytest.raises(UserError, match=expected):
        go_on(run, tmp_path / "on", "trainer.max_epochs=5", "engine=lockstep")
    assert not (tmp_path / "on").exists()


def crafted(run: Path, folder: Path, where: tuple[Any, ...], value: Any) -> Path:
    """A copy of a run whose last checkpoint holds something else in one place."""
    (folder / "checkpoints").mkdir(parents=True)
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    parent: Any = content
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("pytorch-lightning_version",), "x"),
        (("state_dict", "more"), torch.zeros(1)),
        (("optimizer_states", 0, "state", 1), {}),
        (("optimizer_states", 0, "param_groups", 0, "initial_lr"), [0.1]),
        (("optimizer_states", 0, "param_groups", 0, "lr"), torch.zeros(2)),
        (("callbacks", "Checkpoint", "cpu"), torch.zeros(5056, dtype=torch.int64)),
        (("callbacks", "Checkpoint", "cpu"), torch.zeros(5056, dtype=torch.uint8)),
        (("callbacks", "History", "columns", "step"), []),
        (("callbacks", "History", "columns", "train/loss"), ["x"] * 2),
        (("loops", "fit_loop", "state_dict", "combined_loader", 0, "n_given"), "x"),
        (("multilayer", "config", "callbacks", "early_stopping"), torch.zeros(2)),
    ],
    ids=lambda it: str(it)[:60],
)
def test_a_crafted_checkpoint_is_refused_before_anything_is_written(
    full_batch: dict[str, Path], tmp_path: Path, where: tuple[Any, ...], value: Any
) -> None:
    """Also where types and shapes are right, and only a library finds what is wrong."""
    run = crafted(full_batch["sgd"], tmp_path / "run", where, value)
    words = ["trainer.max_epochs=5", "callbacks=[default,learning_curves]"]
    with pytest.raises(UserError, match=r"last\.ckpt"):
        go_on(run, tmp_path / "on", *words)
    assert not (tmp_path / "on").exists()


def test_averaged_weights_are_not_trained_on_without_their_callback(tmp_path: Path) -> None:
    """The weights of such a checkpoint are the averaged ones."""
    ema = "callbacks.ema={_target_:pytorch_lightning.callbacks.EMAWeightAveraging}"
    train_in(tmp_path / "run", *SMALL, "trainer.max_epochs=2", f"+{ema}")
    for change in ("callbacks=default", "~callbacks.ema"):
        with pytest.raises(UserError, match=r"callbacks.ema.*averaged weights"):
            go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3", change)
    go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3")
    for where in (("averaging_state", "more"), ("averaging_state",), ("current_model_state",)):
        run = crafted(tmp_path / "run", tmp_path / "-".join(where), where, {})
        with pytest.raises(UserError, match="holds no training"):
            go_on(run, tmp_path / "crafted", "trainer.max_epochs=3")


def test_a_run_goes_on_in_a_folder_of_its_own(full_batch: dict[str, Path]) -> None:
    """The run's own name is refused, with the advice to choose another."""
    run = full_batch["adam"]
    with pytest.raises(UserError, match=r"choose another folder, as hydra.run.dir=FOLDER"):
        go_on(run, run, "trainer.max_epochs=4")


def test_no_patience_at_all_is_what_is_wrong(full_batch: dict[str, Path], tmp_path: Path) -> None:
    """However often the run has improved."""
    words = ["callbacks.early_stopping.patience=0", "trainer.max_epochs=4"]
    with pytest.raises(UserError, match="patience must be at least 1, got 0"):
        go_on(full_batch["adam"], tmp_path / "on", *words, "trainer.min_epochs=0")
