"""Lightning's TensorBoard logger, writing event files, and how TensorBoard lays out the curves."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from threading import Thread
from time import monotonic

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

SECONDS_BETWEEN_FLUSHES = 2.0

write_events = _AsyncWriterThread.run


def write_events_quietly(thread: Thread) -> None:
    """What TensorBoard's thread does; what it fails of, the writer raises at the next event."""
    with suppress(OSError):
        write_events(thread)


_AsyncWriterThread.run = write_events_quietly


class TensorBoard(TensorBoardLogger):
    """Event files in `tensorboard/` of the run folder.

    The run folder has its own config, so that Lightning's `hparams.yaml`, its placeholder
    `hp_metric` and its curve of the epoch number are left out. The tab "Custom Scalars" shows the
    loss and each metric in one chart for training and validation.
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
        """Flush the event files, so that TensorBoard shows a run while it lasts."""
        if monotonic() - self.flushed > SECONDS_BETWEEN_FLUSHES:
            self.experiment.flush()
            self.flushed = monotonic()


def charts_of(names: Collection[str]) -> dict[str, list[str | list[str]]]:
    """A chart for each metric that is there for training and validation, its turning point in it.

    TensorBoard takes the tags for patterns: a bare `train/loss` would be `train/loss_step` too.

    >>> charts_of(["train/loss", "validation/loss", "train/loss_step"])
    {'loss': ['Multiline', ['^train/loss$', '^validation/loss$', '^turning_point/loss$']]}
    """
    both = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    metrics = [metric for metric in both if f"validation/{metric}" in names]
    splits = ("train", "validation", "turning_point")
    return {
        metric: ["Multiline", [f"^{split}/{metric}$" for split in splits]] for metric in metrics
    }
