"""What the benchmarks compare with: PyTorch, Lightning, scikit-learn, and JAX in a process."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

JAX = "jax==0.10.2"
_JAX_FOLDER = Path(".venv-benchmark")

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def raw_rate(
    rows: tuple[Tensor, Tensor],
    network: nn.Module,
    loss: nn.Module,
    make_optimizer: MakeOptimizer,
    n_epochs: int,
) -> float:
    """Steps per second of a loop over indexed tensors, which measures and writes nothing."""
    features, target = rows
    device = features.device
    network, loss = network.to(device), loss.to(device)
    optimizer = make_optimizer(network.parameters())
    start, n_steps = perf_counter(), 0
    for _ in range(n_epochs):
        for indices in torch.randperm(len(target), device=device).split(64):
            optimizer.zero_grad()
            loss(network(features[indices]), target[indices]).backward()
            optimizer.step()
            n_steps += 1
    synchronize(device)
    return n_steps / (perf_counter() - start)


class BareModule(pl.LightningModule):
    """The least that Lightning needs."""

    def __init__(self, network: nn.Module, loss: nn.Module, make_optimizer: MakeOptimizer) -> None:
        super().__init__()
        self.network, self.loss, self.make_optimizer = network, loss, make_optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss."""
        return self.loss(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self.make_optimizer(self.parameters())


def bare_rate(minibatches: Any, n_epochs: int, *parts: Any, accelerator: str = "cpu") -> float:
    """Steps per second of Lightning's loop: no validation, metric, logger or callback."""
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=n_epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return fit_rate(trainer, BareModule(*parts), minibatches)


def fit_rate(trainer: pl.Trainer, module: pl.LightningModule, *loaders: Any) -> float:
    """Steps per second of a whole fit."""
    start = perf_counter()
    trainer.fit(module, *loaders)
    return trainer.global_step / (perf_counter() - start)


def sklearn_rate(features: Tensor, target: Tensor, n_epochs: int) -> float:
    """Steps per second of scikit-learn's MLPClassifier, with one thread, which is faster here."""
    network = MLPClassifier(
        (128, 64), batch_size=64, max_iter=n_epochs, tol=0, n_iter_no_change=1000
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        start = perf_counter()
        network.fit(features.numpy(), target.numpy())
    return network.n_iter_ * -(-len(target) // 64) / (perf_counter() - start)


def install_jax() -> None:
    """Install JAX into an environment of its own."""
    python = _JAX_FOLDER / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_JAX_FOLDER)], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", JAX]
        subprocess.run(command, check=True)


def jax_rates(
    n_members: Sequence[int], seconds: float, rounds: int = 1, limit: float | None = None
) -> tuple[str, dict[int, list[float]]]:
    """Member-steps per second of JAX, in a process of its own.

    Args:
        n_members: numbers of members; one after the other is measured.
        seconds: of each measurement.
        rounds: measurements for each number of members.
        limit: seconds after which it is ended, with the rates that it has found until then.

    Returns:
        The device that it used, and the rates by number of members. Both are empty where there is
        no JAX.
    """
    own = _JAX_FOLDER / "bin" / "python"
    if not own.exists() and find_spec("jax") is None:
        return "", {}
    python = str(own) if own.exists() else sys.executable
    script = Path(__file__).with_name("jax_sweep.py")
    command = [python, str(script), str(seconds), str(rounds), *map(str, n_members)]
    # Otherwise it takes three quarters of a GPU's memory at once, and rounds products to TF32.
    own_way = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    environment = os.environ | own_way
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "timeout": limit, "env": environment}
    try:
        printed = subprocess.run(command, check=True, **options).stdout
    except subprocess.TimeoutExpired as late:
        printed = late.stdout or b""
    device, *lines = printed.decode().splitlines() or [""]
    numbers = [[float(word) for word in line.split()] for line in lines]
    return device, {int(first): values for first, *values in numbers}
