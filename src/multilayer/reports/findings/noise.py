"""What chance does to the metric, measured as the paired test does.

A seed that is hard for one config is hard for the others too. That part of its luck decides
between no two configs, and so it is taken out.
"""

from collections.abc import Sequence

import numpy as np

from multilayer.reports.configs import Candidate
from multilayer.reports.findings.finding import Finding, number
from multilayer.reports.seed_stats import pooled_std


def residual_std(candidates: Sequence[Candidate]) -> float | None:
    """The standard deviation of a run beside its config's mean, without what its seed does to all.

    Of a table config x seed it is what remains beside the means of rows and columns. It is that
    of the better half of the configs: hopeless ones vary more, and nobody chooses between them.
    Where they do not share two seeds, the deviations over seeds are pooled; None where no config
    has two.
    """
    half = better_half(candidates)
    shared = [seed for seed in half[0].scores if all(seed in it.scores for it in half)]
    if len(half) < 2 or len(shared) < 2:
        return pooled_std([it.score for it in half if it.score])
    scores = np.array([[it.scores[seed] for seed in shared] for it in half])  # (C, S)
    rows, columns = scores.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    residuals = scores - rows - columns + scores.mean()
    freedom = (len(half) - 1) * (len(shared) - 1)
    return float(np.sqrt((residuals**2).sum() / freedom))


def better_half(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The sound configs from the best to the median, two at least; they come best first."""
    sound = [candidate for candidate in candidates if candidate.is_sound]
    return sound[: max(2, (len(sound) + 1) // 2)]


def order_is_chance(candidates: Sequence[Candidate], is_clear: bool) -> Finding | None:
    """Whether the means are known no better than they differ.

    is_clear: whether the best is distinguishable from the second; then there is nothing to say.
    """
    half, residual = better_half(candidates), residual_std(candidates)
    if is_clear or residual is None or len(half) < 2:
        return None
    spread = float(np.std([candidate.mean for candidate in half], ddof=1))
    n = min(len(candidate.scores) for candidate in half)
    error = residual / n**0.5
    if error < spread or error == 0:
        return None
    return Finding(
        "trial variance is as large as the differences",
        f"among the better half of the configs ({len(half)}), the means have a standard deviation "
        f"of {number(spread)}, and chance alone one of {number(error)} for n = {n}: "
        "their order is largely chance",
    )
