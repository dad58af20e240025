"""What is wrong with a module's parts, its minibatches or its size: one message that says it."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from multilayer import (
    MLP,
    BinaryCrossEntropy,
    BinaryModule,
    CrossEntropy,
    MulticlassModule,
    RegressionModule,
    SupervisedModule,
)
from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.training.epoch_outputs import EpochOutputs

from ..conftest import Run
from ..trained import config_of
from .test_module import adam, quiet_trainer

WEIGHTS = [torch.zeros(1, requires_grad=True)]
TARGETS = {"regression": torch.float32, "multiclass": torch.int64}
SQUEEZE = r"target\.squeeze\(1\)"


class Frozen(nn.Sequential):
    """A network of a user's own that nothing can be learnt by."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__(nn.Linear(n_features, n_outputs))
        self.requires_grad_(False)


class Bare(nn.Sequential):
    """A network without weights."""


def loader(*tensors: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*tensors), batch_size=len(tensors[0]))


def step(module: SupervisedModule, n_features: int, target: Tensor) -> float:
    """The loss of a minibatch of as many rows as the target has."""
    return module.step((torch.zeros(len(target), n_features), target), EpochOutputs()).item()


@pytest.mark.parametrize(
    ("kind", "n_outputs", "target", "message"),
    [
        (RegressionModule, 1, torch.zeros(4, 1), SQUEEZE),
        (BinaryModule, 1, torch.zeros(4, 1), SQUEEZE),
        (MulticlassModule, 3, torch.zeros(4, 1).long(), SQUEEZE),
        (RegressionModule, 1, torch.zeros(4, 2), "one value a row"),
        (RegressionModule, 2, torch.zeros(4), "one output a row"),
        (BinaryModule, 2, torch.zeros(4), "MulticlassModule"),
        (BinaryModule, 2, torch.zeros(4, 2), "one value a row"),
        (MulticlassModule, 1, torch.zeros(4).long(), "BinaryModule"),
        (MulticlassModule, 3, torch.zeros(4), r"target\.long\(\)"),
        (MulticlassModule, 3, torch.zeros(4, 3), "one value a row"),
        (MulticlassModule, 3, torch.tensor([0, 1, 2, 3]), "holds 3, but the 3 classes .* 0 to 2"),
        (MulticlassModule, 3, torch.tensor([0, 1, 2, -100]), "holds -100"),
        (BinaryModule, 1, torch.tensor([0, 1, -1, 1]), "holds -1, but the 2 classes"),
        (BinaryModule, 1, torch.tensor([0.0, 1.0, 0.5, 1.0]), "holds 0.5, but the 2 classes"),
        (BinaryModule, 1, torch.tensor([0.0, 1.0, torch.nan, 1.0]), "holds nan"),
    ],
)
def test_outputs_and_targets_that_do_not_go_together_are_told(
    kind: type[SupervisedModule], n_outputs: int, target: Tensor, message: str
) -> None:
    """By their shapes, where torch would broadcast them, or by the value that is no class."""
    with pytest.raises(UserError, match=message) as error:
        step(kind(MLP(2, n_outputs)), 2, target)
    if "holds" not in message:
        assert f"target {tuple(target.shape)}" in str(error.value)


