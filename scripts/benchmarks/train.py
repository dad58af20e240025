"""How fast a whole default training is compared with its peers, in one run.

python scripts/benchmarks/train.py [--repeats 5]

The work: 50 epochs of digits (1257 rows), 64-128-64-10 relu, minibatches of 64, Adam, one CPU
thread. Rates are steps per second of the whole fit: what begins and ends it counts. Each round
measures all in turn, and the medians of the rounds are shown with their smallest and largest.
Progress bars are drawn, but not shown.
"""

import argparse
import gc
import io
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from measuring import Rates, config_of, measure, ratio, show, versions
from peers import bare_rate, fit_rate, raw_rate
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from multilayer import Dataset
from multilayer.cli.tasks import train
from multilayer.training.components import make_data, make_network
from multilayer.training.loss import make_loss
from multilayer.training.runtime import quiet_lightning

CONFIG = config_of("optimizer=adam", "scheduler=constant", "callbacks.early_stopping.patience=10")
N_EPOCHS = CONFIG["trainer"]["max_epochs"]


def adam(parameters: Any) -> torch.optim.Optimizer:
    """torch's Adam as it comes."""
    return torch.optim.Adam(parameters)


def fused_adam(parameters: Any) -> torch.optim.Optimizer:
    """The Adam of `multilayer train`: all weights in one pass."""
    return torch.optim.Adam(parameters, fused=True)


def make_parts() -> tuple[torch.nn.Module, torch.nn.Module]:
    """A new network, and the loss."""
    network = make_network(CONFIG["model"], n_features=64, n_outputs=10)
    return network, make_loss(CONFIG, "multiclass", 10)


class UsualModule(pl.LightningModule):
    """As most write it: loss and accuracy are logged each step, and over the validation rows."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.loss = make_parts()
        self.train_accuracy = MulticlassAccuracy(10, average="micro")
        self.validation_accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Log the loss and the accuracy."""
        logits = self.network(batch[0])
        loss = self.loss(logits, batch[1])
        self.train_accuracy(logits, batch[1])
        self.log("train/loss", loss)
        self.log("train/accuracy", self.train_accuracy)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Log the loss and the accuracy."""
        logits = self.network(batch[0])
        self.validation_accuracy(logits, batch[1])
        self.log("validation/loss", self.loss(logits, batch[1]))
        self.log("validation/accuracy", self.validation_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return adam(self.parameters())


def usual_rate(data: Dataset) -> float:
    """A module and a `DataLoader`, with Lightning's own bar, logger and checkpoints."""
    loaders = [
        DataLoader(
            TensorDataset(*data.split_tensors(split)), batch_size=64, shuffle=split == "train"
        )
        for split in ("train", "validation")
    ]
    with tempfile.TemporaryDirectory() as folder, unseen():
        trainer = pl.Trainer(accelerator="cpu", max_epochs=N_EPOCHS, default_root_dir=folder)
        return fit_rate(trainer, UsualModule(), *loaders)


def default_rate() -> float:
    """`multilayer train`, by the steps and seconds that its manifest tells."""
    with tempfile.TemporaryDirectory() as folder, unseen():
        manifest = train(CONFIG, Path(folder) / "run").manifest
    return manifest["steps"] / manifest["fit_seconds"]


@contextmanager
def unseen() -> Iterator[None]:
    """Let progress bars draw as on a terminal, into memory."""
    before = os.environ.get("FORCE_COLOR")
    os.environ["FORCE_COLOR"] = "1"  # rich then takes anything for a terminal
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        del os.environ["FORCE_COLOR"]
        if before is not None:
            os.environ["FORCE_COLOR"] = before


def split_of_a_step(rates: Rates) -> None:
    """Where the time of a step of the default training goes."""
    names = ("raw loop, fused Adam", "bare Lightning", "multilayer train")
    seconds = [1e6 / statistics.median(rates[name]) for name in names]
    step, lightning, whole = seconds
    print(f"a step of the default training: {whole:,.0f} us")
    for words, part in (
        ("the step itself, in a raw loop with fused Adam", step),
        ("Lightning's loop", lightning - step),
        ("validation, metrics, callbacks, event files, checkpoints", whole - lightning),
    ):
        print(f"  {words:60s} {part:5,.0f} us   {part / whole:4.0%}")


def main() -> None:
    """Print rates, ratios and the split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    quiet_lightning()
    print(versions("torch", "pytorch-lightning", "torchmetrics", "tensorboard"), "\n")
    torch.set_num_threads(1)
    data = make_data(CONFIG)
    data.setup()
    rows = data.split_tensors("train")
    parts = {
        "raw loop": lambda: raw_rate(rows, *make_parts(), adam, N_EPOCHS),
        "raw loop, fused Adam": lambda: raw_rate(rows, *make_parts(), fused_adam, N_EPOCHS),
        "bare Lightning": lambda: bare_rate(
            data.train_minibatches(), N_EPOCHS, *make_parts(), fused_adam
        ),
        "multilayer train": default_rate,
        "Lightning, DataLoader, logs each step": lambda: usual_rate(data),
    }
    measure(1, parts)  # what is done but once, such as importing TensorBoard
    gc.freeze()  # as the command does after its imports
    rates = measure(repeats, parts)
    show(rates)
    print()
    ratio(rates, "multilayer train", "raw loop", 0.55)
    ratio(rates, "multilayer train", "Lightning, DataLoader, logs each step", 1.8)
    print()
    split_of_a_step(rates)


if __name__ == "__main__":
    main()
