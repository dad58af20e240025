"""Lightning's TensorBoard logger, writing event files and nothing else."""

from collections.abc import Mapping

from pytorch_lightning.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Event files in `tensorboard/` of the run folder.

    The run folder has its own config, so that Lightning's `hparams.yaml`, its placeholder
    `hp_metric` and its curve of the epoch number are left out.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step."""
        scalars = {name: value for name, value in metrics.items() if name != "epoch"}
        if scalars:
            super().log_metrics(scalars, step)

    def save(self) -> None:
        """Flush the event files."""
        self.experiment.flush()
