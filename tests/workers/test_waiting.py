"""Workers that wait until an engine lets them begin."""

from pathlib import Path

import pytest

from multilayer.core.errors import UserError
from multilayer.runs import console
from multilayer.workers import crew, engine
from multilayer.workers.local import LocalEngine
from multilayer.workers.ray import RayEngine
from multilayer.workers.slurm import SlurmEngine

from ..conftest import Run


class FullCluster(LocalEngine):
    """An engine that has room for one worker, and gives up after some time."""

    waits = RayEngine.waits
    n_polls = 0

    def start(self, *arguments: object) -> None:
        """None begins."""

    def n_alive(self) -> int:
        """All that there are to be."""
        self.n_polls += 1
        if self.n_polls > 3:
            raise UserError("enough")
        return self.n

    def n_waiting(self) -> int:
        """All but one."""
        return self.n - 1


def test_the_screen_says_how_many_wait(multilayer: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of nothing, until there is room."""
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(crew, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(engine, "make_engine", lambda *_: FullCluster(3))
    words = ["train", "-m", "data=iris", "seed=0,1", "hydra.sweep.dir=sweep"]
    outcome = multilayer(*words, "hydra/launcher=lockstep", "hydra.launcher.workers=local:3")
    assert outcome.code == 2
    said = "0 of 2 runs ended  1 of 3 workers runs, 2 wait for room on the Ray cluster\n"
    assert said in outcome.err


def test_who_waits_for_slurm_and_ray(tmp_path: Path) -> None:
    """By Slurm's states, and by the logs that tasks of Ray make when they begin."""
    slurm = object.__new__(SlurmEngine)
    slurm._states = {"1_0": "RUNNING", "1_1": "PENDING", "1_2": "COMPLETED", "1_3": "CONFIGURING"}
    assert slurm.n_waiting() == 2
    ray = object.__new__(RayEngine)
    ray._logs = [tmp_path / f"{number}.log" for number in range(4)]
    ray._ended = {0: "exit code 1"}
    ray._logs[1].touch()
    assert ray.n_waiting() == 2
