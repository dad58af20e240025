"""Lightning's TensorBoard logger, which writes its event file as a stack does."""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import TensorBoardLogger

from multilayer.training.event_file import EventFile

_SECONDS_BETWEEN_FLUSHES = 2.0


class TensorBoard(TensorBoardLogger):
    """Writes event files to `tensorboard/` in the run folder.

    The run folder has its own config, so Lightning's `hparams.yaml`, its placeholder
    `hp_metric` and its curve of the epoch number are left out. The tab "Custom Scalars" shows
    training and validation in one chart for the loss and each metric.

    Args:
        save_dir: the run folder.

    Attributes:
        n_steps_before: set for a run that goes on in its folder; see `EventFile`.

    >>> TensorBoard("runs/mine").log_dir
    'runs/mine/tensorboard/'
    """

    _experiment: Any
    n_steps_before: int | None = None

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)
        self.flushed = monotonic()

    @property
    @rank_zero_experiment
    def experiment(self) -> EventFile:
        """The event file, which has the methods of torch's `SummaryWriter`."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = EventFile(self.log_dir, self.n_steps_before)
            self._experiment.flush()  # the file is there from the start
        file: EventFile = self._experiment
        return file

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step, as one event."""
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if values:
            self.experiment.add_scalars_of_step(values, step)

    @rank_zero_only
    def save(self) -> None:
        """Flush the event files every few seconds, so that TensorBoard follows the run."""
        if monotonic() - self.flushed > _SECONDS_BETWEEN_FLUSHES:
            self.experiment.flush()
            self.flushed = monotonic()
