"""All that a sweep teaches beside its winner, in the sense of the tuning playbook.

Godbole, Dahl, Gilmer, Shallue and Nado 2023, Deep Learning Tuning Playbook.
"""

from collections.abc import Mapping, Sequence

from multilayer.reports.configs import Candidate
from multilayer.reports.curves import Curves
from multilayer.reports.findings.edges import edges_of_grid
from multilayer.reports.findings.effects import effects, settings_that_do_not_matter
from multilayer.reports.findings.finding import Finding
from multilayer.reports.findings.fit import fit_of_best, late_turn
from multilayer.reports.findings.length import Ending, gain_at_end, still_improving
from multilayer.reports.findings.noise import order_is_chance, residual_std
from multilayer.reports.findings.rates import rates_of_choices
from multilayer.reports.runs import SweepRun
from multilayer.reports.significance import Comparison
from multilayer.reports.sweep import Sweep


def find(
    sweep: Sweep,
    candidates: Sequence[Candidate],
    comparisons: Sequence[Comparison],
    curves: Mapping[str, Curves],
) -> list[Finding]:
    """The findings of a sweep; nothing where no config is sound.

    candidates: best first. comparisons: of the best with the others. curves: by the name of the
        run, of those that have some.
    """
    sound = [candidate for candidate in candidates if candidate.is_sound]
    if not sound:
        return []
    best = sound[0]
    endings = [ending_of(run, curves.get(run.name), sweep) for run in sweep.runs if is_done(run)]
    own_curves = [curves[run.name] for run in best.done if run.name in curves]
    is_clear = bool(comparisons) and comparisons[0].is_clear
    worth = effects(candidates, sweep.settings, sweep.sign)
    maybe = [
        *edges_of_grid(best, sweep.settings),
        order_is_chance(candidates, is_clear),
        *settings_that_do_not_matter(worth, residual_std(candidates)),
        *rates_of_choices(candidates, sweep.settings, sweep.sign),
        still_improving(endings, [run.name for run in best.done]),
        fit_of_best(best, candidates),
        late_turn(own_curves),
    ]
    return [finding for finding in maybe if finding]


def is_done(run: SweepRun) -> bool:
    """Whether a run came to its end."""
    return run.status == "done"


def ending_of(run: SweepRun, curve: Curves | None, sweep: Sweep) -> Ending:
    """How a run that is done ended."""
    return Ending(
        name=run.name,
        max_epochs=(run.config.get("trainer") or {}).get("max_epochs") or 0,
        best_epoch=run.manifest.get("best_epoch") or 0,
        ran_out="trainer.max_epochs" in str(run.manifest.get("stop_reason")),
        gain=gain_at_end(curve, sweep.metric, sweep.sign),
    )
