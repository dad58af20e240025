"""A run that goes on from its own config: what is changed is used, or refused by name."""

import csv
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy

from multilayer.build import make_data, make_network, make_optimizer
from multilayer.config import check_command_line
from multilayer.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import RunFolder
from multilayer.train import Result

from .conftest import Run
from .test_train import config_of, same, train_in, weights_of

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
    features, target = data.rows_of("train")
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
        ("constant", ["scheduler=cosine", "scheduler.warmup=0.5", "optimizer.lr=0.3"]),
        ("constant", ["scheduler=one_cycle"]),
        ("constant", ["scheduler=plateau"]),
        ("constant", ["data.batch_size=16", "scheduler=exponential"]),
        ("one_cycle", ["scheduler=step", "scheduler.step_size=2"]),
        ("one_cycle", ["optimizer.lr=0.3"]),
        ("step", ["scheduler=exponential", "scheduler.gamma=0.5"]),
        ("step", ["optimizer.lr=0.3", "scheduler.step_size=3"]),
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


def test_a_longer_training_of_one_cycle_ends_lower(tmp_path: Path) -> None:
    """Its length is that of the whole training, by its new number of epochs."""
    words = [*SMALL, "scheduler=one_cycle"]
    train_in(tmp_path / "run", *words, "trainer.max_epochs=3")
    go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=6")
    train_in(tmp_path / "whole", *words, "trainer.max_epochs=6")
    last = [
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["lr_schedulers"]
        for name in ("on", "whole")
    ]
    assert last[0][0]["total_steps"] == last[1][0]["total_steps"] == 12
    assert last[0][0]["_last_lr"] == last[1][0]["_last_lr"]


def test_plateau_keeps_what_it_has_come_down_to(tmp_path: Path) -> None:
    """A new rate is where the schedule starts from; its share of it and what it counted stay."""
    words = [*SMALL, "scheduler=plateau", "scheduler.patience=0", "trainer.max_epochs=4"]
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
        ("optimizer=sgd", "another optimizer"),
        ("optimizer.amsgrad=true", "optimizer.amsgrad"),
        ("data=wine", "other data"),
        ("data.split_seed=1", "data.split_seed=1"),
        ("data.train_rows=20", "data.train_rows=20"),
        ("loss=auto", "loss"),
        ("loss.label_smoothing=0.1", "loss.label_smoothing=0.1"),
        ("monitor=validation/f1", "monitor"),
        ("callbacks.early_stopping.monitor=train/loss", "callbacks.early_stopping.monitor"),
        ("callbacks=[default,lr_sweep]", "callbacks.lr_sweep"),
        ("trainer._target_=pytorch_lightning.trainer.Trainer", "trainer._target_"),
        ("experiment=overfit", "experiment=overfit"),
        ("debug=limit", "debug=limit"),
        ("engine=lockstep", "engine=lockstep"),
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


def test_a_checkpoint_outside_a_run_folder_is_enough(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """The config in it is the run's."""
    last = tmp_path / "mine.ckpt"
    shutil.copy(full_batch["sgd"] / "checkpoints" / "last.ckpt", last)
    go_on(last, tmp_path / "on", "trainer.max_epochs=5")
    go_on(full_batch["sgd"], tmp_path / "other", "trainer.max_epochs=5")
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("on", "other")))


def test_a_config_that_was_edited_is_looked_at_too(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """What it says counts, and is refused where the checkpoint cannot follow."""
    run = tmp_path / "run"
    shutil.copytree(full_batch["sgd"], run)
    config = config_in(run)
    config["model"]["activation"] = "tanh"
    RunFolder(run).write_config(config)
    with pytest.raises(UserError, match=r"model\.activation=tanh: it was relu"):
        go_on(run, tmp_path / "on", "trainer.max_epochs=5")


def test_limits_count_steps_and_not_minibatches(tmp_path: Path) -> None:
    """Where gradients accumulate over minibatches; the number that is told trains one step more."""
    words = [*SMALL, "data.batch_size=10", "trainer.accumulate_grad_batches=3"]
    train_in(tmp_path / "run", *words, "trainer.max_steps=6", "trainer.max_epochs=50")
    with pytest.raises(UserError, match=r"has 6 steps already; .* from trainer\.max_steps=7 on"):
        go_on(tmp_path / "run", tmp_path / "on")
    result = go_on(tmp_path / "run", tmp_path / "on", "trainer.max_steps=7")
    assert result.manifest["steps"] == 7
    assert weights_of(tmp_path / "on", "last.ckpt")


@pytest.mark.parametrize("max_epochs", [-1, 50])
def test_a_limit_in_steps_costs_no_epoch(tmp_path: Path, max_epochs: int) -> None:
    """The run ends as the one that went through; Lightning would count an epoch without a step."""
    words = [*SMALL, f"trainer.max_epochs={max_epochs}", "data.batch_size=32", "model.dropout=0.2"]
    train_in(tmp_path / "run", *words, "trainer.max_steps=8")
    whole = train_in(tmp_path / "whole", *words, "trainer.max_steps=12")
    result = go_on(tmp_path / "run", tmp_path / "on", "trainer.max_steps=12")
    assert same(*(weights_of(tmp_path / name, "last.ckpt") for name in ("whole", "on")))
    assert result.manifest["best_epoch"] == whole.manifest["best_epoch"]


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
        patch.setattr("multilayer.callbacks.BestWeights.on_train_batch_end", interrupt)
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


def stranger(run: Path, folder: Path, **changes: dict[str, Any]) -> Path:
    """A copy of a run whose config.yaml says something else."""
    shutil.copytree(run, folder)
    config = config_in(folder)
    for group, values in changes.items():
        config[group] = {**config[group], **values}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
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
        ({"callbacks": {"x": {"_target_": "torch.optim.SGD"}}}, "may not be loaded"),
        ({"callbacks": {"x": {"_target_": "multilayer.frames.write_frame"}}}, "may not be loaded"),
        ({"callbacks": {"checkpoint": {"folder": "/elsewhere"}}}, "a place of its own"),
        ({"logger": {"x": {"save_dir": "../elsewhere"}}}, "a place of its own"),
        ({"logger": {"x": {"uri": "https://example.org"}}}, "a place of its own"),
        ({"logger": {"x": {"uri": "${oc.env:HOME}"}}}, "not looked up by itself"),
        ({"logger": {"x": {"uri": "${oc.env:MLFLOW_TRACKING_URI}"}}}, "not looked up by itself"),
        ({"logger": {"x": {"uri": "${seed}"}}}, "logger.x.uri"),
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
    evil = {"_target_": "os.system"}
    run = stranger(full_batch["adam"], tmp_path / "run", callbacks={"x": evil})
    config = config_in(run)
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"allow": ["os"]}))
    with pytest.raises(UserError, match=r"if you trust the run, add allow=\[os\]"):
        go_on(run, tmp_path / "on", "trainer.max_epochs=4")
    go_on(run, tmp_path / "on", "trainer.max_epochs=4", "callbacks=default")
    assert "x" not in config_in(tmp_path / "on")["callbacks"]


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
    assert command == ["train", "resume='my run'", "allow=[my_nets]"]
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
    with pytest.raises(UserError, match=r"give the one to start from, as optimizer.lr="):
        go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3", "scheduler=cosine")


