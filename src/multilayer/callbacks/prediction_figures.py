"""Draws what the network predicts for the validation rows, over the epochs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from multilayer.callbacks.best_epoch_marker import tensorboard_writer
from multilayer.callbacks.best_weights import find_best_weights
from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.callbacks.inspection_mode import trained_here, untouched
from multilayer.data import DataModule
from multilayer.data.datamodule import EVALUATION_BATCH_SIZE
from multilayer.data.split import Split
from multilayer.data.table import Columns
from multilayer.plotting import (
    draw_boundary,
    draw_calibration,
    draw_confusion_matrix,
    draw_predicted,
    draw_roc,
)
from multilayer.plotting.style import save_figure, shortened
from multilayer.training.module import SupervisedModule, copy_weights


class Figures(EpochsOnly):
    """Figures of the validation rows: in TensorBoard over the epochs, in the end as PNG.

    folder: where the PNGs go; it is made if it is missing.
    n_rows: how many of the rows at most, evenly spread.

    For classes a confusion matrix, a reliability diagram and ROC curves, and where there are two
    numeric columns the decision boundary; for numbers predicted against true values.

    TensorBoard gets them after epochs 1, 2, 4, 8 and so on and the last, since one takes some
    tenths of a second. The PNGs are of the best weights, where a `BestWeights` callback keeps them.
    There are none where predictions are not finite. Nothing of this changes the training.
    """

    def __init__(self, *, folder: str | Path, n_rows: int = 10_000) -> None:
        if n_rows < 1:
            raise ValueError(f"n_rows must be at least 1, got {n_rows}")
        self.folder = Path(folder)
        self.n_rows = n_rows
        self.reset()

    def reset(self) -> None:
        """Begin with nothing drawn."""
        self.epoch = 0
        self.drawn_epoch = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the folders above now: if they are gone at the end, they were removed."""
        super().setup(trainer, pl_module, stage)
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw after epochs 1, 2, 4, 8, ..."""
        self.epoch = trainer.current_epoch + 1
        if self.epoch & (self.epoch - 1) == 0:
            self.draw_epoch(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last epoch, and save what the network that is kept gives.

        `BestWeights` restores it in another hook, before or after the one of this callback.
        """
        if self.epoch == 0 or not trainer.is_global_zero:
            return
        if self.drawn_epoch != self.epoch:
            self.draw_epoch(trainer, pl_module)
        best = find_best_weights(trainer)
        module, data = trained_here(trainer, pl_module)
        weights = best.weights if best else {}
        when = f"epoch {best.best_epoch}, the best" if best and weights else f"epoch {self.epoch}"
        with holding(module, weights):
            figures = figures_of(module, data, self.n_rows, when)
        for name, figure in figures.items():
            save_figure(figure, self.folder / f"{name}.png")

    def draw_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the network as it is or was validated, for TensorBoard."""
        writer = tensorboard_writer(trainer)
        if writer is None:
            return
        module, data = trained_here(trainer, pl_module)
        best = find_best_weights(trainer)
        with holding(module, best.validated if best else {}):
            figures = figures_of(module, data, self.n_rows, f"epoch {self.epoch}")
        for name, figure in figures.items():
            step = trainer.global_step - 1  # as Lightning counts
            writer.add_figure(f"figures/{name}", figure, step)
        self.drawn_epoch = self.epoch


@contextmanager
def holding(module: pl.LightningModule, weights: dict[str, Tensor]) -> Iterator[None]:
    """Within it the module has other weights, if there are any."""
    if not weights:
        yield
        return
    current = copy_weights(module)
    module.load_state_dict(weights)
    try:
        yield
    finally:
        module.load_state_dict(current)


def figures_of(
    module: SupervisedModule, data: DataModule, n_rows: int, when: str
) -> dict[str, Figure]:
    """The figures for the task, by their names; none where predictions are not finite."""
    features, target = data.split_tensors("validation", at_most=n_rows)
    with untouched(module), torch.no_grad():
        predictions = predict(module, features)
        if not np.isfinite(predictions).all():
            return {}
        title = f"{when}: {len(target):,} validation rows"
        if module.task == "regression":
            true = module.targets(target.to(module.device)).cpu().numpy()
            return {"predicted": draw_predicted(predictions, true, data.columns.target, title)}
        figures = figures_of_classes(predictions, target.numpy(), data.columns, title)
        if len(data.columns.features) == 2 and not data.columns.categories:
            figures["boundary"] = boundary(module, data, n_rows, when)
    return figures


def figures_of_classes(
    probabilities: Any, target: Any, columns: Columns, title: str
) -> dict[str, Figure]:
    """The figures for classes; probabilities `(N, n_classes)`, target `(N,)` class indices."""
    labels, classes = probabilities.argmax(axis=1), columns.classes
    if len(classes) == 2:
        chance, happened = probabilities[:, 1], target
        of = f"{shortened(columns.target)} = {shortened(classes[1])}"
        words = f"predicted probability of {of}", f"share with {of}"
    else:
        chance, happened = probabilities.max(axis=1), labels == target
        words = "predicted probability of the likeliest class", "share that is of this class"
    predicted, observed = words
    calibration = draw_calibration(
        chance, happened, predicted=predicted, observed=observed, title=title
    )
    roc = draw_roc(probabilities, target, classes, title)
    return {
        "confusion_matrix": draw_confusion_matrix(labels, target, classes, title),
        "calibration": calibration,
        **({"roc": roc} if roc is not None else {}),
    }


def boundary(module: SupervisedModule, data: DataModule, n_rows: int, when: str) -> Figure:
    """The decision boundary over two numeric columns."""
    preprocessing = data.preprocessing
    device = preprocessing.mean.device
    splits: tuple[Split, ...] = ("train", "validation")
    rows: dict[str, Any] = {}
    for split in splits:
        features, target = data.split_tensors(split, at_most=n_rows)
        columns = preprocessing.unscale_numbers(features.to(device)).cpu()
        rows[split] = columns.numpy(), target.numpy()

    def probabilities(columns: Any) -> Any:
        return predict(module, preprocessing(torch.from_numpy(columns).to(device)))

    about = data.columns
    return draw_boundary(
        probabilities, rows, about.features, about.classes, target=about.target, title=when
    )


def predict(module: SupervisedModule, features: Tensor) -> Any:
    """Predictions for preprocessed rows: values `(N,)`, or probabilities `(N, n_classes)`."""
    parts = torch.split(features, EVALUATION_BATCH_SIZE)
    outputs = [module.output(part.to(module.device)).float() for part in parts]
    predictions = module.predictions(torch.cat(outputs)).cpu()
    if module.task == "binary":
        predictions = torch.stack([1 - predictions, predictions], dim=1)  # (N,) -> (N, 2)
    return predictions.numpy()
