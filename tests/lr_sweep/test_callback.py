"""The learning-rate sweep before a fit: what it chooses, and that the fit knows nothing of it."""

import json
import math
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars
import pytest
import pytorch_lightning as pl
import torch
import yaml
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from multilayer import MLP, BuiltinData, MulticlassModule
from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.lockstep.plan import make_plan
from multilayer.lr_sweep import LearningRateSweep
from multilayer.lr_sweep.analysis import analyze_sweep
from multilayer.lr_sweep.trials import TrialLosses
from multilayer.runs.folder import Result
from multilayer.runs.manifest import config_hash
from multilayer.stacking.runner import StepRunner
from multilayer.training.epoch_callback import Record
from multilayer.training.lightning_adapter import lightning_callbacks

from ..conftest import Run
from ..lockstep.conftest import MakeJobs, train_plan, train_stacked
from ..lockstep.conftest import jobs as jobs  # a fixture

SMALL = [
    "callbacks.lr_sweep.n_rates=6",
    "callbacks.lr_sweep.min_lr=1e-4",
    "callbacks.lr_sweep.n_seeds=2",
]
QUICK = ["data=iris", "trainer.max_epochs=4", "model.d_hidden=[8]", "model.dropout=0.2"]


def run(folder: Path, *overrides: str) -> Result:
    config = check_command_line("train", overrides)
    assert config is not None
    return train(config, folder, overrides, quiet=True)


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)  # type: ignore[no-any-return]


def same(mine: Any, its: Any) -> bool:
    """Equal to the last bit, tensors too."""
    if isinstance(mine, torch.Tensor):
        return torch.equal(mine, its)
    if isinstance(mine, dict):
        return mine.keys() == its.keys() and all(same(mine[key], its[key]) for key in mine)
    if isinstance(mine, list):
        return len(mine) == len(its) and all(map(same, mine, its))
    return bool(mine == its)


@pytest.mark.parametrize(
    "more",
    [
        ["optimizer=adam", "loss.class_weights=balanced", "scheduler=cosine"],
        ["optimizer=sgd", "optimizer.momentum=0.5", "scheduler=one_cycle"],
        ["optimizer=sgd", "callbacks.lr_sweep.method=range"],
        ["optimizer=adam", "engine=lockstep"],
    ],
    ids=["adam", "one_cycle", "range", "lockstep"],
)
def test_the_fit_is_the_one_that_names_the_rate(tmp_path: Path, more: list[str]) -> None:
    """Weights, optimizer, schedule and random numbers are the same to the last bit."""
    swept = [*QUICK, *more, "callbacks=[default,lr_sweep]", *SMALL]
    result = run(tmp_path / "swept", *swept)
    rate = yaml.safe_load((tmp_path / "swept" / "config.yaml").read_text())["optimizer"]["lr"]
    own = [word for word in more if not word.startswith("callbacks.")]
    by_hand = run(tmp_path / "by_hand", *QUICK, *own, f"optimizer.lr={rate}")
    assert result.metrics == by_hand.metrics
    mine, its = checkpoint(tmp_path / "swept"), checkpoint(tmp_path / "by_hand")
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(mine[key], its[key]), key
    random_state = "Checkpoint"  # the callback that keeps it
    assert same(mine["callbacks"][random_state], its["callbacks"][random_state])
    for config in (mine["multilayer"]["config"], its["multilayer"]["config"]):
        del config["callbacks"]
    assert mine["multilayer"]["config"] == its["multilayer"]["config"]
    check_files(tmp_path / "swept", tmp_path / "by_hand")


def check_files(swept: Path, by_hand: Path) -> None:
    """The config is the same except for the callbacks, and the manifest agrees with it."""
    configs = [yaml.safe_load((each / "config.yaml").read_text()) for each in (swept, by_hand)]
    manifest = json.loads((swept / "manifest.json").read_text())
    assert manifest["config_hash"] == config_hash(configs[0])
    assert manifest["lr_sweep_seconds"] > 0
    for config in configs:
        del config["callbacks"]
    assert configs[0] == configs[1]


