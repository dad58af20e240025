"""What trying networks costs; which of them are a stack is tested in `tests/lockstep`."""

import subprocess
import sys


def test_a_stack_is_tried_without_torchs_compiler() -> None:
    """Importing it takes a second, which a stack that is not compiled need not pay."""
    program = """
import sys
import torch
from multilayer.nn.losses import CrossEntropy
from multilayer.nn.mlp import MLP
from multilayer.stacking.compat import compare
from multilayer.stacking.runner import StepRunner

class Module(torch.nn.Module):
    device, dtype = torch.device("cpu"), torch.float32
    def __init__(self):
        super().__init__()
        self.network, self.loss = MLP(4, 3, normalization="batch", dropout=0.5), CrossEntropy()
    def output(self, features):
        return self.network(features)
    def loss_of(self, output, target):
        return self.loss(output, target)

compare([Module(), Module()], torch.randn(2, 4), torch.tensor([0, 2]))
names = ("torch._dynamo", "torch._inductor", "sympy", "pytorch_lightning")
print([name for name in names if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.stdout == "[]\n", found.stderr
