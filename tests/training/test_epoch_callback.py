"""Callbacks on records: a user's own with both engines, and K runs at once."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from multilayer import MLP, BuiltinData, MulticlassModule
from multilayer.callbacks import BestWeights, EarlyStopping
from multilayer.core.errors import UserError
from multilayer.lockstep.plan import why_not_stackable
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.lightning_adapter import lightning_callbacks

from ..conftest import Run
from ..lockstep.conftest import MakeJobs, train_one_by_one, train_stacked
from ..lockstep.conftest import jobs as jobs  # a fixture
from ..lockstep.test_equivalence import scalars
from ..trained import train_in

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "callbacks.md"
QUICK = ["data=iris", "trainer.max_epochs=6", "data.batch_size=16", "callbacks.progress=null"]
MINE = "+callbacks.mine={_target_:my_package.overfitting.StopsOverfitting,limit:%s}"


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback of the docs, in a package of a user's own."""
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    (tmp_path / "package" / "my_package").mkdir(parents=True)
    (tmp_path / "package" / "my_package" / "overfitting.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("my_package")
def test_the_callback_of_the_docs_does_in_a_stack_what_it_does_alone(jobs: MakeJobs) -> None:
    """It logs, stops one run of two, and says so in the manifest."""
    made = jobs([*QUICK, "optimizer.lr=0.05"], [["seed=1", MINE % -1e3], ["seed=2", MINE % 1e3]])
    for job in made:
        assert why_not_stackable(job.config) is None
    for results in (train_stacked(made), train_one_by_one(made)):
        first, second = (result.manifest for result in results)
        assert first["stop_reason"] == "the gap is above -1000.0 in epoch 1"
        assert (first["status"], first["best_epoch"]) == ("done", 1)
        assert second["stop_reason"] == "reached trainer.max_epochs=6"
        assert second["widest_gap"] >= 0
    for folder in (made[1].folder, made[1].folder.parent.parent / "alone" / "1"):
        curves = scalars(folder)
        losses = zip(curves["validation/loss"], curves["train/loss"], strict=True)
        expected = [(step, validation - train) for (step, validation), (_, train) in losses]
        assert curves["gap"] == [(step, pytest.approx(gap, abs=1e-6)) for step, gap in expected]


@pytest.mark.usefixtures("my_package")
def test_a_resumed_run_has_the_state_of_the_callback(tmp_path: Path) -> None:
    """It ends as the one that went through."""
    words = [*QUICK, MINE % 1e3, "optimizer.lr=0.05", "scheduler=constant", "logger=none"]
    whole = train_in(tmp_path / "whole", *words)
    train_in(tmp_path / "half", *words, "trainer.max_epochs=4")
    state = read_checkpoint(tmp_path / "half" / "checkpoints" / "last.ckpt")["callbacks"]
    assert state["StopsOverfitting"].keys() == {"widest"}
    assert type(state["StopsOverfitting"]["widest"]) is float
    allowed = [
        f"resume={tmp_path / 'half'}",
        "trusted_packages=[my_package]",
        "trainer.max_epochs=6",
    ]
    resumed = train_in(tmp_path / "resumed", *allowed)
    assert resumed.manifest["widest_gap"] == whole.manifest["widest_gap"]
    assert resumed.metrics == whole.metrics


class Checks(EpochCallback):
    """Compares records with oracles."""

    def __init__(self) -> None:
        self.seconds = [0.0]
        self.called: list[str] = []

    def on_fit_start(self, record: Record) -> None:
        assert (record.epoch[0], record.step[0]) == (0, 0)
        assert not record.is_resumed
        self.called.append("start")

    def on_validation_end(self, record: Record) -> None:
        with record.inspect(record.weights()) as module:
            assert record.weights().keys() == module.state_dict().keys()
            expected = module.evaluate(record.data.minibatches("validation"))
        for name, value in expected.items():
            found = record[f"validation/{name}"]
            assert found.shape == (1,)
            assert found[0] == pytest.approx(value, rel=1e-5)
        self.called.append("validation")

    def on_epoch_end(self, record: Record) -> None:
        (epoch,) = record.epoch
        assert record.step[0] == epoch * 7
        assert record.lr[0] == pytest.approx(0.01 * 0.5 ** (epoch - 1))
        assert {"train/loss", "validation/loss"} <= {*record.measured}
        assert record.is_last == (epoch == 6)
        rows = record.rows("train", at_most=10)
        assert torch.equal(rows.features, record.data.split_tensors("train", 10).features)
        self.seconds.append(float(record.seconds[0]))
        assert self.seconds[-1] >= self.seconds[-2]
        with pytest.raises(UserError, match=r"no metric 'x' .*train/loss"):
            record["x"]
        self.called.append("epoch")

    def on_fit_end(self, record: Record) -> None:
        assert record.epoch[0] == 6
        assert self.called == ["start", *["validation", "epoch"] * 6]


EMA = "+callbacks.ema={_target_:pytorch_lightning.callbacks.EMAWeightAveraging,decay:0.9}"


@pytest.mark.parametrize("more", [[], ["engine=lockstep"], [EMA]], ids=str)
def test_records_hold_what_there_is(tmp_path: Path, more: list[str]) -> None:
    """Metrics of the weights that were validated, steps, rates and rows."""
    own = f"+callbacks.checks._target_={__name__}.Checks"
    words = [own, "scheduler=exponential", "scheduler.scheduler.gamma=0.5", "optimizer.lr=0.01"]
    train_in(tmp_path, *QUICK, *words, *more)


class StepCounter(EpochCallback):
    """Counts the steps."""

    within_epochs = "always"

    def __init__(self) -> None:
        self.n_steps = 0
        self.error: BaseException | None = None

    def within_epoch(self, record: Record) -> None:
        assert record.step[0] == self.n_steps
        self.n_steps += 1
        if self.n_steps == 10:
            raise RuntimeError("no eleventh step")

    def on_failure(self, record: Record, error: BaseException) -> None:
        self.error = error


def test_a_callback_may_act_within_epochs_and_learns_of_an_error(tmp_path: Path) -> None:
    """In a Trainer of the user's own; a stack has no hook in each step."""
    counter = StepCounter()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=5, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=lightning_callbacks(counter),
    )  # fmt: skip
    module = MulticlassModule(MLP(4, 3), optimizer=torch.optim.SGD)
    with pytest.raises(RuntimeError, match="no eleventh step"):
        trainer.fit(module, BuiltinData(name="iris", batch_size=16))
    assert (counter.n_steps, str(counter.error)) == (10, "no eleventh step")


