"""What the benchmarks compare with: a loop of plain PyTorch, and the least that Lightning needs."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


def raw_rate(
    rows: tuple[Tensor, Tensor],
    network: nn.Module,
    loss: nn.Module,
    make_optimizer: MakeOptimizer,
    n_epochs: int,
) -> float:
    """Steps per second of a loop over indexed tensors, which measures and writes nothing."""
    features, target = rows
    optimizer = make_optimizer(network.parameters())
    start, n_steps = perf_counter(), 0
    for _ in range(n_epochs):
        for indices in torch.randperm(len(target)).split(64):
            optimizer.zero_grad()
            loss(network(features[indices]), target[indices]).backward()
            optimizer.step()
            n_steps += 1
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


def bare_rate(minibatches: Any, n_epochs: int, *parts: Any) -> float:
    """Steps per second of Lightning's loop: no validation, metric, logger or callback."""
    trainer = pl.Trainer(
        accelerator="cpu",
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
