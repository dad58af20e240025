"""Whether a step keeps to the device of its block.

torch's device "meta" stands in for a GPU: its tensors have no values, and do not mix with others.
"""

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from multilayer.nn.embeddings import PLRMLP
from multilayer.nn.losses import CrossEntropy
from multilayer.nn.mlp import MLP
from multilayer.stacking.block import make_block
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import group_of, stack_optimizer
from multilayer.stacking.step import Step
from multilayer.training.task_model import TaskModel

from ..lockstep.networks import Residual
from .test_block import take
from .test_optimizers import TORCHS

ELSEWHERE = torch.device("meta")
K, B, D = 3, 8, 5

NETWORKS = {
    "mlp": lambda: MLP(D, 4, d_hidden=[6, 6], normalization="batch", dropout=0.3),
    "embeddings": lambda: PLRMLP(D, 4, n_numbers=3, d_embedding=2, frequency_scale=0.5),
    "by vmap": lambda: Residual(D, 4),
}


def step_on(device: torch.device, network: str, kind: type[Optimizer]) -> list[Tensor]:
    """Losses, outputs and weights of a step on a device, and losses and outputs of a validation."""
    loss = CrossEntropy(label_smoothing=0.1, class_weights=[1.0, 2.0, 1.0, 1.0])
    own = [TaskModel(NETWORKS[network](), "multiclass", loss=loss).to(device) for _ in range(K)]
    model = StackedModel(own)
    groups = [group_of(kind([torch.zeros(1)], lr=0.1, weight_decay=0.1))] * K
    optimizer = stack_optimizer(kind, groups)
    step = Step(model, optimizer, clips=True)
    block = make_block(model, own, range(K), optimizer, groups)
    numbers = step.coefficients([groups], [1.0] * K, torch.zeros(K, dtype=torch.int64), 1)[0]
    step.traced = True  # nothing asks a tensor for its values
    rows = torch.zeros(K, B, D, device=device)
    target = torch.zeros(K, B, dtype=torch.int64, device=device)
    keys = torch.zeros(K, 2, dtype=torch.int32, device=device)
    found = take(step, block, rows, target, numbers.to(device, torch.float32), keys)
    return [*found, block.weights, *step.evaluate(block, rows[0], target[0])]


@pytest.mark.parametrize("kind", TORCHS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_on_another_device_keeps_to_it(
    network: str, kind: type[Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask or a number that is made on the CPU, where weights are elsewhere, would raise."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it knows no "meta"
    found = step_on(ELSEWHERE, network, kind)
    assert {each.device for each in found} == {ELSEWHERE}
