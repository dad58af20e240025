"""A tracker like those that have one active run in a process."""

import json
from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning.loggers import Logger


class Run:
    """A run of it, which is a file of lines."""

    active: ClassVar["Run | None"] = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.has_ended = False

    def log(self, values: dict[str, Any]) -> None:
        """Append values."""
        assert not self.has_ended
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def finish(self) -> None:
        """No other logger takes it any more."""
        self.has_ended = True
        if Run.active is self:
            Run.active = None


class WandbLogger(Logger):  # Lightning's has this name, and takes the active run too
    """Logs to the active run, or begins one in the run folder."""

    def __init__(self, save_dir: str, reinit: str | None = None) -> None:
        super().__init__()
        self.save_dir_, self.reinit = save_dir, reinit
        self._experiment: Run | None = None

    @property
    def experiment(self) -> Run:
        """The run."""
        if self._experiment is None:
            if self.reinit == "create_new":
                self._experiment = Run(Path(self.save_dir_) / "tracked.jsonl")
            else:
                Run.active = Run.active or Run(Path(self.save_dir_) / "tracked.jsonl")
                self._experiment = Run.active
        return self._experiment

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append metrics."""
        self.experiment.log({"step": step, **metrics})

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Lightning asks for it."""

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "tracker"

    version = name
