"""Lightning's TensorBoard logger, writing event files and nothing else."""

from collections.abc import Mapping
from time import monotonic

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary

SECONDS_BETWEEN_FLUSHES = 2.0


class TensorBoard(TensorBoardLogger):
    """Event files in `tensorboard/` of the run folder.

    The run folder has its own config, so that Lightning's `hparams.yaml`, its placeholder
    `hp_metric` and its curve of the epoch number are left out.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)
        self.flushed = monotonic()

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

    @rank_zero_only
    def save(self) -> None:
        """Flush the event files, so that TensorBoard shows a run while it lasts."""
        if monotonic() - self.flushed > SECONDS_BETWEEN_FLUSHES:
            self.experiment.flush()
            self.flushed = monotonic()
