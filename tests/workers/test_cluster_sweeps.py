"""Sweeps whose jobs are trained by workers on Slurm and on Ray."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import polars as pl
import pytest
from drill.slurm_cluster import SlurmCluster, wait_until
from polars.testing import assert_frame_equal

from ..conftest import Run
from .plain_workers import is_running
from .test_local import SWEEP, WAITS, ledger, pids, running, states

pytestmark = pytest.mark.slow

ONE_BY_ONE = ["+callbacks.own.whole=true,false", "hydra.launcher.stack=false", "seed=0,1"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From which workers find the classes of the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture(params=["slurm", "ray"])
def engine(request: pytest.FixtureRequest) -> str:
    """An engine whose cluster is there, or is made by it."""
    request.getfixturevalue({"slurm": "slurm", "ray": "local_ray"}[request.param])
    return str(request.param)


def by_two(engine: str) -> list[str]:
    """The words by which an engine starts two workers."""
    return ["hydra/launcher=lockstep", f"hydra.launcher.workers={engine}:2"]


@pytest.fixture(params=["slurm", "ray"])
def losing_a_node(
    request: pytest.FixtureRequest,
) -> tuple[str, Callable[[], AbstractContextManager[None]]]:
    """An engine with a cluster of two nodes, and what kills one of them."""
    if request.param == "slurm":
        slurm = request.getfixturevalue("slurm")
        return "slurm", slurm.without_node
    cluster = request.getfixturevalue("ray_cluster")

    @contextmanager
    def without_node() -> Iterator[None]:
        cluster.lose_node()
        yield

    return "ray", without_node


def test_workers_give_what_one_process_gives(engine: str, multilayer: Run) -> None:
    """The same files with the same numbers, to rounding, and what they print is kept."""
    words = [*SWEEP[:-1], "seed=0,1,2,3"]
    alone = multilayer(*words, "hydra/launcher=lockstep", "hydra.sweep.dir=alone")
    assert alone.code == 0, alone.err
    outcome = multilayer(*words, "hydra.sweep.dir=sweep", *by_two(engine))
    assert outcome.code == 0, outcome.err
    assert alone.out[alone.out.index("┏") :].replace("alone", "sweep") in outcome.out
    assert states() == ["done"] * 4
    for number in range(4):
        folders = [Path(f"alone/{number}"), Path(f"sweep/{number}")]
        files = [{path.name[:20] for path in each.rglob("*")} for each in folders]  # tfevents.TIME
        assert files[0] == files[1]
        assert_frame_equal(
            *[pl.read_csv(each / "history.csv").drop("seconds") for each in folders],
            check_exact=False,
            abs_tol=1e-6,
        )
    printed = [path.read_text() for path in Path("sweep/ledger/logs").iterdir() if path.is_file()]
    assert any("lockstep: 1 stack of 4 runs" in each for each in printed)
    assert not list(Path("sweep").rglob("*.pkl"))


def test_a_node_that_is_lost_loses_nothing(
    losing_a_node: tuple[str, Callable[[], AbstractContextManager[None]]],
) -> None:
    """Its job goes on with others, by itself; what had ended is not trained again."""
    engine, without_node = losing_a_node
    with running(*SWEEP, *by_two(engine), *WAITS, *ONE_BY_ONE) as parent:
        wait_until(lambda: states() == ["done"] * 2 + ["running"] * 2, "two jobs that wait")
        with without_node():
            wait_until(lambda: "interrupted" in states(), "a job that was interrupted")
            Path("mended").touch()
            assert parent.wait(120) == 0
    assert states() == ["done"] * 4
    counts = [job.attempts.count for job in ledger().jobs.values()]
    assert (counts[:2], sorted(counts[2:])) == ([1, 1], [1, 2])


def test_workers_end_with_their_parent(engine: str, request: pytest.FixtureRequest) -> None:
    """Also if it is killed; Slurm does not have them begin again."""
    with running(
        *SWEEP, *by_two(engine), *WAITS, "hydra.launcher.stack=false", "seed=0,1"
    ) as parent:
        workers = pids()
        parent.kill()
    wait_until(lambda: not any(map(is_running, workers)), "the end of the workers")
    assert states() == ["interrupted"] * 2, [job.outcome for job in ledger().jobs.values()]
    if engine == "slurm":
        slurm: SlurmCluster = request.getfixturevalue("slurm")
        wait_until(lambda: slurm.ask("squeue", "--noheader") == "", "an empty queue")
