"""The runs of a sweep for TensorBoard's tab "HParams": a row a run, what varied, how it ended.

Written at the end of the sweep, when it is known what varied; without importing torch.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.summary.writer.record_writer import RecordWriter

from multilayer.core.files import whole_file
from multilayer.reports.hyperparameters import is_number
from multilayer.reports.runs import SweepRun, varied

LOGGER = "multilayer.training.TensorBoard"
"""The logger whose event files are in `tensorboard/` of the run folder."""

FILE = "events.out.tfevents.9999999999.hparams"
"""TensorBoard takes the files of a folder in the order of their names: this is the last."""

SHOWN = ("loss", "accuracy", "rmse")
"""The final metrics that have a column, of validation and test, beside the one that is monitored:
the loss and the headline of each task."""

STATUS = {
    "done": api_pb2.STATUS_SUCCESS,
    "diverged": api_pb2.STATUS_FAILURE,
    "failed": api_pb2.STATUS_FAILURE,
}
"""As TensorBoard shows them; what is not here is unknown."""

Value = bool | float | str


def write_hparams(runs: Sequence[SweepRun]) -> None:
    """Write the row of each run that logs to TensorBoard, over an earlier one.

    The runs have a config. Where `tensorboard/` is a link, which leads elsewhere, none is written.
    """
    shown = [has_tensorboard(run) for run in runs]
    if not any(shown):
        return
    hparams = {key: plain_values(values) for key, values in varied(list(runs)).items()}
    names = columns(runs)
    about = HParamsPluginData(experiment=experiment(hparams, names))
    for i, run in enumerate(runs):
        if shown[i]:
            own = {key: values[i] for key, values in hparams.items()}
            events = events_of(run, about, own, names)
            write_events(run.folder.path / "tensorboard" / FILE, events)


def has_tensorboard(run: SweepRun) -> bool:
    """Whether a run has event files in its folder, or was to have."""
    loggers = filter(None, (run.config.get("logger") or {}).values())
    is_logged = any(node.get("_target_") == LOGGER for node in loggers)
    return is_logged and not (run.folder.path / "tensorboard").is_symlink()


def columns(runs: Sequence[SweepRun]) -> list[str]:
    """The final metrics that are shown: the monitored one first, then validation and test."""
    monitors = [run.config["monitor"] for run in runs]
    others = [f"{split}/{name}" for split in ("validation", "test") for name in SHOWN]
    known = {
        f"{split}/{name}" for run in runs for split in run.metrics for name in run.metrics[split]
    }
    return [name for name in dict.fromkeys([*monitors, *others]) if name in known]


def plain_values(values: Sequence[Any]) -> list[Value]:
    """The values of a key over the runs, all of one kind.

    Numbers stay numbers, by which TensorBoard filters a range; beside words they are words too.

    >>> plain_values([1, 0.5]), plain_values([[4, 4], None]), plain_values([0, "auto"])
    ([1.0, 0.5], ['[4, 4]', 'null'], ['0', 'auto'])
    """
    if all(isinstance(value, bool) for value in values):
        return list(values)
    if all(is_number(value) for value in values):
        return [float(value) for value in values]
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def experiment(hparams: dict[str, list[Value]], names: Sequence[str]) -> api_pb2.Experiment:
    """Which columns there are; without it TensorBoard would show every curve as a metric."""
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"final/{name}"), display_name=name)
        for name in names
    ]
    infos = [hparam_info(key, values) for key, values in hparams.items()]
    return api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)


def hparam_info(key: str, values: Sequence[Value]) -> api_pb2.HParamInfo:
    """The kind of a column, and what it can be filtered by."""
    info = api_pb2.HParamInfo(name=key, differs=True)
    if isinstance(values[0], float):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value = min(values)
        info.domain_interval.max_value = max(values)
    else:
        is_bool = isinstance(values[0], bool)
        info.type = api_pb2.DATA_TYPE_BOOL if is_bool else api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(list(dict.fromkeys(values)))
    return info


def events_of(
    run: SweepRun, about: HParamsPluginData, hparams: dict[str, Value], names: Sequence[str]
) -> Iterable[Event]:
    """The row of a run as events: the columns, its values, how it ended, its final metrics."""
    started = seconds_of(run.manifest.get("started"))
    ended = started + (run.stack_seconds or run.seconds or 0.0)
    start = SessionStartInfo(start_time_secs=started)
    for key, value in hparams.items():
        set_value(start.hparams[key], value)
    status = STATUS.get(run.status, api_pb2.STATUS_UNKNOWN)
    end = SessionEndInfo(status=status, end_time_secs=ended)
    summaries = {
        metadata.EXPERIMENT_TAG: about,
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=end),
    }
    yield Event(wall_time=ended, file_version="brain.Event:2")
    for tag, data in summaries.items():
        value = Summary.Value(
            tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
        )
        yield Event(wall_time=ended, summary=Summary(value=[value]))
    finals = {name: run.metric(name) for name in names}
    values = [
        Summary.Value(tag=f"final/{name}", simple_value=value)
        for name, value in finals.items()
        if value is not None
    ]
    if values:
        yield Event(
            wall_time=ended, step=run.manifest.get("steps") or 0, summary=Summary(value=values)
        )


def seconds_of(started: str | None) -> float:
    """A time of a manifest in seconds since 1970; 0 where there is none."""
    try:
        return datetime.fromisoformat(started or "").timestamp()
    except (ValueError, OverflowError):
        return 0.0


def set_value(field: Any, value: Value) -> None:
    """Set a value of protobuf's own."""
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, float):
        field.number_value = value
    else:
        field.string_value = value


def write_events(path: Path, events: Iterable[Event]) -> None:
    """Write an event file."""
    with whole_file(path) as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
