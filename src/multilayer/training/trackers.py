"""Trackers of experiments that have one active run in a process: jobs must not share it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from multilayer.runs.config import Config

_ENDS = {"WandbLogger": "finish", "CometLogger": "end"}
"""Lightning's loggers that take the active run of the process if there is one, and do not end it;
and how their experiments do."""

_OWN_RUN = ("reinit", "create_new")
"""With this argument Weights & Biases begins a run next to those that are active."""


def shares_active_run(kind: object, node: Config) -> bool:
    """Whether loggers of several jobs that train at the same time would log to one run.

    Args:
        kind: the logger's class.
        node: its config.
    """
    key, value = _OWN_RUN
    return _end_of(kind) is not None and node.get(key) != value


def _end_of(kind: object) -> str | None:
    """The method that ends the experiment of a logger's class; None where nothing has to."""
    names = (each.__name__ for each in getattr(kind, "__mro__", ()))
    return next((_ENDS[name] for name in names if name in _ENDS), None)


def end_run(logger: object) -> None:
    """End the run that a logger has begun, so that the next job's begins another."""
    end, experiment = _end_of(type(logger)), getattr(logger, "_experiment", None)
    if end is not None and experiment is not None:
        getattr(experiment, end)()


@contextmanager
def runs_ended(loggers: Sequence[Any]) -> Iterator[None]:
    """End the runs of loggers after the block, however it ends."""
    try:
        yield
    finally:
        for logger in loggers:
            end_run(logger)
