"""The runs of a sweep for TensorBoard's HParams tab: a row for each run, what varied, how it ended.

Written at the end of the sweep, when it is known what varied.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from multilayer.core.files import whole_file
from multilayer.reports.hyperparameters import as_column
from multilayer.reports.runs import SweepRun, varied

FILE = "events.out.tfevents.9999999999.hparams"
"""TensorBoard takes the files of a folder in the order of their names: this is the last."""

_LOGGER = "multilayer.training.TensorBoard"
"""The logger whose event files are in `tensorboard/` of the run folder."""

_SHOWN = ("loss", "accuracy", "rmse")
"""Final metrics of validation and test that have a column in addition to the one that is monitored:
the loss and the headline of each task."""


_STATUSES = {"done": 1, "diverged": 2, "failed": 2}
"""TensorBoard's STATUS_SUCCESS and STATUS_FAILURE; what is not here is unknown, 0."""


def write_hparams(runs: Sequence[SweepRun]) -> None:
    """Write the row of each run that logs to TensorBoard, over an earlier one.

    Args:
        runs: Runs whose configs can be read. Where `tensorboard/` is a link, which leads elsewhere,
            no row is written.

    Raises:
        UserError: A file cannot be written.
    """
    logged = [index for index, run in enumerate(runs) if _has_tensorboard(run)]
    if not logged:
        return
    from tensorboard.summary.writer.record_writer import RecordWriter

    columns = {key: as_column(values) for key, values in varied(list(runs)).items()}
    names = _metric_names(runs)
    experiment = _experiment(columns, names)
    for index in logged:
        hparams = {key: values[index] for key, values in columns.items()}
        with whole_file(runs[index].folder.path / "tensorboard" / FILE) as file:
            writer = RecordWriter(file)
            for event in _events(runs[index], experiment, hparams, names):
                writer.write(event.SerializeToString())


def _has_tensorboard(run: SweepRun) -> bool:
    """Whether a run has event files in its folder, or was to have."""
    loggers = filter(None, (run.config.get("logger") or {}).values())
    is_logged = any(node.get("_target_") == _LOGGER for node in loggers)
    return is_logged and not (run.folder.path / "tensorboard").is_symlink()


def _metric_names(runs: Sequence[SweepRun]) -> list[str]:
    """The final metrics that are shown: the monitored one first, then validation and test."""
    monitors = [run.config["monitor"] for run in runs]
    others = [f"{split}/{name}" for split in ("validation", "test") for name in _SHOWN]
    known = {
        f"{split}/{name}" for run in runs for split in run.metrics for name in run.metrics[split]
    }
    return [name for name in dict.fromkeys([*monitors, *others]) if name in known]


def _experiment(columns: dict[str, list[Any]], names: Sequence[str]) -> Any:
    """Which columns there are; without this summary TensorBoard would show every curve as a metric.

    torch's is given the ranges by which numbers are filtered, and the choices of texts.
    """
    from torch.utils.tensorboard import summary

    torch: Any = summary  # which has no types
    known = {key: [each for each in values if each is not None] for key, values in columns.items()}
    first = {key: values[0] for key, values in known.items()}
    experiment, _, _ = torch.hparams(first, dict.fromkeys(f"final/{name}" for name in names))
    with _plugin_data(experiment) as data:
        for info in data.experiment.hparam_infos:
            values, info.differs = known[info.name], True
            if isinstance(values[0], str):
                info.domain_discrete.extend(list(dict.fromkeys(values)))
            else:
                info.domain_interval.min_value = min(values)
                info.domain_interval.max_value = max(values)
        for info in data.experiment.metric_infos:
            info.display_name = info.name.tag.removeprefix("final/")
    return experiment


def _events(
    run: SweepRun, experiment: Any, values: dict[str, Any], names: Sequence[str]
) -> Iterator[Any]:
    """The row of a run as events: the columns, its values, how it ended, its final metrics."""
    from tensorboard.compat.proto.event_pb2 import Event
    from torch.utils.tensorboard import summary

    torch: Any = summary  # which has no types
    started = _seconds_of(run.manifest.get("started"))
    ended = started + (run.stack_seconds or run.seconds or 0.0)
    _, start, end = torch.hparams(values, {})
    with _plugin_data(start) as data:
        data.session_start_info.start_time_secs = started
    with _plugin_data(end) as data:
        data.session_end_info.status = _STATUSES.get(run.status, 0)
        data.session_end_info.end_time_secs = ended
    yield Event(wall_time=ended, file_version="brain.Event:2")
    for each in (experiment, start, end):
        yield Event(wall_time=ended, summary=each)
    for name in names:
        value = run.metric(name)
        if value is not None:
            scalar = torch.scalar(f"final/{name}", value)
            yield Event(wall_time=ended, step=run.manifest.get("steps") or 0, summary=scalar)


@contextmanager
def _plugin_data(summary: Any) -> Iterator[Any]:
    """What a summary of torch's says to TensorBoard's plugin, to be changed."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    plugin = summary.value[0].metadata.plugin_data
    data = HParamsPluginData.FromString(plugin.content)
    yield data
    plugin.content = data.SerializeToString()


def _seconds_of(started: str | None) -> float:
    """A time of a manifest in seconds since 1970; 0 where there is none."""
    try:
        return datetime.fromisoformat(started or "").timestamp()
    except (ValueError, OverflowError):
        return 0.0
