"""What chance does to the metric: how much the runs of one config differ."""

from collections.abc import Sequence

import numpy as np

from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.findings.finding import Finding, number
from multilayer.sweeps.folding import pooled_std


def noise(candidates: Sequence[Candidate]) -> float | None:
    """The standard deviation over seeds that the better half of the sound configs share.

    Hopeless configs vary more, and nobody chooses between them. None without two seeds.
    """
    scores = [each.score for each in better_half(candidates) if each.score]
    return pooled_std(scores)


def better_half(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The sound configs from the best to the median, two at least; they come best first."""
    sound = [candidate for candidate in candidates if candidate.is_sound]
    return sound[: max(2, (len(sound) + 1) // 2)]


def seeds_as_large(candidates: Sequence[Candidate]) -> Finding | None:
    """Whether seeds change the metric as much as the settings do."""
    half, seeds = better_half(candidates), noise(candidates)
    if seeds is None or len(half) < 2:
        return None
    configs = float(np.std([candidate.mean for candidate in half], ddof=1))
    if seeds < configs:
        return None
    return Finding(
        "seeds matter as much as settings",
        f"among the better half of the configs ({len(half)}), the means differ by a standard "
        f"deviation of {number(configs)}, and the seeds of one config by {number(seeds)}: "
        "their order is largely chance",
    )
