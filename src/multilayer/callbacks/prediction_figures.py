"""Draws what the network predicts for the validation rows, over the epochs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from multilayer import plotting
from multilayer.callbacks.best_weights import BestWeights
from multilayer.core.text import counted
from multilayer.data import Dataset
from multilayer.data.dataset import EVALUATION_BATCH_SIZE
from multilayer.data.split import Split
from multilayer.data.table import Columns
from multilayer.nn.quantiles import MEDIAN
from multilayer.plotting.style import save_figure, shortened
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.task_model import TaskModel


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

    >>> from multilayer.training import lightning_callbacks
    >>> callbacks = lightning_callbacks(BestWeights(), Figures(folder="figures"))
    """

    def __init__(self, *, folder: str | Path, n_rows: int = 10_000) -> None:
        if n_rows < 1:
            raise ValueError(f"n_rows must be at least 1, got {n_rows}")
        self.folder = Path(folder)
        self.n_rows = n_rows
        self.reset()

    def reset(self, n_runs: int = 1) -> None:
        """Begin with nothing logged."""
        self.logged_epoch = 0

    def on_fit_start(self, record: Record) -> None:
        """Make the folders above now: if they are gone at the end, they were removed."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, record: Record) -> None:
        """Draw for TensorBoard after epochs 1, 2, 4, 8, ..."""
        epoch = int(record.epoch[0])
        if epoch & (epoch - 1) == 0:
            self._log(record)

    def on_fit_end(self, record: Record) -> None:
        """Draw the last epoch too, and save the figures of the best weights, or else of the last.

        Only now is it certain which epoch is the last: any callback may have ended the fit.
        """
        epoch, best = record.epoch[0], record.find(BestWeights)
        if epoch == 0 or not record.writes_files:
            return
        if self.logged_epoch != epoch:
            self._log(record)
        if best and best.best_epoch[0]:
            figures = self._draw(record, f"epoch {best.best_epoch[0]}, the best", best.weights)
        else:
            figures = self._draw(record, f"epoch {epoch}")
        for name, figure in figures:
            save_figure(figure, self.folder / f"{name}.png")

    def _log(self, record: Record) -> None:
        """Draw the network as it was validated, for TensorBoard."""
        if record.tensorboard() is not None:
            self.logged_epoch = int(record.epoch[0])
            for name, figure in self._draw(record, f"epoch {self.logged_epoch}", record.weights()):
                record.log_image(f"figures/{name}", figure)

    def _draw(
        self, record: Record, when: str, weights: Mapping[str, Tensor] | None = None
    ) -> Iterable[tuple[str, Figure]]:
        """The figures with their names, of these weights or those in place."""
        with record.inspect(weights) as module:
            return _figures_of(module, record.data, self.n_rows, when).items()


def _figures_of(module: TaskModel, data: Dataset, n_rows: int, when: str) -> dict[str, Figure]:
    """The figures for the task, by name; none where predictions are not finite.

    Args:
        module: in evaluation mode.
        data: the data.
        n_rows: how many of the validation rows at most, evenly spread.
        when: the epoch, for the titles.
    """
    features, target = data.split_tensors("validation", at_most=n_rows)
    predictions = _predict(module, features)
    if not np.isfinite(predictions).all():
        return {}
    title, columns = f"{when}: {counted(len(target), 'validation row')}", data.columns
    true = module.targets(target.to(module.device)).cpu().numpy()
    if module.levels:
        if MEDIAN not in module.levels:
            return {}
        predictions, title = predictions[:, module.levels.index(MEDIAN)], f"{title}, median"
    if module.task == "regression":
        return {"predicted": plotting.draw_predicted(predictions, true, columns.target, title)}
    figures = _figures_of_classes(predictions, true, columns, title)
    if len(columns.features) == 2 and not columns.categories:
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
    figures = {
        "confusion_matrix": plotting.draw_confusion_matrix(labels, target, classes, title),
        "calibration": plotting.draw_calibration(
            chance, happened, predicted=words[0], observed=words[1], title=title
        ),
        "roc": plotting.draw_roc(probabilities, target, classes, title),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _boundary(module: TaskModel, data: Dataset, n_rows: int, when: str) -> Figure:
    """The decision boundary over two numeric columns."""
    preprocessing, columns = data.preprocessing, data.columns
    device = preprocessing.mean.device
    splits: tuple[Split, ...] = ("train", "validation")
    rows: dict[str, Any] = {}
    for split in splits:
        features, target = data.split_tensors(split, at_most=n_rows)
        points = preprocessing.unscale_numbers(features.to(device)).cpu()
        rows[split] = points.numpy(), module.targets(target).numpy()

    def probabilities(points: Any) -> Any:
        return _predict(module, preprocessing(torch.from_numpy(points).to(device)))

    return plotting.draw_boundary(
        probabilities, rows, columns.features, columns.classes, target=columns.target, title=when
    )


@torch.no_grad()
def _predict(module: TaskModel, features: Tensor) -> Any:
    """Predictions for preprocessed rows: values `(N,)`, or probabilities `(N, n_classes)`."""
    parts = torch.split(features.to(module.device), EVALUATION_BATCH_SIZE)
    predictions = torch.cat([module.predict_features(part) for part in parts]).cpu()
    if module.task == "binary":
        predictions = torch.stack([1 - predictions, predictions], dim=1)  # (N,) -> (N, 2)
    return predictions.numpy()
