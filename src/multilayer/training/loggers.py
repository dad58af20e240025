"""Lightning's TensorBoard logger, writing event files, and how TensorBoard lays out the curves."""

from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from time import monotonic

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

from multilayer.training.event_file import charts_of

_SECONDS_BETWEEN_FLUSHES = 2.0

_write_events = _AsyncWriterThread.run


def _write_events_quietly(thread: Thread) -> None:
    """Run TensorBoard's thread; its writer raises the error itself at the next event."""
    with suppress(OSError):
        _write_events(thread)


_AsyncWriterThread.run = _write_events_quietly


class TensorBoard(TensorBoardLogger):
    """Writes event files to `tensorboard/` in the run folder.

    The run folder has its own config, so Lightning's `hparams.yaml`, its placeholder
    `hp_metric` and its curve of the epoch number are left out. The tab "Custom Scalars" shows
    training and validation in one chart for the loss and each metric.

    Args:
        save_dir: the run folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)
        self.flushed = monotonic()
        self.has_charts = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step, as one event."""
        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in metrics.items()
            if name != "epoch"
        ]
        if values:
            self.experiment._get_file_writer().add_summary(Summary(value=values), step)
        if not self.has_charts and (charts := charts_of(metrics)):
            self.experiment.add_custom_scalars({"train and validation": charts})
            self.has_charts = True

    @rank_zero_only
    def save(self) -> None:
        """Flush the event files every few seconds, so that TensorBoard follows the run."""
        if monotonic() - self.flushed > _SECONDS_BETWEEN_FLUSHES:
            self.experiment.flush()
            self.flushed = monotonic()