@given(output=st.lists(st.integers(1, 3), max_size=3), target=st.lists(st.integers(1, 3)))
def test_losses_alone_take_one_pair_of_shapes(output: list[int], target: list[int]) -> None:
    """Any other pair is refused, with both shapes."""
    for loss, n_dimensions in ((BinaryCrossEntropy(), 1), (CrossEntropy(), 2)):
        logits, classes = torch.zeros(output), torch.zeros(target[:3], dtype=torch.int64)
        fits = logits.ndim == n_dimensions and list(classes.shape) == output[:1]
        if fits:
            assert loss(logits, classes).ndim == 0
            continue
        with pytest.raises(UserError) as error:
            loss(logits, classes)
        assert f"outputs {tuple(output)} and target {tuple(classes.shape)}" in str(error.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_class_indices_may_be_whole_numbers_of_any_kind(dtype: torch.dtype) -> None:
    """As numpy and pandas give them."""
    target = torch.tensor([0, 1, 2])
    module = MulticlassModule(MLP(2, 3))
    assert step(module, 2, target.to(dtype)) == step(module, 2, target)


def test_a_class_that_a_loss_of_the_users_lets_through_is_told() -> None:
    """When the metrics are taken."""
    module = BinaryModule(MLP(2, 1), loss=nn.BCEWithLogitsLoss())
    with pytest.raises(UserError, match="holds 2"):
        module.evaluate([(torch.zeros(2, 2), torch.tensor([1.0, 2.0]))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": Adam(WEIGHTS)}, "optimizer: .* functools.partial.*object of type Adam"),
        ({"optimizer": 0.1}, "optimizer: .*object of type float"),
        ({"scheduler": StepLR(SGD(WEIGHTS), 1)}, "scheduler: .*object of type StepLR"),
        ({"loss": nn.MSELoss}, "loss: .*the class MSELoss"),
        ({"loss": "mse"}, "loss: .*object of type str"),
        ({"loss": CrossEntropy()}, "CrossEntropy is for multiclass"),
        ({"loss": nn.MSELoss(reduction="sum")}, "use reduction='mean', not 'sum'"),
        ({"loss": partial(F.mse_loss, reduction="sum")}, "use reduction='mean', not 'sum'"),
        ({"network": MLP}, "network: .*the class MLP"),
        ({"scheduler_interval": "epochs"}, "scheduler_interval: must be .* got 'epochs'"),
    ],
)
def test_parts_of_another_kind_are_told(arguments: dict[str, Any], message: str) -> None:
    """Where they are given: a class for an object, or an object for what makes one."""
    with pytest.raises(UserError, match=message):
        RegressionModule(**{"network": MLP(2, 1)} | arguments)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (RegressionModule(MLP(2, 1)), "optimizer: a module to be trained needs one"),
        (RegressionModule(Frozen(2, 1), optimizer=adam), "all 2 of its parameters are frozen"),
        (RegressionModule(Bare(), optimizer=adam), "Bare has no weights to train: it has none"),
        (RegressionModule(MLP(2, 1), optimizer=partial(SGD, lr="0.1")), "optimizer: .*lr='0.1'"),
        (RegressionModule(MLP(2, 1), optimizer=lambda _: SGD), "optimizer: .*got the class SGD"),  # type: ignore[arg-type, return-value]
        (
            RegressionModule(MLP(2, 1), optimizer=adam, scheduler=StepLR),  # type: ignore[arg-type]
            "scheduler: .*'step_size'",
        ),
        (
            RegressionModule(MLP(2, 1), optimizer=adam, loss=nn.MSELoss(reduction="none")),
            r"loss: .*the shape \(4,\); use reduction='mean'",
        ),
        (
            MulticlassModule(MLP(2, 3), optimizer=adam, loss=CrossEntropy(class_weights=[1, 2])),
            "class_weights must hold 3 numbers, got 2",
        ),
    ],
)
def test_a_module_that_cannot_be_trained_is_told(
    tmp_path: Path, module: SupervisedModule, message: str
) -> None:
    """Before the first step."""
    rows = loader(torch.zeros(4, 2), torch.zeros(4, dtype=TARGETS[module.task]))
    with pytest.raises(UserError, match=message):
        quiet_trainer(tmp_path).fit(module, rows, rows)


@pytest.mark.parametrize(
    "loss", [nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits], ids=["object", "function"]
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64])
def test_a_loss_of_torchs_trains_as_ours(tmp_path: Path, loss: Any, dtype: torch.dtype) -> None:
    """Whatever kind of numbers the classes are, as an object or a function."""
    torch.manual_seed(0)
    target = torch.arange(8) % 2
    rows = loader(torch.randn(8, 2), target.to(dtype))
    found = []
    for own in (loss, None):
        torch.manual_seed(0)
        trainer = quiet_trainer(tmp_path)
        trainer.fit(BinaryModule(MLP(2, 1), loss=own, optimizer=adam), rows, rows)
        found.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("batch", [torch.zeros(4, 2), (torch.zeros(4, 2),), ("a", "b")])
def test_a_minibatch_that_is_no_pair_is_told(batch: Any) -> None:
    """With the kinds of its parts."""
    with pytest.raises(UserError, match="two tensors, features and target, got"):
        RegressionModule(MLP(2, 1)).step(batch, EpochOutputs())


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_a_frozen_network_is_told_once(multilayer: Run, tmp_path: Path, launcher: str) -> None:
    """However many jobs a sweep has; nothing is trained."""
    model = f"{{_target_: {__name__}.Frozen, n_features: n_features, n_outputs: n_outputs}}\n"
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "frozen.yaml").write_text(model)
    sweep = ["-m", "--config-dir", "mine", f"hydra/launcher={launcher}", "seed=0,1,2"]
    outcome = multilayer("train", *sweep, "data=iris", "model=frozen")
    assert outcome.code == 1
    assert outcome.err.count("all 2 of its parameters are frozen") == 1
    assert not list(tmp_path.glob("sweeps/*/*/checkpoints"))


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]])
def test_a_network_far_too_large_is_told_once(multilayer: Run, sweep: list[str]) -> None:
    """With its size, before anything is allocated; of a sweep none starts."""
    outcome = multilayer("train", *sweep, "model.d_hidden=[1000000,1000000]")
    assert outcome.code == 2
    assert outcome.err.count("1,000,000,000,000 weights take at least") == 1
    assert len(outcome.err.splitlines()) == 1


def test_a_network_too_large_for_its_features_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted with the features of the data: weights, gradients, and copies of the best."""
    monkeypatch.setattr("multilayer.training.components.free_memory", lambda device: 4 * 4 * 9_091)
    config = config_of("data=iris", "trainer.max_epochs=1")
    assert train(config, tmp_path / "fits", quiet=True).manifest["status"] == "done"
    monkeypatch.setattr(
        "multilayer.training.components.free_memory", lambda device: 4 * 4 * 9_091 - 1
    )
    with pytest.raises(UserError, match=r"model\.d_hidden=\[128,64\]: 9,091 weights take at least"):
        train(config, tmp_path / "large", quiet=True)
    assert not (tmp_path / "large").exists()
