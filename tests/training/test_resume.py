"""A run that goes on from its own config: what is changed is used, or refused by name."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy

from multilayer.cli.check import check_command_line
from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import RunFolder
from multilayer.training.components import make_data, make_network, make_optimizer

from ..conftest import Run
from ..trained import config_of, same, train_in, weights_of
from .resumed import SMALL, config_in, crafted, go_on


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
    shutil.copytree(full_batch["default"], run)
    words = ["optimizer=default", "trainer=cpu", "data=iris", "callbacks=[default,learning_curves]"]
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
    assert shown.pop("sweep")  # what a command does, which no run records
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


def test_a_finished_run_goes_on_in_another_folder(full_batch: dict[str, Path]) -> None:
    """Its own is refused, with the advice to choose another."""
    run = full_batch["adam"]
    with pytest.raises(UserError, match=r"choose another folder, as hydra.run.dir=FOLDER"):
        go_on(run, run, "trainer.max_epochs=4")
