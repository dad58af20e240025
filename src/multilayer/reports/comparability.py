"""Whether the runs of a sweep can be compared at all: by one loss, and on the same data."""

from collections.abc import Iterator, Sequence

from multilayer.reports.runs import SweepRun

OF_ANY_LOSS = ("validation/accuracy", "validation/rmse")
"""What means the same whichever loss was trained: of classification, and of regression."""

DATA_KEYS = ("data", "data.name", "data.path", "data.target")


def losses_vary(keys: Sequence[str]) -> list[str]:
    """The keys of what varied that change what a loss means."""
    return [key for key in keys if key == "loss" or key.startswith("loss.")]


def metric_of_any_loss(runs: Sequence[SweepRun]) -> str | None:
    """The metric to compare by where losses differ; None where all runs lack one."""
    known = (name for name in OF_ANY_LOSS if any(run.metric(name) is not None for run in runs))
    return next(known, None)


def cautions(runs: Sequence[SweepRun], keys: Sequence[str], metric: str) -> Iterator[str]:
    """What a reader must know before any ranking of the configs.

    keys: of what varied.
    """
    losses = losses_vary(keys)
    if losses:
        which = f"{', '.join(losses)} varied, so that the losses of different configs are not"
        if metric.endswith("/loss"):
            yield f"{which} comparable, and yet {metric} ranks them: compare by another metric"
        else:
            yield f"{which} comparable; the configs are ranked by {metric}"
    prints = {run.manifest.get("data_fingerprint") for run in runs} - {None}
    if len(prints) > 1 or set(keys) & set(DATA_KEYS):
        yield f"the runs are of different data, between which {metric} is not comparable"
