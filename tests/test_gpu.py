"""The same commands on a GPU."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.training.evaluate import evaluate

from .conftest import Run

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
    question = {
        "run": str(tmp_path),
        "split": "test",
        "data": {"path": None},
        "trusted_packages": [],
    }
    assert evaluate(question | {"device": "gpu"}).metrics == result.metrics["test"]
    on_cpu = evaluate(question | {"device": "cpu"}).metrics
    assert on_cpu["loss"] == pytest.approx(result.metrics["test"]["loss"], rel=1e-3)


def test_a_stack_on_the_gpu_trains_as_on_the_cpu(multilayer: Run, tmp_path: Path) -> None:
    """Compiled and not; the losses agree to the rounding of other sums."""
    words = ["train", "-m", "hydra/launcher=lockstep", "trainer.max_epochs=2", "seed=0,1"]
    losses = {}
    for name, own in {
        "cpu": ["trainer=cpu"],
        "eager": ["trainer=gpu", "compile=false"],
        "compiled": ["trainer=gpu", "compile=true"],
    }.items():
        outcome = multilayer(*words, *own, f"hydra.sweep.dir={name}")
        assert outcome.code == 0, outcome.err
        metrics = json.loads((tmp_path / name / "1" / "metrics.json").read_text())
        losses[name] = metrics["validation"]["loss"]
    assert losses["eager"] == pytest.approx(losses["cpu"], rel=1e-3)
    assert losses["compiled"] == pytest.approx(losses["cpu"], rel=1e-3)


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_table_is_trained_on_as_on_the_cpu(tmp_path: Path, stream: str) -> None:
    """From the memory of the GPU, and streamed to it."""
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)).numpy()
    words = ["red", "green", "blue", None] * 1000
    frame = pl.DataFrame({"x": x, "word": words, "y": (2 * x).tolist()})
    frame.write_parquet(tmp_path / "t.parquet")
    losses = {}
    for device in ("cpu", "gpu"):
        overrides = [
            "data=table", f"data.path={tmp_path / 't.parquet'}", "data.target=y",
            f"data.stream={stream}", f"trainer={device}", "trainer.max_epochs=2",
        ]  # fmt: skip
        config = check_command_line("train", overrides)
        assert config is not None
        result = train(config, tmp_path / device, quiet=True)
        losses[device] = result.metrics["validation"]["loss"]
    assert losses["gpu"] == pytest.approx(losses["cpu"], rel=1e-2)


def test_the_fit_after_a_sweep_of_rates_is_the_one_that_names_the_rate(tmp_path: Path) -> None:
    """The short trainings on the GPU leave its random numbers and its weights alone."""
    quick = ["trainer=gpu", "trainer.max_epochs=3", "model.dropout=0.2", "compile=false"]
    swept = [*quick, "callbacks=[default,lr_sweep]", "callbacks.lr_sweep.n_rates=8"]
    metrics = []
    for name, overrides in (("swept", swept), ("by_hand", quick)):
        rate = [f"optimizer.lr={rate_of(tmp_path / 'swept')}"] if metrics else []
        config = check_command_line("train", [*overrides, *rate])
        assert config is not None
        metrics.append(train(config, tmp_path / name, quiet=True).metrics)
    assert metrics[0] == metrics[1]


def rate_of(folder: Path) -> float:
    rate: float = yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"]
    return rate