def test_a_batch_size_is_not_searched_in_the_middle(
    full_batch: dict[str, Path], tmp_path: Path
) -> None:
    """No checkpoint has the one that was found."""
    find = "+callbacks.find={_target_:pytorch_lightning.callbacks.BatchSizeFinder}"
    with pytest.raises(UserError, match=r"give ~callbacks.find and .* data.batch_size=SIZE"):
        go_on(full_batch["adam"], tmp_path / "on", "trainer.max_epochs=4", find)


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
    "content",
    [
        b"\0", b"data: [", b"x: !!python/name:os.system", b"a: &a [1]\nb: *a", b"[" * 3000, b"\xff",
        b"x" * 2**21, b"3", b"",
    ],
    ids=lambda it: repr(it[:9]),
)  # fmt: skip
def test_a_damaged_config_is_one_message(
    full_batch: dict[str, Path], tmp_path: Path, content: bytes
) -> None:
    """With the name of the file, whatever is in it."""
    run = stranger(full_batch["adam"], tmp_path / "run")
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config.yaml is damaged"):
        go_on(run, tmp_path / "on", "trainer.max_epochs=5")
    assert not (tmp_path / "on").exists()


@pytest.mark.parametrize(
    ("group", "value", "expected"),
    [
        ("trainer", {}, "trainer: it has no _target_"),
        ("trainer", {"_target_": "pytorch_lightning.Trainer"}, "trainer.accelerator: it is miss"),
        ("callbacks", {"progress": "abc"}, "callbacks.progress: it has no _target_"),
        ("optimizer", {"_target_": 3}, "optimizer: it has no _target_"),
        ("seed", None, "seed=null: must be a valid integer"),
        ("seed", "gone", "seed: it cannot be left out"),
    ],
)
def test_a_config_of_the_wrong_shape_is_refused_by_name(
    full_batch: dict[str, Path], tmp_path: Path, group: str, value: Any, expected: str
) -> None:
    """It is compared before anything is made of it."""
    run = stranger(full_batch["adam"], tmp_path / "run")
    config = config_in(run) | {group: value}
    if value == "gone":
        del config[group]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=rf"config.yaml is damaged: {expected}"):
        go_on(run, tmp_path / "on", "trainer.max_epochs=5")


def test_averaged_weights_are_not_trained_on_without_their_callback(tmp_path: Path) -> None:
    """The weights of such a checkpoint are the averaged ones."""
    ema = "callbacks.ema={_target_:pytorch_lightning.callbacks.EMAWeightAveraging}"
    train_in(tmp_path / "run", *SMALL, "trainer.max_epochs=2", f"+{ema}")
    for change in ("callbacks=default", "~callbacks.ema"):
        with pytest.raises(UserError, match=r"callbacks.ema.*averaged weights"):
            go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3", change)
    go_on(tmp_path / "run", tmp_path / "on", "trainer.max_epochs=3")


def test_a_run_goes_on_in_a_folder_of_its_own(full_batch: dict[str, Path]) -> None:
    """Who names the run's own is told to name another one."""
    run = full_batch["adam"]
    with pytest.raises(UserError, match=r"choose another folder, as hydra.run.dir=FOLDER"):
        go_on(run, run, "trainer.max_epochs=4")


def test_no_patience_at_all_is_what_is_wrong(full_batch: dict[str, Path], tmp_path: Path) -> None:
    """However often the run has improved."""
    words = ["callbacks.early_stopping.patience=0", "trainer.max_epochs=4"]
    with pytest.raises(UserError, match="patience must be at least 1, got 0"):
        go_on(full_batch["adam"], tmp_path / "on", *words, "trainer.min_epochs=0")
