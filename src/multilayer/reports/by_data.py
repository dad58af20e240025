"""The parts of a sweep that are of different data, between which no metric can be compared."""

from dataclasses import dataclass, replace

from multilayer.reports.configs import ConfigResult, rank_configs
from multilayer.reports.effects import Finding
from multilayer.reports.findings import find
from multilayer.reports.runs import group_by_data
from multilayer.reports.significance import compare, verdict
from multilayer.reports.sweep import Sweep, what_is_compared


@dataclass(frozen=True)
class Part:
    """What is said of runs of the same data.

    Attributes:
        name: of the data; empty where all runs of the sweep are of the same.
        sweep: with these runs alone.
        configs: theirs, best first.
        verdict: whether the best can be told from the second.
        findings: what else there is to say.
    """

    name: str
    sweep: Sweep
    configs: list[ConfigResult]
    verdict: str
    findings: list[Finding]


def parts_of(sweep: Sweep) -> list[Part]:
    """The parts of a sweep; a single one where all runs are of the same data."""
    groups = group_by_data(sweep.runs)
    if len(groups) == 1:
        return [_part("", sweep)]
    parts = []
    for name, runs in groups.items():
        has_metric = any(run.metric(sweep.metric) is not None for run in runs)
        own = what_is_compared(runs, sweep.metric if has_metric else None)
        parts.append(_part(name, replace(sweep, runs=runs, **own)))
    return parts


def _part(name: str, sweep: Sweep) -> Part:
    """A part, from its runs."""
    configs = rank_configs(sweep)
    comparisons = compare(configs, sweep.sign)
    text = verdict(sweep, configs, comparisons)
    return Part(name, sweep, configs, text, find(sweep, configs, comparisons))
