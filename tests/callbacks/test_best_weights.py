"""Which weights are kept, where other callbacks swap in others for the validation."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from multilayer import MLP, BuiltinData, MulticlassModule
from multilayer.callbacks import BestWeights, Checkpoint, EarlyStopping, Figures, LearningCurves
from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.data import Preprocessing
from multilayer.lockstep.plan import why_not_stackable
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import Result
from multilayer.training.components import make_data
from multilayer.training.evaluate import evaluate
from multilayer.training.history import History
from multilayer.training.lightning_adapter import lightning_callbacks

from ..lockstep.test_equivalence import scalars
from ..training.test_module import quiet_trainer

LIGHTNINGS = "pytorch_lightning.callbacks"
SWA = {"_target_": f"{LIGHTNINGS}.StochasticWeightAveraging", "swa_lrs": 0.01}
EMA = {"_target_": f"{LIGHTNINGS}.EMAWeightAveraging", "decay": 0.9}
QUICK = ["data=iris", "trainer.max_epochs=5", "callbacks.progress=null"]


class Swaps(pl.Callback):
    """Averages the weights of the epochs, and lends the averages to each validation."""

    def __init__(self, swap_in: str, swap_out: str) -> None:
        self.others: list[torch.Tensor] = []
        setattr(self, swap_in, self.swap)
        setattr(self, swap_out, self.swap)

    def swap(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        for weight, other in zip(pl_module.parameters(), self.others, strict=True):
            weight.data, other.data = other.data, weight.data

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.others = [weight.detach().clone() for weight in pl_module.parameters()]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        for weight, other in zip(pl_module.parameters(), self.others, strict=True):
            other.lerp_(weight.detach(), 0.1)


class Halves(pl.Callback):
    """Halves the weights in a hook after the validation."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.halve)

    def halve(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for weight in pl_module.parameters():
            weight.data.mul_(0.5)


class LeavesOthers(pl.Callback):
    """Ends a fit with other weights than the best."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for weight in pl_module.parameters():
            weight.data.zero_()


class ChangesBefore(pl.Callback):
    """Has the hook in which others swap weights in."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pass


def config_with(callback: dict[str, Any], *overrides: str, first: bool = False) -> dict[str, Any]:
    """The config of a quick run with one more callback, before or after the others."""
    config = check_command_line("train", [*QUICK, *overrides])
    assert config is not None
    more = {"averaging": callback}
    config["callbacks"] = more | config["callbacks"] if first else config["callbacks"] | more
    return config


def check_kept(folder: Path, result: Result) -> None:
    """The curve, the metrics of the run, and what its folder evaluates to are of one network."""
    curves = scalars(folder)
    place = result.manifest["best_epoch"] - 1
    at_best = {
        name: curves[f"validation/{name}"][place][1] for name in result.metrics["validation"]
    }
    assert result.metrics["validation"] == pytest.approx(at_best, rel=1e-6)
    best = min(value for _, value in curves["validation/loss"])
    assert at_best["loss"] == best
    question = {"run": str(folder), "data": {"path": None}, "device": "cpu", "trusted_packages": []}
    for split, metrics in result.metrics.items():
        again = evaluate({**question, "split": split}).metrics
        assert again == pytest.approx(metrics, rel=1e-6)


def swaps() -> Iterator[Any]:
    """Where the callbacks of several authors swap in and out."""
    for swap_in, swap_out in (
        ("on_validation_start", "on_validation_end"),
        ("on_validation_epoch_start", "on_validation_epoch_end"),
        ("on_validation_start", "on_train_epoch_end"),
        ("on_validation_batch_start", "on_validation_batch_end"),
    ):
        node = {"_target_": f"{__name__}.Swaps", "swap_in": swap_in, "swap_out": swap_out}
        yield pytest.param(node, id=f"{swap_in} to {swap_out}")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("callback", [*swaps(), EMA, {"_target_": f"{LIGHTNINGS}.WeightAveraging"}])
def test_the_weights_that_were_validated_are_kept(
    tmp_path: Path, callback: dict[str, Any], first: bool
) -> None:
    """Whoever swapped them in, and wherever the callback stands."""
    result = train(config_with(callback, first=first), tmp_path, quiet=True)
    check_kept(tmp_path, result)


@pytest.mark.parametrize("hook", ["on_validation_epoch_end", "on_validation_end"])
def test_weights_that_change_after_a_validation_are_not_kept(tmp_path: Path, hook: str) -> None:
    """Though they change before they are known to be the best."""
    callback = {"_target_": f"{__name__}.Halves", "hook": hook}
    config = config_with(callback, first=True)
    check_kept(tmp_path, train(config, tmp_path, quiet=True))


def test_callbacks_used_again_forget_the_fit_before(tmp_path: Path) -> None:
    """They find for a second module what new ones find; a fit that is resumed goes on."""
    data = BuiltinData(name="iris")

    def fit(callbacks: list[Any], rate: float, n_epochs: int, **how: Any) -> Any:
        torch.manual_seed(0)
        make = partial(torch.optim.SGD, lr=rate)
        module = MulticlassModule(MLP(4, 3), optimizer=make)
        trainer = quiet_trainer(tmp_path, n_epochs)
        trainer.callbacks.extend(lightning_callbacks(*callbacks))  # type: ignore[attr-defined]
        trainer.fit(module, data, **how)
        columns = {**callbacks[2].columns(), "seconds": []}
        return module.state_dict(), [*(each.state_dict() for each in callbacks[:2]), columns]

    def callbacks() -> list[Any]:
        early = EarlyStopping(patience=2, min_delta=10.0)
        curves, figures = LearningCurves(folder=tmp_path), Figures(folder=tmp_path)
        history = History(folder=tmp_path)
        return [BestWeights(), early, history, curves, figures, Checkpoint(folder=tmp_path)]

    used = callbacks()
    fit(used, 0.5, 5)
    assert used[1].reasons != [None]
    weights, states = fit(used, 1e-6, 2)
    expected, expected_states = fit(callbacks(), 1e-6, 2)
    assert used[1].reasons == [None]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    torch.testing.assert_close(states, expected_states)
    resumed = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": True}
    _, states = fit(used, 1e-6, 3, **resumed)
    assert states[2]["epoch"] == [1, 2, 3]


@pytest.mark.parametrize("first", [True, False])
def test_a_fit_ends_with_the_best_weights(tmp_path: Path, first: bool) -> None:
    """Whatever other callbacks leave at its end."""
    callback = {"_target_": f"{__name__}.LeavesOthers"}
    check_kept(tmp_path, train(config_with(callback, first=first), tmp_path, quiet=True))


def test_averaging_weights_leaves_the_preprocessing(tmp_path: Path) -> None:
    """To the last bit: its numbers are no weights, and some of them are places of categories."""
    flats = Path(__file__).parents[1] / "golden" / "flats.csv"
    config = config_with(EMA, "data=table", f"data.path={flats}", "data.target=price")
    result = train(config, tmp_path, quiet=True)
    data_module = make_data(config)
    data_module.setup()
    for name in ("best", "last"):
        weights = read_checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt")["state_dict"]
        for key, value in data_module.preprocessing.state_dict().items():
            assert torch.equal(weights[f"preprocessing.{key}"], value), key
    check_kept(tmp_path, result)


def test_a_resumed_run_goes_on_averaging(tmp_path: Path) -> None:
    """It ends as the one that went through, to the last bit."""
    whole = train(config_with(EMA, "scheduler=constant"), tmp_path / "whole", quiet=True)
    words = ["scheduler=constant", "trainer.max_epochs=2"]
    train(config_with(EMA, *words), tmp_path / "half", quiet=True)
    resumed = config_with(EMA, f"resume={tmp_path / 'half'}")
    assert train(resumed, tmp_path / "resumed", quiet=True).metrics == whole.metrics


def test_averages_that_are_never_validated_are_refused(tmp_path: Path) -> None:
    """Before anything is written, and in a Trainer of the user's own before it trains."""
    with pytest.raises(UserError, match=r"StochasticWeightAveraging puts .*use .*WeightAveraging"):
        train(config_with(SWA), tmp_path / "refused", quiet=True)
    assert not (tmp_path / "refused").exists()
    average = pl.callbacks.StochasticWeightAveraging(swa_lrs=0.01)
    callbacks = lightning_callbacks(BestWeights(), average)
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=callbacks)
    with pytest.raises(UserError, match="StochasticWeightAveraging"):
        callbacks[0].setup(trainer, pl.LightningModule(), "fit")


def test_what_swaps_weights_is_no_member_of_a_stack() -> None:
    """A stack validates without the hooks before it: such a job trains alone, and it is said."""
    node = {"_target_": f"{__name__}.ChangesBefore"}
    reason = why_not_stackable(config_with(node))
    assert reason is not None
    assert "callbacks.averaging is a callback of Lightning's" in reason
    assert why_not_stackable(config_with(EMA)) is not None
    plain = check_command_line("train", QUICK)
    assert plain is not None
    assert why_not_stackable(plain) is None


def test_fitted_numbers_move_and_are_saved_with_the_weights() -> None:
    """Though they are neither parameters nor buffers."""
    fitted = Preprocessing(2).fit_(torch.tensor([[1.0, 5.0], [3.0, torch.nan]]))
    assert not [*fitted.parameters(), *fitted.buffers()]
    other = Preprocessing(2)
    other.load_state_dict(fitted.state_dict())
    rows = torch.tensor([[3.0, torch.nan]])
    assert torch.equal(other(rows), fitted(rows))
    other.mean += 1
    assert not torch.equal(other.mean, fitted.mean)
    assert other.to("meta").mean.device.type == "meta"
    with pytest.raises(RuntimeError, match=r"Missing key.*median"):
        other.load_state_dict({})
