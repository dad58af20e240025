"""The same commands on a GPU."""

from pathlib import Path

import pytest
import torch

from multilayer.config import check_command_line
from multilayer.evaluate import evaluate
from multilayer.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU"),
]


def test_a_run_on_the_gpu_is_evaluated_there_to_the_last_digit(tmp_path: Path) -> None:
    """Data and network are on the device; the checkpoint loads on the CPU too."""
    config = check_command_line("train", ["trainer=gpu", "trainer.max_epochs=3"])
    assert config is not None
    result = train(config, tmp_path, quiet=True)
    assert result.manifest["device"] == torch.cuda.get_device_name()
    question = {"run": str(tmp_path), "split": "test", "data": {"path": None}, "allow": []}
    assert evaluate(question | {"device": "gpu"}).metrics == result.metrics["test"]
    on_cpu = evaluate(question | {"device": "cpu"}).metrics
    assert on_cpu["loss"] == pytest.approx(result.metrics["test"]["loss"], rel=1e-3)
