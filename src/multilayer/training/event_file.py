"""TensorBoard's event file of a run, written in batches.

TensorBoard's own writer has a thread for each file, and `torch.utils.tensorboard` takes half a
second to import: a stack has as many files as members, and most hold scalars alone.
"""

import socket
from collections import deque
from collections.abc import Collection, Mapping
from functools import cached_property
from io import BytesIO
from itertools import count
from os import getpid
from pathlib import Path
from threading import Lock
from time import time
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from multilayer.core.files import append_bytes, check_before_writing
from multilayer.runs.folder import HPARAMS_FILE

_PREFIX = "events.out.tfevents."
"""How names of event files begin; the second follows, and TensorBoard reads them in this order."""

_numbers = count()
"""Tells apart the files of one process that begin in the same second."""


class EventFile:
    """Collects events, and appends them to one file when asked to.

    One thread may add events while another one writes them. It also has the methods of
    `torch.utils.tensorboard.SummaryWriter`, which is imported if one that is not defined here is
    called; to that class it is an `EventFileWriter` of TensorBoard's.

    Args:
        folder: where the file goes; it is made if it is missing.
        n_steps_before: the optimizer steps after which the run goes on in its folder; TensorBoard
            hides what earlier files hold of later ones. None for a run that begins.
    """

    def __init__(self, folder: str | Path, n_steps_before: int | None = None) -> None:
        self.folder = Path(folder)
        self.events = deque([Event(wall_time=time(), file_version="brain.Event:2")])
        self.others: dict[str, Any] = {}  # made by `SummaryWriter.add_scalars`
        self.lock = Lock()
        second = int(time())
        if n_steps_before is not None:
            second = max(second, _last_second(self.folder) + 1)
            start = SessionLog(status=SessionLog.START)
            # TensorBoard takes the first one that it finds in a folder for that of the run.
            event = Event(wall_time=time(), step=n_steps_before, session_log=start)
            self.events.extend([event, event])
        name = f"{_PREFIX}{second:010d}.{socket.gethostname()}"
        self.path = self.folder / f"{name}.{getpid()}.{next(_numbers)}"
        self.exists = self.has_charts = False

    def add_scalars_of_step(
        self, values: Mapping[str, float], step: int | None, wall_time: float | None = None
    ) -> None:
        """Add scalars as one event, and with the first ones a chart for each metric.

        Args:
            values: by tag.
            step: the optimizer steps before; None for none, as in an evaluation.
            wall_time: when they were measured, in seconds since 1970; None for now.
        """
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self.add_summary(summary, step, wall_time)
        if not self.has_charts and (charts := _charts_of(values)):
            self.add_summary(_layout(charts), 0, wall_time)
            self.has_charts = True

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Add one scalar, with the arguments of `SummaryWriter.add_scalar`."""
        value = Summary.Value(tag=tag, simple_value=float(scalar_value))
        self.add_summary(Summary(value=[value]), global_step, walltime)

    def add_summary(self, summary: Any, step: int | None, wall_time: float | None = None) -> None:
        """Add an event."""
        event = Event(summary=summary, wall_time=time() if wall_time is None else wall_time)
        if step is not None:
            event.step = int(step)
        self.add_event(event)

    def add_event(self, event: Event) -> None:
        """Add an event that is complete."""
        self.events.append(event)

    def get_logdir(self) -> str:
        """The folder."""
        return str(self.folder)

    def flush(self) -> None:
        """Append what was collected to the file; nothing is made again that was removed."""
        with self.lock:
            if not self.exists:
                check_before_writing(self.path)
                self.folder.mkdir(exist_ok=True)
                self.path.open("xb").close()
                self.exists = True
            content = BytesIO()
            records = RecordWriter(content)
            while self.events:
                records.write(self.events.popleft().SerializeToString())
            append_bytes(self.path, content.getvalue())  # at once: a kill leaves no torn record
            for other in self.others.values():
                other.flush()

    def close(self) -> None:
        """The same: the file is open only while it is written."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        """A method of `SummaryWriter`, for figures, histograms and what else users add."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._summary_writer, name)

    def _get_file_writer(self) -> Any:
        """What Lightning's logger adds a run's hyperparameters to."""
        return self._summary_writer.file_writer

    @cached_property
    def _summary_writer(self) -> Any:
        """torch's writer, which adds its events to this file."""
        from torch.utils.tensorboard import FileWriter, SummaryWriter

        class Writer(SummaryWriter):
            def _get_file_writer(self) -> Any:  # all of its methods ask for it
                return file_writer

        file_writer = FileWriter.__new__(FileWriter)  # its constructor makes a file of its own
        file_writer.event_writer = self
        writer: Any = Writer(str(self.folder))
        writer.file_writer, writer.all_writers = file_writer, self.others
        return writer


def _last_second(folder: Path) -> int:
    """The second in the name of the latest event file of a training in a folder; 0 for none."""
    paths = [path for path in folder.glob(f"{_PREFIX}*") if path.name != HPARAMS_FILE]
    names = [path.name.removeprefix(_PREFIX) for path in paths]
    return max((int(name[:10]) for name in names if name[:10].isdigit()), default=0)


def _charts_of(names: Collection[str]) -> dict[str, list[str | list[str]]]:
    """One chart, with its turning point, for each metric of both training and validation.

    TensorBoard reads tags as patterns: a bare `train/loss` would match `train/loss_step` too.

    >>> _charts_of(["train/loss", "validation/loss", "train/loss_step"])
    {'loss': ['Multiline', ['^train/loss$', '^validation/loss$', '^turning_point/loss$']]}
    """
    both = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    metrics = [metric for metric in both if f"validation/{metric}" in names]
    splits = ("train", "validation", "turning_point")
    return {
        metric: ["Multiline", [f"^{split}/{metric}$" for split in splits]] for metric in metrics
    }


def _layout(charts: Mapping[str, Any]) -> Summary:
    """What `SummaryWriter.add_custom_scalars` adds for one category of charts."""
    made = [
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))
        for title, (_, tags) in charts.items()
    ]
    category = layout_pb2.Category(title="train and validation", chart=made)
    content = layout_pb2.Layout(category=[category]).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="custom_scalars")
    tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto())
    value = Summary.Value(
        tag="custom_scalars__config__", tensor=tensor, metadata=SummaryMetadata(plugin_data=plugin)
    )
    return Summary(value=[value])
