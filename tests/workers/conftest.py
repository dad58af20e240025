"""Clusters on this machine, each started once for the tests of a process."""

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from drill.ray_cluster import RayCluster, running_ray
from drill.slurm_cluster import SlurmCluster, running_slurm, why_not


def _needs(package: str) -> None:
    """Skip the test where a package of an extra is not installed."""
    if find_spec(package) is None:
        pytest.skip(f"not installed: {package}")


@pytest.fixture(scope="session")
def _slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Slurm with two nodes."""
    _needs("submitit")
    if reason := why_not():
        pytest.skip(reason)
    with running_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def slurm(_slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """Slurm with two nodes, which commands find."""
    monkeypatch.setenv("SLURM_CONF", str(_slurm.conf))
    return _slurm


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """Ray with two nodes, which `RayEngine` joins."""
    _needs("ray")
    # pytest's folders have longer names than a socket of the system's may have.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        running_ray(Path(folder)) as cluster,
    ):
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        yield cluster


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster is named, so that `RayEngine` starts one."""
    _needs("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder for what workers print."""
    folder = tmp_path / "logs of workers"
    folder.mkdir()
    return folder
