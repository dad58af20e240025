"""Jobs of a sweep, from their overrides."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from multilayer.composing.job_configs import JobOfKind
from multilayer.core.errors import UserError
from multilayer.lockstep.launcher import Launch

from ..composing.test_sweep_configs import make_loader, master_of
from ..conftest import Run


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Of a sweep whose jobs' folders are named by their seeds."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.chdir(tmp_path)
    loader = make_loader()
    words = ["hydra.sweep.dir=sweep", "hydra.sweep.subdir=seed_${seed}"]
    context: Any = SimpleNamespace(config_loader=loader)
    task: Any = None
    return Launch(context, task, master_of(loader, *words))


def test_a_job_has_all_that_trains_it(launch: Launch, tmp_path: Path) -> None:
    """Its config as plain data, and Hydra's for Hydra."""
    for number in range(4):
        job = launch.compose(number, ["optimizer.lr=1", f"seed={number}"])
        config: Any = job.hydra_config
        assert (job.number, job.alone) == (number, None)
        assert job.folder == tmp_path / "sweep" / f"seed_{number}"
        assert job.overrides == ["optimizer.lr=1", f"seed={number}"]
        assert (job.config["seed"], job.config["data"]["shuffle_seed"]) == (number, number)
        assert (config.seed, config.hydra.job.num, config.hydra.job.id) == (
            number,
            number,
            str(number),
        )
        assert config.hydra.runtime.output_dir == str(job.folder)


def test_a_folder_is_for_one_job(launch: Launch) -> None:
    """The second one is refused, also where it is made from the first one's config."""
    launch.compose(0, ["seed=1", "optimizer.lr=1"])
    for number in (1, 2):
        with pytest.raises(
            UserError, match=r"seed_1 is job 0's: give each its hydra\.sweep\.subdir"
        ):
            launch.compose(number, ["seed=1", f"optimizer.lr={number}"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("no_such_key=1", "Could not override 'no_such_key'"),
        ("+model.x=${no_such_key}", "Interpolation key 'no_such_key' not found"),
        ("seed=(", r"Error parsing override 'seed=\('"),
    ],
)
def test_a_wrong_job_is_the_users_mistake(launch: Launch, word: str, message: str) -> None:
    """In Hydra's words, for the first job and for others."""
    for number in range(4):
        with pytest.raises(UserError, match=message):
            launch.compose(number, [f"seed={number}", word])


def test_no_config_is_made_for_a_job_that_nobody_asks_about(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to check it nor to train it, nor for Hydra's callbacks; it takes 10 ms."""
    made = []
    own = JobOfKind.make

    def counted(job: JobOfKind) -> DictConfig:
        made.append(job)
        return own(job)

    monkeypatch.setattr(JobOfKind, "make", counted)
    words = ["hydra/launcher=lockstep", "data=iris", "trainer.max_epochs=1"]
    words += ["data.folds=2,5", "data.fold=0,4"]  # of two folds there is no such one
    assert multilayer("train", "-m", *words, "seed=0,1").code == 1
    assert not made
