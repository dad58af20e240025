"""Draws what the network predicts for the validation rows, over the epochs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from multilayer.callbacks.best_weights import BestWeights
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
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.module import SupervisedModule


class Figures(EpochCallback):
    """Figures of the validation rows: in TensorBoard over the epochs, at the end as PNG.

    For classes a confusion matrix, a reliability diagram and ROC curves, and where there are two
    numeric columns the decision boundary; for numbers predicted against true values.

    TensorBoard gets them after epochs 1, 2, 4, 8 and so on and the last, since one takes some
    tenths of a second. The PNGs are of the best weights, where a `BestWeights` callback keeps them.
    There are none where predictions are not finite. Nothing of this changes the training.

    Args:
        folder: where the PNGs go; it is made if it is missing.
        n_rows: how many of the rows at most, evenly spread.
    """

    def __init__(self, *, folder: str | Path, n_rows: int = 10_000) -> None:
        if n_rows < 1:
            raise ValueError(f"n_rows must be at least 1, got {n_rows}")
        self.folder = Path(folder)
        self.n_rows = n_rows
        self.reset()

    def reset(self, n_runs: int = 1) -> None:
        """Begin with nothing drawn."""
        self.drawn_epoch = 0

    def on_fit_start(self, record: Record) -> None:
        """Make the folders above now: if they are gone at the end, they were removed."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, record: Record) -> None:
        """Draw after epochs 1, 2, 4, 8, ..."""
        epoch = int(record.epoch[0])
        if epoch & (epoch - 1) == 0:
            self._draw_epoch(record)

    def on_fit_end(self, record: Record) -> None:
        """Draw the last epoch, and save the figures of the best weights."""
        epoch = int(record.epoch[0])
        if epoch == 0 or not record.writes_files:
            return
        if self.drawn_epoch != epoch:
            self._draw_epoch(record)
        best = record.find(BestWeights)
        weights, when = None, f"epoch {epoch}"
        if best and best.weights:
            weights, when = best.weights, f"epoch {best.best_epoch[0]}, the best"
        with record.inspect(weights) as module:
            figures = figures_of(module, record.data, self.n_rows, when)
        for name, figure in figures.items():
            save_figure(figure, self.folder / f"{name}.png")

    def _draw_epoch(self, record: Record) -> None:
        """Draw the network as it was validated, for TensorBoard."""
        epoch = int(record.epoch[0])
        if record.tensorboard() is None:
            return
        with record.inspect(record.weights()) as module:
            figures = figures_of(module, record.data, self.n_rows, f"epoch {epoch}")
        for name, figure in figures.items():
            record.log_image(f"figures/{name}", figure)
        self.drawn_epoch = epoch


def figures_of(
    module: SupervisedModule, data: DataModule, n_rows: int, when: str
) -> dict[str, Figure]:
    """The figures for the task, by name; none where predictions are not finite.

    Args:
        module: in evaluation mode.
        data: the data.
        n_rows: how many of the validation rows at most, evenly spread.
        when: the epoch, for the titles.
    """
    features, target = data.split_tensors("validation", at_most=n_rows)
    with torch.no_grad():
        predictions = _predict(module, features)
        if not np.isfinite(predictions).all():
            return {}
        title = f"{when}: {len(target):,} validation rows"
        if module.task == "regression":
            true = module.targets(target.to(module.device)).cpu().numpy()
            return {"predicted": draw_predicted(predictions, true, data.columns.target, title)}
        figures = _figures_of_classes(predictions, target.numpy(), data.columns, title)
        if len(data.columns.features) == 2 and not data.columns.categories:
            figures["boundary"] = _boundary(module, data, n_rows, when)
    return figures


def _figures_of_classes(
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


def _boundary(module: SupervisedModule, data: DataModule, n_rows: int, when: str) -> Figure:
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
        return _predict(module, preprocessing(torch.from_numpy(columns).to(device)))

    about = data.columns
    return draw_boundary(
        probabilities, rows, about.features, about.classes, target=about.target, title=when
    )


def _predict(module: SupervisedModule, features: Tensor) -> Any:
    """Predictions for preprocessed rows: values `(N,)`, or probabilities `(N, n_classes)`."""
    parts = torch.split(features, EVALUATION_BATCH_SIZE)
    outputs = [module.output(part.to(module.device)).float() for part in parts]
    predictions = module.predictions(torch.cat(outputs)).cpu()
    if module.task == "binary":
        predictions = torch.stack([1 - predictions, predictions], dim=1)  # (N,) -> (N, 2)
    return predictions.numpy()