def test_table_and_figure_are_in_the_run_folder_and_in_tensorboard(tmp_path: Path) -> None:
    """A row a rate, with its regime."""
    run(tmp_path, *QUICK, "callbacks=lr_sweep", *SMALL)
    table = polars.read_csv(tmp_path / "lr_sweep.csv")
    assert table["learning_rate"].to_list() == pytest.approx(
        [10 ** (-4 + k) for k in range(6)]  # from 1e-4 to 10
    )
    assert set(table["regime"]) <= {"slow", "stable", "divergent"}
    assert table["validation_loss"].to_numpy() == pytest.approx(
        (table["validation_seed_0"] + table["validation_seed_1"]).to_numpy() / 2
    )
    assert imread(tmp_path / "figures" / "lr_sweep.png").std() > 0.01
    tags = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["images"]
    assert "lr_sweep" in tags


def test_a_run_that_is_resumed_keeps_its_rate(tmp_path: Path) -> None:
    """It sweeps no more, though the command says so; it ends as if it had not been stopped."""
    swept = [*QUICK, "callbacks=[default,lr_sweep]", *SMALL, "scheduler=one_cycle"]
    run(tmp_path / "whole", *swept)
    half = tmp_path / "half"
    # One cycle spans the planned steps: the run is stopped, not planned shorter.
    stopped = check_command_line("train", swept)
    assert stopped is not None
    stopped["callbacks"]["stop"] = {"_target_": "tests.lr_sweep.test_callback.StopAfterTwo"}
    train(stopped, half, swept, quiet=True)
    run(tmp_path / "resumed", *swept, f"resume={half}")
    assert not (tmp_path / "resumed" / "lr_sweep.csv").exists()
    mine, its = checkpoint(tmp_path / "resumed"), checkpoint(tmp_path / "whole")
    assert same(mine["state_dict"], its["state_dict"])
    assert same(mine["optimizer_states"], its["optimizer_states"])
    assert mine["multilayer"]["config"]["optimizer"] == its["multilayer"]["config"]["optimizer"]


class StopAfterTwo(pl.Callback):
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


