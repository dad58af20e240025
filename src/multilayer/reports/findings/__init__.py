"""What a sweep teaches besides its winner, in the sense of the tuning playbook.

Godbole, Dahl, Gilmer, Shallue and Nado 2023, Deep Learning Tuning Playbook.
"""

from collections.abc import Sequence

from multilayer.reports.configs import Configs
from multilayer.reports.findings.best_lr_by_choice import best_lr_by_choice
from multilayer.reports.findings.effects import (
    effects,
    order_is_chance,
    residual_std,
    without_effect,
)
from multilayer.reports.findings.fit import fit_of_best, late_rise
from multilayer.reports.findings.grid_edge import at_grid_edge
from multilayer.reports.findings.thresholds import Finding
from multilayer.reports.findings.truncated import Ending, still_improving
from multilayer.reports.significance import Comparison
from multilayer.reports.sweep import Sweep


def find(sweep: Sweep, configs: Configs, comparisons: Sequence[Comparison]) -> list[Finding]:
    """The findings of a sweep; none where no config is valid.

    Args:
        sweep: The sweep.
        configs: Its configs, best first.
        comparisons: Of the best config with the others.
    """
    valid = [config for config in configs if config.is_valid]
    if not valid:
        return []
    best = valid[0]
    endings = [Ending.of(run, sweep) for run in sweep.runs if run.status == "done"]
    is_clear = bool(comparisons) and comparisons[0].is_clear
    found = effects(configs, sweep.hyperparameters, sweep.sign)
    maybe = [
        *at_grid_edge(best, sweep.hyperparameters),
        order_is_chance(configs, is_clear),
        *without_effect(found, residual_std(configs)),
        *best_lr_by_choice(configs, sweep.hyperparameters, sweep.sign),
        still_improving(endings, [run.name for run in best.done]),
        fit_of_best(best, configs),
        late_rise([sweep.curves[run.name] for run in best.done if run.name in sweep.curves]),
    ]
    return [finding for finding in maybe if finding]