class Runs(Record):  # type: ignore[misc]
    """A record of K runs with losses that are given, and weights that count the epochs."""

    def __init__(self, epoch: int, losses: Any) -> None:
        self.epoch = self.step = np.full(len(losses), epoch)
        self.metrics = {"validation/loss": np.array(losses)}
        self.min_epochs = np.zeros(len(losses), int)
        self.stopped: dict[int, str] = {}

    def __getitem__(self, name: str) -> Any:
        return self.metrics[name]

    def weights(self) -> dict[str, torch.Tensor]:
        return {"weight": torch.tensor(self.epoch, dtype=torch.float32)[:, None].expand(-1, 3)}

    def end_with(self, weights: Any, runs: Any) -> None:
        self.ended = weights, runs

    def stop(self, reason: str, *, k: int, at_once: bool = False) -> None:
        self.stopped[k] = reason


def test_k_runs_at_once_are_k_runs_by_themselves() -> None:
    """Their best epochs, weights, states and reasons to stop; one of them diverges."""
    rng = np.random.default_rng(0)
    losses = rng.random((12, 5))
    losses[7, 3], losses[2, 1] = np.nan, np.inf

    def follow(columns: Any) -> Any:
        best, stopping = BestWeights(), EarlyStopping(patience=3)
        reasons: dict[int, str] = {}
        for callback in (best, stopping):
            callback.reset(columns.shape[1])
        for epoch, row in enumerate(columns, start=1):
            record: Any = Runs(epoch, row)
            best.on_validation_end(record)
            stopping.on_validation_end(record)
            reasons = record.stopped | reasons
        return SimpleNamespace(best=best, stopping=stopping, reasons=reasons)

    together = follow(losses)
    for k in range(losses.shape[1]):
        alone = follow(losses[:, [k]])
        for callback in ("best", "stopping"):
            state = getattr(together, callback).state_dict(k)
            expected = getattr(alone, callback).state_dict()
            assert state.pop("reason", None) == expected.pop("reason", None)
            torch.testing.assert_close(state, expected, equal_nan=True)
        assert alone.best.weights["weight"][0].tolist() == [alone.best.best_epoch[0]] * 3
        assert together.reasons.get(k) == alone.reasons.get(0)
        assert together.stopping.diverged[k] == alone.stopping.diverged[0]
    other = BestWeights()
    other.reset(5)
    for k in range(5):
        other.load_state_dict(together.best.state_dict(k), k)
    assert torch.equal(other.weights["weight"], together.best.weights["weight"])
    assert other.best_value.tolist() == together.best.best_value.tolist()
    stopped, longer = EarlyStopping(patience=3), EarlyStopping(patience=99)
    for callback in (stopped, longer):
        callback.reset(5)
        for k in range(5):
            callback.load_state_dict(together.stopping.state_dict(k), k)
    diverged = together.stopping.diverged
    is_due = (together.stopping.n_without_improvement >= 3) | diverged
    for k, reason in enumerate(together.stopping.reasons):
        assert stopped.reasons[k] == (reason if is_due[k] else None)
        assert longer.reasons[k] == (reason if diverged[k] else None)


