"""Having the launcher train the jobs of a sweep that are open, by whatever it trains them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import sleep
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from multilayer.composing.sweep_jobs import Words
from multilayer.core.text import consecutive
from multilayer.sweeps import Session

_DEATHS_TO_BE_ALONE = 2
"""Deaths of workers in a stack after which it is found out which of its jobs they died of."""

_POLL_SECONDS = 2.0
"""How often it is looked how far other processes are with jobs of the sweep."""


def train_open_jobs(
    words_of: Mapping[int, Words],
    launcher: Launcher,
    session: Session,
    max_batch_size: int | None,
    *,
    prepare: Callable[[dict[int, Words]], None] = lambda _: None,
    waits: bool = True,
) -> Iterator[JobReturn]:
    """Have open jobs trained, and wait for those that other processes train.

    Args:
        words_of: The overrides of jobs, by their numbers.
        launcher: Trains them: ours, or one of Hydra's.
        session: This process in the ledger of the sweep.
        max_batch_size: How many jobs the launcher is given at a time; None for all.
        prepare: Called with the jobs that the launcher is given next, whose words it may change.
        waits: Whether jobs that other processes train are waited for: they are open again if
            those processes die.

    Yields:
        What the launcher returned.
    """
    by_number = session.ledger.jobs
    given: set[int] = set()
    while True:
        session.ledger.refresh()
        for number in [n for n in given if session.was_trained_elsewhere(n)]:
            given.remove(number)
        is_open = [n for n in words_of if by_number[n].is_open and n not in given]
        if is_open and not session.is_over():
            batch = {n: words_of[n] for n in _choose(is_open, session, max_batch_size)}
            given |= set(batch)
            prepare(batch)
            yield from _launch(batch, launcher, session)
        elif waits and any(map(session.trains_elsewhere, words_of)):
            sleep(_POLL_SECONDS)
        else:
            break


def _choose(is_open: Sequence[int], session: Session, max_batch_size: int | None) -> list[int]:
    """The jobs that are trained next, of those that are open.

    One that may be what its workers died of is no other's hindrance: it comes later, in no stack
    with those of which fewer have died, and from the second death on in none at all.
    """
    n_deaths = {number: len(session.deaths(number)) for number in is_open}
    session.most_deaths = min(n_deaths.values())
    first = [number for number in is_open if n_deaths[number] == session.most_deaths]
    first.sort(key=lambda number: len(session.ledger.jobs[number].attempts.crashed))
    return first[: 1 if session.most_deaths >= _DEATHS_TO_BE_ALONE else max_batch_size]


def _launch(
    batch: Mapping[int, Words], launcher: Launcher, session: Session
) -> Iterator[JobReturn]:
    """Have the launcher train jobs, each with its number.

    Hydra's own launchers number the jobs of a call from one number on.
    """
    launch: Any = getattr(launcher, "launch_numbered", None)
    if launch is not None:
        yield from launch(batch, session)
        return
    for run in consecutive(sorted(batch)):
        yield from launcher.launch([batch[n] for n in run], initial_job_idx=run[0])
