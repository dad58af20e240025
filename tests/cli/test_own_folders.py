"""Runs in folders of the user's choosing, which `hydra.job.chdir=true` enters."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Run, only_folder

QUICK = ["data=table", "data.target=species", "trainer.max_epochs=1"]


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_paths_start_from_where_the_command_was_started(
    multilayer: Run, iris_csv: Path, tmp_path: Path, engine: str
) -> None:
    """Also that of a run to go on with; what is printed is found from there, too."""
    words = ["train", *QUICK, f"engine={engine}", "hydra.job.chdir=true"]
    outcome = multilayer(*words, f"data.path={iris_csv.name}")
    assert outcome.code == 0, outcome.err
    folder = only_folder(tmp_path)
    assert f"run folder  {folder}" in outcome.out
    assert json.loads((folder / "manifest.json").read_text())["status"] == "done"
    resume = [f"resume={folder.relative_to(tmp_path)}", "trainer.max_epochs=2"]
    again = multilayer("train", *resume, "hydra.job.chdir=true", "hydra.run.dir=more")
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "more" / "manifest.json").read_text())["status"] == "done"


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_the_jobs_of_a_sweep_do_so_too(multilayer: Run, iris_csv: Path, launcher: str) -> None:
    """And modules of the user's own are found."""
    Path("mine.py").write_text("from multilayer.nn import MLP\nclass Net(MLP):\n    pass\n")
    words = [*QUICK, "data.path=iris.csv", "model._target_=mine.Net", "seed=0,1"]
    outcome = multilayer(
        "train", "-m", *words, "hydra.job.chdir=true", f"hydra/launcher={launcher}"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("done") >= 2


def test_a_folder_named_by_overrides_with_a_path_is_in_the_table_and_the_report(
    multilayer: Run, iris_csv: Path, tmp_path: Path
) -> None:
    """Folders of runs may lie at different depths; each run is called by its path."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "iris.csv").write_bytes(iris_csv.read_bytes())
    words = ["-m", *QUICK, "data.path=iris.csv,sub/iris.csv", "hydra.sweep.dir=s"]
    subdir = "hydra.sweep.subdir=${hydra.job.override_dirname}"
    done = subprocess.run(
        [sys.executable, "-m", "multilayer", "train", *words, subdir, "hydra/sweeper=basic"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("data.path=iris.csv,", "data.path=sub/iris.csv,"):
        assert f"job {name}" in done.stdout
    assert "2 runs" in multilayer("report", "sweep=s").out
