"""What several test files share: the command line in this process, and a finished run."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from multilayer.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slow ones, after which no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Set apart what was imported, as a command does; collecting takes 0.3 s otherwise."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting() -> Iterator[None]:
    """Files are not forced to the disk, and packages are searched for plugins only once.

    Each run writes a dozen files and makes a trainer, which would take as long as a short training.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr("lightning_fabric.utilities.registry.entry_points", cache(entry_points))
        yield


@pytest.fixture
def multilayer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs `multilayer ARGUMENTS` in an empty folder of its own."""
    # Hydra's log handler keeps the stream of the test that it was made in.
    monkeypatch.setattr(logging.root, "handlers", list(logging.root.handlers))
    logging.getLogger("multilayer").setLevel(logging.NOTSET)  # which a sweep raises, for its end
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # of the terminal that the tests run in
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # undone after the test; the command sets it

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["multilayer", *arguments])
        try:
            code = main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        if "hydra/launcher=joblib" in arguments:
            # Its processes outlive a command, and stay in the folder of the test that began them.
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=True)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on iris, trained once for all tests that only read it."""
    from multilayer.cli.check import check_command_line
    from multilayer.cli.tasks import train

    config = check_command_line("train", ["data=iris", "trainer.max_epochs=20"])
    assert config is not None
    folder = tmp_path_factory.mktemp("run")
    train(config, folder, ["data=iris", "trainer.max_epochs=20"], quiet=True)
    return folder


def only_folder(parent: Path) -> Path:
    """The one run folder below `runs/`."""
    (folder,) = parent.glob("runs/*/*")
    return folder


@pytest.fixture
def iris_csv(tmp_path: Path) -> Path:
    """scikit-learn's iris as a CSV file with the species as words."""
    import polars as pl
    from sklearn.datasets import load_iris

    iris = load_iris()
    frame = pl.DataFrame(iris.data, schema=list(iris.feature_names))
    species = [str(iris.target_names[index]) for index in iris.target]
    path = tmp_path / "iris.csv"
    frame.with_columns(pl.Series("species", species)).write_csv(path)
    return path