def test_a_run_without_a_best_epoch_keeps_its_last_weights() -> None:
    """Though others of its stack have one: no weights of it end up in files, or in its network."""
    best = BestWeights()
    best.reset(2)
    for epoch, loss in ((1, 0.5), (2, 0.4)):
        best.on_validation_end(Runs(epoch, [np.inf, loss]))  # type: ignore[abstract]
    record: Any = Runs(2, [np.inf, 0.4])  # type: ignore[abstract]
    best.on_fit_end(record)
    weights, runs = record.ended
    assert runs.tolist() == [False, True]
    assert weights["weight"][1].tolist() == [2.0] * 3
    assert best.state_dict(0)["weights"] == {}
    assert best.manifest_entries(0) == {"best_epoch": 0}
    never: Any = Runs(2, [np.inf, np.inf])  # type: ignore[abstract]
    alone = BestWeights()
    alone.reset(2)
    alone.on_validation_end(never)
    alone.on_fit_end(never)
    assert not hasattr(never, "ended")


def test_callbacks_that_keep_and_stop_need_torch_alone() -> None:
    """So that a stack can run them."""
    code = (
        "import sys; import multilayer.callbacks.early_stopping, multilayer.callbacks.checkpoint, "
        "multilayer.callbacks.learning_rate; assert 'pytorch_lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_trainer_of_the_docs_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains, and leaves what it says."""
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(block.replace("max_epochs=20", "max_epochs=2, logger=False, accelerator='cpu'"), names)
    module = MulticlassModule(MLP(4, 3), optimizer=torch.optim.SGD)
    names["trainer"].fit(module, BuiltinData(name="iris", batch_size=16))
    for name in ("history.csv", "figures/learning_curves.png"):
        assert (tmp_path / "runs" / "mine" / name).is_file()


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
@pytest.mark.parametrize(
    ("words", "status", "reason", "warning"),
    [
        (["after:1"], "pruned", "hopeless", None),
        (["after:9"], "done", "reached trainer.max_epochs=3", "it has not stopped the run"),
        (["after:1", "status:won"], "done", "hopeless", "expected 'diverged' or 'pruned'"),
        (["after:9", "early"], "done", "early stopping", "it has not stopped the run"),
    ],
)
def test_a_status_is_that_of_a_callback_that_has_stopped_the_run(
    multilayer: Run,
    engine: str,
    words: list[str],
    status: str,
    reason: str,
    warning: str | None,
) -> None:
    """What others say is left out, with a warning; it must be one that there is."""
    own = ",".join(["_target_:tests.lockstep.callbacks.Prunes", *words]).removesuffix(",early")
    early = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=99"]
    outcome = multilayer(
        "train",
        *QUICK,
        f"engine={engine}",
        "trainer.max_epochs=3",
        "hydra.run.dir=run",
        f"+callbacks.own={{{own}}}",
        *(early if "early" in words else []),
    )
    assert outcome.code == 0, outcome.err
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["status"] == status
    assert manifest["stop_reason"].startswith(reason)
    said = re.findall(
        "Prunes: the status '.*' of its manifest_entries is left out: (.*)", outcome.err
    )
    assert said == ([warning] if warning else [])
