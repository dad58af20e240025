"""A trained run in Python: predictions, metrics, and what it was trained with."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor, nn

from multilayer.core.errors import UserError, first_line, unknown_name
from multilayer.core.files import refusing
from multilayer.data.batches import Minibatches, preprocess_features, preprocess_table
from multilayer.data.dataset import EVALUATION_BATCH_SIZE
from multilayer.data.origin import Origin
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.rows import Rows
from multilayer.data.split import Split
from multilayer.data.table import Columns, Table
from multilayer.data.table_builder import encode_features, encode_table
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat
from multilayer.nn.losses import Task
from multilayer.runs.config import is_refit
from multilayer.runs.folder import RunFolder
from multilayer.training.components import make_data
from multilayer.training.runtime import usable_threads, using_threads
from multilayer.training.task_model import TaskModel

if TYPE_CHECKING:
    from multilayer.training.module import SupervisedModule

log = logging.getLogger(__name__)


class Predictor:
    """A trained run, which predicts for raw rows and is evaluated on them; `load` makes it.

    Rows may be a polars or pandas frame, a numpy array, a dict of columns, or the path of a file.
    Columns are found by their names, in any order, and further ones are ignored; an array
    `(N, n_columns)` has the features alone, in the order of `columns.features`. Values are read as
    `multilayer predict` reads a file: missing ones, labels that the training did not know, times
    and numbers in text included. Any number of rows is predicted in batches.

    Results are numpy arrays, as scikit-learn's are, in float32 or wider. Lightning is imported by
    `module` alone, and Hydra not at all. torch's number of threads is that of the training while it
    predicts, and afterwards what it was.

    Args:
        task_model: the network with its loss and preprocessing, in evaluation mode.
        config: the run's config.
        columns: of the data that it was trained on.
        path: of the checkpoint.
        n_threads: with which it was trained.

    Attributes:
        task_model: maps raw columns `(B, n_columns)` to predictions.
        config: the run's config, as plain data.
        columns: the names of the features and the target, their labels and the classes.
        path: of the checkpoint.

    >>> import tempfile, multilayer
    >>> config = multilayer.compose("train", ["data=pass_class", "trainer.max_epochs=2"])
    >>> folder = tempfile.TemporaryDirectory()
    >>> result = multilayer.train(config, f"{folder.name}/run", quiet=True)
    >>> predictor = multilayer.load(f"{folder.name}/run")
    >>> rows = {"hours": [1.0, 45.0], "lectures": [1, 25]}
    >>> predictor.predict(rows)
    array(['no', 'yes'], dtype='<U3')
    >>> predictor.predict_proba(rows).shape
    (2, 2)
    >>> predictor.metrics() == result.metrics["test"]
    True
    >>> predictor.history.columns[:4]
    ['epoch', 'step', 'lr', 'seconds']
    >>> folder.cleanup()
    """

    def __init__(
        self,
        task_model: TaskModel,
        config: dict[str, Any],
        columns: Columns,
        path: Path,
        *,
        n_threads: int,
    ) -> None:
        self.task_model = task_model
        self.config = config
        self.columns = columns
        self.path = path
        self._n_threads = n_threads
        self._preprocessing_on_cpu: Preprocessing = deepcopy(self.preprocessing).cpu()

    def __repr__(self) -> str:
        return f"Predictor({str(self.path)!r}, task={self.task!r})"

    @property
    def task(self) -> Task:
        """Of the target: "binary", "multiclass" or "regression"."""
        return self.columns.task

    @property
    def network(self) -> nn.Module:
        """The network: preprocessed features `(B, n_features)` to logits or scaled values."""
        return self.task_model.network

    @property
    def preprocessing(self) -> Preprocessing:
        """The fitted preprocessing: raw columns `(B, n_columns)` to features `(B, n_features)`."""
        fitted = self.task_model.preprocessing
        assert isinstance(fitted, Preprocessing), "a run has one"
        return fitted

    @cached_property
    def classes(self) -> npt.NDArray[Any]:
        """The classes, `(n_classes,)`, in the type of the target; none in regression."""
        return np.array(self.columns.class_series.to_list())

    @cached_property
    def module(self) -> "SupervisedModule":
        """The LightningModule, in evaluation mode, whose network is this one, not a copy.

        To train it further, call `train()` and set `make_optimizer`.
        """
        from multilayer.training.module import MODULE_OF_TASK, SupervisedModule

        model = self.task_model
        if isinstance(model, SupervisedModule):  # of one's own, which the config names
            return model
        module = MODULE_OF_TASK[self.task](
            model.network,
            loss=model.loss,
            preprocessing=self.preprocessing,
            metadata=model.metadata,
            metrics=model.further_metrics,
        )
        return module.to(model.device, model.dtype).eval()

    @property
    def history(self) -> pl.DataFrame:
        """The run's `history.csv`, a row for each epoch; null where there is no value.

        Raises:
            UserError: The checkpoint is in no run folder, or the file is missing or damaged.
        """
        run = RunFolder(self.path.parent.parent)
        if self.path.parent.name != "checkpoints" or not run.manifest_file.exists():
            raise UserError(
                f"{self.path} is in no run folder, where history.csv would be: load the folder"
            )
        return _read_history(run.history_file)

    def predict(self, rows: Rows) -> npt.NDArray[Any]:
        """The predictions `(N,)`: the likeliest class, or the value in the units of the target.

        With `loss=quantile` they are the quantiles, `(N, n_levels)`.

        Classes have the type of the target in training (text is numpy's `<U`).

        Args:
            rows: `N` rows; see the class.

        Raises:
            UserError: A column is missing or of another kind, a value is infinite, or there are no
                rows.
        """
        predictions = self._predictions(rows)
        if self.task == "regression":
            return predictions.numpy()
        labels: npt.NDArray[Any] = self.classes[_probabilities(predictions).argmax(1).numpy()]
        return labels

    def predict_proba(self, rows: Rows) -> npt.NDArray[np.floating[Any]]:
        """The probability of each class, `(N, n_classes)`, in the order of `classes`.

        Args:
            rows: `N` rows; see the class.

        Raises:
            UserError: As `predict` does, and in regression.
        """
        if self.task == "regression":
            raise UserError(
                f"predict_proba is for classes; the target {self.columns.target!r} is a number: "
                "use predict"
            )
        return _probabilities(self._predictions(rows)).numpy()

    def predict_frame(self, rows: Rows) -> pl.DataFrame:
        """What `multilayer predict` writes: `prediction`, and `probability_CLASS` for each class.

        With `loss=quantile` it is `quantile_LEVEL` for each level.

        Args:
            rows: see the class.

        Raises:
            UserError: As `predict` does.
        """
        predictions = self._predictions(rows)
        if levels := self.task_model.levels:
            each = zip(levels, predictions.unbind(1), strict=True)
            return pl.DataFrame({f"quantile_{level}": own.numpy() for level, own in each})
        if self.task == "regression":
            return pl.DataFrame({"prediction": predictions.numpy()})
        probabilities = _probabilities(predictions)
        likeliest = self.columns.class_series.gather(probabilities.argmax(1).tolist())
        named = {
            f"probability_{label}": probabilities[:, index].numpy()
            for index, label in enumerate(self.columns.classes)
        }
        return pl.DataFrame({"prediction": likeliest, **named})

    def metrics(self, table: Rows | None = None, *, split: Split = "test") -> dict[str, float]:
        """The loss and every metric, as `multilayer evaluate` prints them.

        The loss of test rows, and of a table's, is neither smoothed nor weighted by class.

        Args:
            table: rows with the target among their columns; None for the run's own data.
            split: which rows of the run's own data, which is read again.

        Raises:
            UserError: As `predict` does, and where the target is missing or a class is unknown.
        """
        tests = table is not None or split == "test"
        return self.evaluate(self.minibatches(table, split=split), tests=tests)

    def minibatches(self, table: Rows | None = None, *, split: Split = "test") -> Minibatches:
        """The rows of `metrics`, preprocessed; the arguments are the same."""
        if table is None:
            return self._split(split, self.task_model.device)
        return self.preprocess(self.encode(table))

    def encode(self, table: Rows) -> Table:
        """Rows with their target, as numbers; see `metrics`."""
        frame, origin = self._read(table)
        weight = self.columns.weight
        if weight and weight not in frame.columns:
            log.warning(f"{origin.name} has no column {weight!r}, the weight of a row: all weigh 1")
            frame = frame.with_columns(pl.lit(1.0).alias(weight))
        return encode_table(frame, self.columns, origin)

    def preprocess(self, table: Table) -> Minibatches:
        """What was encoded, as the network takes it."""
        features, target = preprocess_table(self._preprocessing_on_cpu, table)
        device = self.task_model.device
        return Minibatches(features, target, batch_size=EVALUATION_BATCH_SIZE, device=device)

    def was_trained_on(self, table: Table) -> bool:
        """Whether this is the very table that the run's splits are of."""
        then = replace(table, features=table.features.to(self.preprocessing.raw_dtype))
        return bool(then.fingerprint() == self.task_model.metadata["data_fingerprint"])

    def evaluate(self, minibatches: Minibatches, *, tests: bool = True) -> dict[str, float]:
        """The loss and every metric over minibatches; see `TaskModel.evaluate`."""
        with self._as_trained():
            return self.task_model.evaluate(minibatches, tests=tests)

    @contextmanager
    def _as_trained(self) -> Iterator[None]:
        """With the threads of the training, and in evaluation mode even while `module` trains."""
        modes = {each: each.training for each in self.task_model.modules()}
        self.task_model.eval()
        try:
            with using_threads(usable_threads(self._n_threads)):
                yield
        finally:
            for each, mode in modes.items():
                each.training = mode

    def _read(self, rows: Rows) -> tuple[pl.DataFrame, Origin]:
        """Rows as a frame whose columns are read as in training."""
        return read_frame_like(rows, self.columns, TextFormat.of(self.config["data"]))

    @torch.no_grad()
    def _predictions(self, rows: Rows) -> Tensor:
        """The predictions of the task model for rows, on the CPU."""
        frame, origin = self._read(rows)
        raw = encode_features(frame, self.columns, origin)
        names = self.columns.features
        with self._as_trained():
            features = preprocess_features(self._preprocessing_on_cpu, raw, names, origin.describe)
            parts = torch.split(features, EVALUATION_BATCH_SIZE)
            return torch.cat([self.task_model.predict_features(part) for part in parts]).cpu()

    def _split(self, split: Split, device: torch.device) -> Minibatches:
        """The rows of one split of the run's own data, read again."""
        if split not in get_args(Split):
            raise UserError(unknown_name("split", str(split), get_args(Split)))
        if is_refit(self.config) and split == "validation":
            raise UserError("split=validation: a refit has been trained on these rows; it has none")
        data = make_data(self.config, self._preprocessing_on_cpu, self.columns)
        try:
            data.setup()
        except OSError as error:  # such as a path that cannot exist: the run may be someone else's
            raise UserError(f"the run's data cannot be read: {first_line(error)}") from error
        if data.fingerprint != self.task_model.metadata["data_fingerprint"]:
            log.warning("the data has changed since the training: these are other rows")
        return data.minibatches(split, device)


def _probabilities(predictions: Tensor) -> Tensor:
    """The probability of each class, `(N, n_classes)`; `(N,)` are those of class 1."""
    if predictions.ndim == 2:
        return predictions
    return torch.stack([1 - predictions, predictions], dim=1)  # (N,) -> (N, 2)


def _read_history(path: Path) -> pl.DataFrame:
    """A run's `history.csv`, without a row that is just being written.

    Raises:
        UserError: It is missing, or damaged.
    """
    with refusing(path, "is damaged", pl.exceptions.PolarsError, UnicodeDecodeError):
        text, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        frame = pl.read_csv(StringIO(text), infer_schema=False)
        whole = {"epoch": pl.Int64, "step": pl.Int64}
        return frame.cast({name: whole.get(name, pl.Float64) for name in frame.columns})
