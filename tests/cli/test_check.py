"""What a command line gets wrong is said in one message, and before torch where possible."""

from pathlib import Path

import pytest
import torch

from multilayer.cli.check import check_command_line

from ..conftest import Run

WRONG = [
    (["train", "optimizer=adm"], ["optimizer=adm", "did you mean adam?"]),
    (["train", "callbacks=[default,chekpoint]"], ["callbacks=chekpoint", "checkpoint?"]),
    (["train", "model.droput=0.1"], ["model.droput", "did you mean model.dropout=0.1?"]),
    (["train", "lr=0.1"], ["lr", "did you mean optimizer.lr=0.1?"]),
    (["train", "optimizer.lr=fast"], ["optimizer.lr=fast", "number"]),
    (["train", "optimizer.momentum=0.9"], ["optimizer.momentum", "optimizer=sgd"]),
    (["train", "model.dropout=1.5"], ["model.dropout=1.5", "less than 1"]),
    (["train", "model.dropout=[0.1,1.5]"], ["model.dropout", "1.5", "less than 1"]),
    (["train", "optimizer.lr=-1"], ["optimizer.lr=-1", "greater than or equal to 0"]),
    (["train", "data.batch_size=0"], ["data.batch_size=0", "greater than 0"]),
    (["train", "data.batch_size=all"], ["data.batch_size=all", "'full'"]),
    (["train", "compile=maybe"], ["compile=maybe", "'auto'"]),
    (["train", "seed=-1"], ["seed=-1"]),
    (["train", f"seed={2**32}"], [f"seed={2**32}", f"less than {2**32}"]),
    (["train", f"data.split_seed={2**32}"], [f"data.split_seed={2**32}"]),
    (["train", "trainer.accumulate_grad_batches=0"], ["batches=0", "greater than 0"]),
    (["train", "trainer.check_val_every_n_epoch=0"], ["check_val_every_n_epoch=0"]),
    (["train", "trainer.log_every_n_steps=0"], ["log_every_n_steps=0"]),
    (["train", "trainer.max_steps=0"], ["trainer.max_steps=0"]),
    (["train", "trainer.gradient_clip_val=-1"], ["gradient_clip_val=-1"]),
    (["train", "data=table", "data.path=my.csv"], ["data.target", "missing"]),
    (["train", "model.d_hidden=[64"], ["model.d_hidden=[64: its brackets do not match"]),
    (["train", "model=null"], ["model=null", "no such choice"]),
    (["train", "foo"], ["foo", "key=value"]),
    (["train", "--config-dir", "nowhere"], ["nowhere", "no such folder"]),
    (["train", "-m", "optimizer=adm,sgd"], ["optimizer=adm", "did you mean adam?"]),
    (["train", "-m", "model.droput=0.1,0.2"], ["model.droput"]),
    (["train", "model.dropout=0,0.1"], ["add -m", 'a list is "model.dropout=[0,0.1]"']),
    (["train", "optimizer.lr=inf"], ["optimizer.lr=inf", "finite"]),
    (["train", "-m", "seed=0,1", "--cfg", "job"], ["-m", "--cfg"]),
    (
        ["train", "-m", "model.d_hidden=[4],[8]", "hydra.launcher.workers=local:2"],
        ["hydra.launcher.workers=local:2: add hydra/launcher=lockstep"],
    ),
    (["train", "-m", "hydra.launcher.n_jobs=2"], ["hydra.launcher.n_jobs"]),
    (["train", "hydra/launcher=lockstep"], ["lockstep: this is for a sweep, add -m"]),
    (["train", "hydra.launcher.stack=false"], ["stack=false: this is for a sweep, add -m"]),
    (["train", "-m", "trainer=ddp", "seed=0,1"], ["trainer.strategy=ddp", "sweep"]),
    (["train", "-m", "trainer.devices=2", "seed=0,1"], ["trainer.devices=2", "sweep"]),
    (["train", "trainer.strategy=ddp_spawn"], ["ddp_spawn", "trainer=ddp"]),
    (["train", "+foo=1"], ["foo", "unknown key"]),
    (["train", "trainer.max_time=soon"], ["trainer.max_time=soon"]),
    (["train", "trainer.limit_train_batches=0"], ["limit_train_batches=0"]),
    (["train", "trainer.limit_train_batches=1.5"], ["limit_train_batches=1.5"]),
    (["train", "trainer.max_epochs=0"], ["trainer.max_epochs=0"]),
    (["train", "callbacks.early_stopping.patience=x"], ["patience=x: must be a valid integer"]),
    (
        ["train", "callbacks.checkpoint.every_seconds=[3]"],
        ["every_seconds=[3]: must be a valid num"],
    ),
    (["train", "callbacks.early_stopping=3"], ["callbacks.early_stopping=3: must be a valid dict"]),
    (["train", "trainer.devices=0"], ["trainer.devices=0"]),
    (["train", "trainer.precision=16-true"], ["trainer.precision=16-true", "bf16-true"]),
    (["train", "optimizer.lr=${foo}"], ["foo"]),
    (["train", "~seed"], ["seed"]),
    (["train", "~compile"], ["compile", "cannot be left out"]),
    (["train", "--config-name", "mine"], ["--config-dir"]),
    (["train", "data.folds=2", "data.fold=2"], ["data.fold=2", "the last is 1"]),
    (["train", "mode=max"], ["mode=max", "of validation/loss less is better; use mode=min"]),
    (["train", "monitor=validation/accuracy"], ["accuracy more is better; use mode=max"]),
    (["evaluate", "-m", "run=a,b"], ["-m is for multilayer train"]),
    (["sweeps"], ["there is no folder sweeps here", "multilayer sweeps FOLDER"]),
    (["evaluate"], ["run", "missing"]),
    (["evaluate", "run=nowhere"], ["run=nowhere", "no such folder"]),
    (["evaluate", "run=."], ["run=.", "not a run folder"]),
    (["predict", "run=."], ["input", "output", "missing"]),
    (["report"], ["sweep", "missing"]),
    (["report", "sweep=nowhere"], ["sweep=nowhere", "no such folder"]),
    (["report", "sweep=."], ["sweep=.", "not a sweep folder", "manifest.json"]),
    (["report", "swep=."], ["swep", "did you mean sweep=.?"]),
    (["trian"], ["trian", "did you mean train?"]),
    # Names of earlier versions.
    (["train", "threads=2"], ["threads: renamed to num_threads"]),
    (["train", "+threads=2"], ["threads: renamed to num_threads"]),
    (["train", "allow=[a]"], ["allow: renamed to trusted_packages"]),
    (["train", "sweep=learning_rates"], ["sweep: renamed to hparams_search"]),
    (["predict", "keep=false"], ["keep: renamed to keep_input_columns"]),
    (
        ["train", "callbacks=lr_sweep", "callbacks.lr_sweep.share=0.1"],
        ["callbacks.lr_sweep.share: renamed to callbacks.lr_sweep.fraction"],
    ),
    (["train", "scheduler=step", "scheduler.gamma=0.1"], ["to scheduler.scheduler.gamma"]),
    (
        ["train", "scheduler.gamma=0.1"],
        ["scheduler=step have scheduler.scheduler.gamma"],
    ),
    (
        ["train", "scheduler=cosine", "scheduler.warmup=0.1", "scheduler.final=0.1"],
        ["scheduler.scheduler.warmup_fraction", "scheduler.scheduler.final_fraction"],
    ),
    (["train", "+scheduler.frequency=2"], ["scheduler.frequency: unknown key"]),
    (["train", "data=_base"], ["data=_base: no such choice"]),
]
# These need torch to be found out, and still read no data.
WRONG_WITH_TORCH = [
    (["train", "+optimizer.momentum=0.9"], ["torch.optim.Adam", "momentum", "optimizer=sgd"]),
    (
        ["train", "callbacks=lr_sweep", "+callbacks.lr_sweep.share=0.1"],
        ["callbacks.lr_sweep.share", "renamed to callbacks.lr_sweep.fraction"],
    ),
    (["train", "+model.widht=3"], ["model.widht", "multilayer.nn.MLP"]),
    (["train", "model.dropout=${rate}"], ["model.dropout: Interpolation key 'rate' not found"]),
    (["train", "model.activation=rely"], ["model.activation: ", "did you mean relu?"]),
    (["train", "model.dropout=[0.1]"], ["dropout", "2 hidden layers"]),
    (["train", "optimizer=sgd", "optimizer.nesterov=true"], ["Nesterov", "momentum"]),
    (["train", "loss=mse"], ["MSELoss", "regression", "multiclass", "loss=auto"]),
    (["train", "data=diabetes", "loss=cross_entropy"], ["CrossEntropy", "regression"]),
    (
        ["train", "data.batch_size=1", "model.normalization=batch"],
        ["data.batch_size=1", "batch normalization"],
    ),
    (
        ["train", "data.batch_size=1256", "model.normalization=batch"],
        ["data.batch_size=1256", "1,257 rows"],
    ),
    (["train", "model._target_=multilayer.NLP"], ["multilayer.NLP"]),
    (["train", "trainer.max_epochs=-1"], ["max_epochs=-1"]),
    (["train", "data=table", "data.path=no.csv", "data.target=y"], ["no.csv", "no such file"]),
    (["train", "data.shuffle_seed=-1"], ["shuffle_seed", "-1"]),
    (["train", f"data.shuffle_seed={2**32}"], ["shuffle_seed", f"{2**32}"]),
    (
        ["train", "callbacks=none", "+callbacks.early_stopping.patience=3"],
        ["callbacks.early_stopping", "_target_"],
    ),
    (["train", "trainer.limit_train_batches=0.001"], ["limit_train_batches=0.001", "none of"]),
    (["train", "resume=nowhere"], ["nowhere"]),
    (["train", "scheduler=plateau", "scheduler.interval=step"], ["scheduler.interval=epoch"]),
    (["train", "monitor=validation/acuracy"], ["validation/acuracy", "validation/accuracy?"]),
    (
        ["train", "loss=cross_entropy", "loss.class_weights=[1,2]"],
        ["class_weights must hold 10 numbers, got 2"],
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), WRONG + WRONG_WITH_TORCH)
def test_wrong_input_is_one_message_and_exit_code_2(
    multilayer: Run, tmp_path: Path, arguments: list[str], expected: list[str]
) -> None:
    """The message names the thing and what would be right; nothing is left behind."""
    outcome = multilayer(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("multilayer: error:") == 1
    assert "Traceback" not in outcome.err
    for words in expected:
        assert words in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_the_largest_seed_is_one() -> None:
    """2**32 - 1, as numpy and torch have it, for all that is drawn."""
    config = check_command_line("train", [f"seed={2**32 - 1}", f"data.split_seed={2**32 - 1}"])
    assert config is not None
    assert config["seed"] == config["data"]["shuffle_seed"] == 2**32 - 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error(multilayer: Run) -> None:
    """It says what to use instead."""
    outcome = multilayer("train", "trainer=gpu")
    assert outcome.code == 2
    assert "no NVIDIA GPU" in outcome.err
    assert "trainer=cpu" in outcome.err


def test_all_mistakes_are_listed_at_once(multilayer: Run) -> None:
    """Choices, keys, types and ranges, each on a line of its own."""
    outcome = multilayer("train", "optimizer=adm", "model.droput=1", "seed=x", "data.split_seed=-1")
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    wrong = ["optimizer=adm", "model.droput", "data.split_seed=-1", "seed=x", "model.dropout=1"]
    for words, line in zip(wrong, lines, strict=True):
        assert words in line


@pytest.mark.parametrize(("package", "extra"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_logger_that_is_not_installed_names_its_extra(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    """The message is the command that installs it."""
    monkeypatch.setattr("multilayer.core.config_problems.find_spec", lambda name: None)
    outcome = multilayer("train", f"logger=[tensorboard,{package}]")
    assert outcome.code == 2
    assert f"pip install 'multilayer[{extra}]'" in outcome.err