def test_each_job_of_a_stack_finds_its_own_rate(multilayer: Run, tmp_path: Path) -> None:
    """As it does alone."""
    words = [*QUICK, "callbacks=[default,lr_sweep]", "scheduler=constant", *SMALL]
    outcome = multilayer("train", "-m", "hydra/launcher=lockstep", *words, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert "1 stack of 2 runs" in outcome.out
    (sweep,) = (tmp_path / "sweeps").iterdir()
    run(tmp_path / "alone", *words, "seed=1")
    mine, its = (
        yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"]
        for folder in (sweep / "1", tmp_path / "alone")
    )
    assert mine == its
    assert checkpoint(sweep / "1")["optimizer_states"][0]["param_groups"][0]["lr"] == mine


def test_members_that_sweep_leave_the_others_alone(jobs: MakeJobs) -> None:
    """All begin with one schedule; then each trains as if its rate had been given by hand."""
    shared = [*QUICK, "optimizer=adam", "scheduler=cosine", "compile=false"]
    sweeps = ["callbacks=[default,lr_sweep]", *SMALL]
    swept = jobs(shared, [["seed=0", *sweeps], ["seed=1"], ["seed=2", *sweeps]], "swept")
    train_stacked(swept)
    rates = [
        yaml.safe_load((job.folder / "config.yaml").read_text())["optimizer"]["lr"] for job in swept
    ]
    own = [[f"seed={k}", f"optimizer.lr={rate}"] for k, rate in enumerate(rates)]
    assert rates[1] == 0.001
    by_hand = jobs(shared, own, "by_hand")
    train_stacked(by_hand)
    for mine, its in zip(swept, by_hand, strict=True):
        first, second = checkpoint(mine.folder), checkpoint(its.folder)
        for key in ("state_dict", "optimizer_states", "lr_schedulers"):
            assert same(first[key], second[key]), key


def test_the_seconds_of_a_sweep_are_not_those_of_the_fit(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of its own member's, which joins later, nor of the others', nor where it fails."""
    now = 0.0

    def ten_seconds_a_step(runner: StepRunner, *arguments: Any) -> Any:
        nonlocal now
        now += 10.0
        return one(runner, *arguments)

    def an_hour(sweep: LearningRateSweep, record: Record) -> Any:
        nonlocal now
        now += 3600.0
        assert record.seconds.tolist() == [0.0]
        if sweep.n_rates == 3:
            raise UserError("it was to fail")
        return analyze_sweep([0.01, 0.1], [TrialLosses(1.0, 0.1, [0.1])] * 2)

    one = StepRunner.one
    monkeypatch.setattr(StepRunner, "one", ten_seconds_a_step)
    monkeypatch.setattr(LearningRateSweep, "find", an_hour)
    monkeypatch.setattr("multilayer.lockstep.stack.perf_counter", lambda: now)
    fails = ["callbacks=lr_sweep", "callbacks.lr_sweep.n_rates=3"]
    own = [fails, ["callbacks=lr_sweep"], ["trainer.max_epochs=3"], ["callbacks=lr_sweep"]]
    shared = ["data=iris", "callbacks=none", "trainer.max_epochs=1", "trainer.log_every_n_steps=99"]
    (plan,) = make_plan(jobs(shared, own)).stacks
    failed, first, longest, joined = train_plan(replace(plan, n_slots=3))
    assert str(failed) == "it was to fail"
    seconds = [each.manifest["fit_seconds"] for each in (first, longest, joined)]  # type: ignore[union-attr]
    assert seconds == [10.0, 40.0, 10.0]  # two steps an epoch, shared by two members
    table = polars.read_csv(plan.jobs[3].folder / "history.csv")
    assert table["seconds"].to_list() == [20.0]


def test_an_interrupt_waits_for_one_sweep_alone(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for those of all members, each of which may take seconds."""
    found = []

    def interrupted(sweep: LearningRateSweep, record: Record) -> Any:
        signal.raise_signal(signal.SIGINT)
        found.append(analyze_sweep([0.01, 0.1], [TrialLosses(1.0, 0.1, [0.1])] * 2))
        return found[0]

    monkeypatch.setattr(LearningRateSweep, "find", interrupted)
    made = jobs(["data=iris", "callbacks=lr_sweep"], [["seed=0"], ["seed=1"]])
    with pytest.raises(KeyboardInterrupt):
        train_stacked(made)
    assert len(found) == 1
    for job in made:
        assert json.loads((job.folder / "manifest.json").read_text())["status"] == "interrupted"


def test_a_sweep_in_a_stack_does_not_import_lightning(tmp_path: Path) -> None:
    """As no stack does; the figure alone needs matplotlib."""
    words = [*QUICK, "callbacks=[default,lr_sweep]", *SMALL, "seed=0,1"]
    program = f"""
import sys
from multilayer.cli.main import main
sys.argv = ["multilayer", "train", "-m", "hydra/launcher=lockstep", *{words}]
main()
heavy = [
    "pytorch_lightning", "lightning_fabric", "torchmetrics", "scipy", "sklearn", "torch._dynamo"
]
print([name for name in heavy if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "1 stack of 2 runs" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]", found.stderr


class Doubtful(nn.Module):
    """A network that no stack takes: it asks for the value of what it computes."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)
        return output if output.sum() > -1e9 else -output


def test_a_network_that_does_not_stack_is_trained_one_after_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same command works, says why it takes longer, and names the quicker method."""
    data = BuiltinData(name="iris")
    pl.seed_everything(0, verbose=False)
    module = MulticlassModule(Doubtful(4, 3), optimizer=torch.optim.SGD)
    sweep = LearningRateSweep(folder=tmp_path, n_rates=5, min_lr=1e-3, n_seeds=2)
    with caplog.at_level("INFO", "multilayer"):
        fit(module, data, sweep)
    assert "one after the other, because" in caplog.text
    assert "method=range" in caplog.text
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == sweep.suggested


def fit(module: pl.LightningModule, data: Any, callback: Any, n_epochs: int = 2) -> None:
    trainer = pl.Trainer(
        max_epochs=n_epochs,
        callbacks=lightning_callbacks(callback),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(module, data)


class Drawn(nn.Module):
    """A network that keeps a number which no other has, so that seeds do not stack."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_outputs)
        self.scale = random.random()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.scale  # type: ignore[no-any-return]


def test_trials_one_after_the_other_are_the_same_with_both_engines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each member of a stack may have a network whose seeds do not stack."""
    model = ["model=sequential", "~model._args_"]
    model += ["model._target_=tests.lr_sweep.test_callback.Drawn"]
    model += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    words = ["data=iris", "trainer.max_epochs=2", "callbacks=lr_sweep", *SMALL, *model]
    tables = []
    for engine in ("lightning", "lockstep"):
        with caplog.at_level("INFO", "multilayer"):
            run(tmp_path / engine, *words, f"engine={engine}")
        assert "one after the other, because the networks of the seeds differ" in caplog.text
        caplog.clear()
        tables.append((tmp_path / engine / "lr_sweep.csv").read_text())
    assert tables[0] == tables[1]


def test_it_goes_with_modules_of_ones_own_code(tmp_path: Path) -> None:
    """Without any config: the seeds then share the weights and differ in the order of the rows."""
    data = BuiltinData(name="iris")
    pl.seed_everything(0, verbose=False)
    module = MulticlassModule(MLP(4, 3, d_hidden=[8]), optimizer=torch.optim.Adam)
    sweep = LearningRateSweep(folder=tmp_path, n_rates=8, n_seeds=2)
    fit(module, data, sweep)
    assert sweep.suggested is not None
    assert 1e-4 < sweep.suggested < 1
    table = polars.read_csv(tmp_path / "lr_sweep.csv")
    assert table["train_before_seed_0"].to_list() == table["train_before_seed_1"].to_list()
    assert table["train_after_seed_0"].to_list() != table["train_after_seed_1"].to_list()


class Louder(MulticlassModule):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return 1e6 * super().training_step(batch, batch_idx)


class Bolder(MulticlassModule):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.network.parameters(), lr=1e-7)


class Hotter(BuiltinData):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] * 1000, batch[1]


@pytest.mark.parametrize(
    ("kind", "data", "optimizer", "message"),
    [
        (Louder, BuiltinData, torch.optim.SGD, "Louder has a training_step of its own"),
        (Bolder, BuiltinData, torch.optim.SGD, "Bolder has a configure_optimizers of its own"),
        (MulticlassModule, Hotter, torch.optim.SGD, "Hotter has a on_after_batch_transfer"),
        (MulticlassModule, BuiltinData, torch.optim.LBFGS, "LBFGS"),
        (
            MulticlassModule,
            BuiltinData,
            lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            "must take lr",
        ),
    ],
)
def test_what_a_short_training_does_not_know_is_refused(
    tmp_path: Path, kind: Any, data: Any, optimizer: Any, message: str
) -> None:
    """It would be the beginning of another training."""
    module = kind(MLP(4, 3, d_hidden=[8]), optimizer=optimizer)
    with pytest.raises(UserError, match=message):
        fit(module, data(name="iris"), LearningRateSweep(folder=tmp_path, n_rates=3, n_seeds=1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lr=0.1"], "optimizer.lr=0.1: callbacks=lr_sweep finds the rate"),
        (["-m", "optimizer.lr=0.1,0.2"], "optimizer.lr=0.1: callbacks=lr_sweep finds the rate"),
        (
            ["scheduler=one_cycle", "scheduler.scheduler.max_lr=0.5"],
            "the schedule has a rate of its own",
        ),
    ],
)
def test_a_rate_that_is_named_beside_the_sweep_is_refused(
    multilayer: Run, words: list[str], message: str
) -> None:
    """One of the two would be without effect."""
    outcome = multilayer("train", *words, *QUICK, "callbacks=lr_sweep", *SMALL)
    assert outcome.code == 2
    assert message in outcome.err


def test_another_kind_of_module_is_refused(tmp_path: Path) -> None:
    """With what it needs."""
    from pytorch_lightning.demos.boring_classes import BoringModel

    with pytest.raises(UserError, match="SupervisedModule"):
        fit(BoringModel(), None, LearningRateSweep(folder=tmp_path))


def test_rates_that_all_diverge_are_a_message(multilayer: Run, tmp_path: Path) -> None:
    """It says which rates to try; the manifest says that the run failed."""
    outcome = multilayer(
        "train",
        *QUICK,
        "optimizer=sgd",
        "callbacks=lr_sweep",
        "callbacks.lr_sweep.min_lr=1e6",
        "callbacks.lr_sweep.max_lr=1e9",
        "callbacks.lr_sweep.n_rates=3",
    )
    assert outcome.code == 2
    assert "callbacks.lr_sweep.min_lr=1e+03" in outcome.err
    (manifest,) = tmp_path.glob("runs/*/*/manifest.json")
    assert json.loads(manifest.read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=swep", "method must be sweep or range"),
        ("min_lr=0", "min_lr must be above 0"),
        ("max_lr=inf", "max_lr must be finite, got inf"),
        ("n_rates=2", "n_rates must be a whole number from 3 on, got 2"),
        ("n_rates=3.5", "callbacks.lr_sweep.n_rates=3.5: must be a valid integer"),
        ("fraction=0", "fraction must be above 0"),
        ("num_threads=0", "num_threads must be auto or a whole number from 1 on, got 0"),
        ("compile=maybe", "compile must be auto, true or false, got maybe"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_trained(
    multilayer: Run, tmp_path: Path, override: str, message: str
) -> None:
    """One message, and no folder."""
    outcome = multilayer("train", "callbacks=lr_sweep", f"callbacks.lr_sweep.{override}")
    assert outcome.code == 2
    assert message in outcome.err
    assert not list(tmp_path.glob("runs/*/*/*"))


def test_the_best_rate_on_the_edge_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may lie beyond."""
    limits = ["callbacks.lr_sweep.min_lr=1e-5", "callbacks.lr_sweep.max_lr=1e-3"]
    run(tmp_path, *QUICK, "callbacks=lr_sweep", "callbacks.lr_sweep.n_rates=3", *limits)
    assert "on the edge of what was tried, 0.001: try callbacks.lr_sweep.max_lr=0.1" in caplog.text
    assert math.isclose(polars.read_csv(tmp_path / "lr_sweep.csv")["learning_rate"][-1], 1e-3)


def test_all_wrong_arguments_are_named_at_once(tmp_path: Path) -> None:
    """As all mistakes on the command line are."""
    with pytest.raises(
        ValueError, match=r"n_rates must be .*; n_seeds must be .*; fraction must be"
    ):
        LearningRateSweep(folder=tmp_path, fraction=0.0, n_rates=1, n_seeds=0)


def test_a_new_fit_sweeps_though_the_one_before_was_resumed(tmp_path: Path) -> None:
    """Only a checkpoint that this fit loads gives it the rate."""
    sweep = LearningRateSweep(folder=tmp_path)
    (adapter,) = lightning_callbacks(sweep)
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[adapter])
    module = pl.LightningModule()
    adapter.setup(trainer, module, "fit")
    adapter.load_state_dict({"suggested": 0.1})
    adapter.on_load_checkpoint(trainer, module, {})
    assert adapter.record.is_resumed  # type: ignore[attr-defined]
    adapter.setup(trainer, module, "fit")
    assert not adapter.record.is_resumed  # type: ignore[attr-defined]
    assert sweep.suggested is None
