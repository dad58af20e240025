"""What has changed since the jobs of a sweep were trained."""

import json
import math
import re
import subprocess
import time
from pathlib import Path

import pytest
import torch

from multilayer.cli import changes
from multilayer.runs.manifest import git_state

from ..conftest import Run
from .grid_sweeps import LAUNCHERS, SWEEP, content, manifest


@LAUNCHERS
def test_what_has_changed_since_is_said_and_done_again(
    launcher: str, iris_csv: Path, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data by its content, versions and the revision of the code as manifests have them."""
    words = [*SWEEP[:2], f"hydra/launcher={launcher}", "data=table", f"data.path={iris_csv.name}"]
    words += ["data.target=species", "trainer.max_epochs=1", "hydra.sweep.dir=sweep"]
    older = iris_csv.with_name("older.csv")
    older.write_text("".join(iris_csv.read_text().splitlines(keepends=True)[:-3]))
    while time.time() < math.ceil(older.stat().st_mtime):  # manifests count in whole seconds
        time.sleep(0.05)
    assert multilayer(*words, "seed=0,1").code == 0
    iris_csv.touch()
    same = multilayer(*words, "seed=0,1")
    assert "was trained with" not in same.out
    if launcher == "basic":
        iris_csv.write_text(older.read_text())
    else:  # nothing but the link is newer than the runs
        iris_csv.unlink()
        iris_csv.symlink_to("older.csv")
    before = content("[0-9]/*")
    said = multilayer(*words, "seed=0,1,2")
    assert said.code == 0, said.err
    assert (
        "sweep: jobs 0 to 1 were trained with data that has changed since; sweep.redo=changed "
        "trains such jobs again\nsweep: 3 jobs: 2 done, 1 to train\n"
    ) in said.out
    assert before.items() <= content("[0-9]/*").items()
    redone = multilayer(*words, "seed=0,1,2", "sweep.redo=changed")
    assert redone.code == 0, redone.err
    assert "sweep: 3 jobs: 2 changed, to train again, 1 done" in redone.out
    assert sorted(path.name for path in Path("sweep/ledger/attempts").iterdir()) == ["0.1", "1.1"]
    assert [sum(manifest(number)["rows"].values()) for number in range(3)] == [147] * 3
    assert "was trained with" not in multilayer(*words, "seed=0,1,2").out
    versions = changes.package_versions() | {"torch": "99.0"}
    monkeypatch.setattr(changes, "package_versions", lambda: versions)
    git = {"revision": "b" * 40, "dirty": False, "code_changes": None}
    monkeypatch.setattr(changes, "git_state", lambda folder: git)
    first = manifest(0) | {"git": git | {"revision": "a" * 40}}
    Path("sweep/0/manifest.json").write_text(json.dumps(first))
    out = multilayer(*words, "seed=0,1,2", "sweep.dry_run=true", "sweep.redo=changed").out
    assert f"jobs 0 to 2 were trained with torch {torch.__version__}, which is 99.0 now\n" in out
    assert "job 0 was trained with revision aaaaaaaa of your code, which is bbbbbbbb now\n" in out
    assert out.count("changed, to train again") == 3


def git(*words: str) -> None:
    """Run git in the working folder, as somebody."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], check=True, capture_output=True)
    git_state.cache_clear()


def test_code_that_is_not_committed_is_code(multilayer: Run) -> None:
    """Of a job that was trained with it, or before it; what is no code is none."""
    git("init", "-q")
    Path("code.py").write_text("a = 1")
    Path(".gitignore").write_text("sweep\n")
    git("add", ".")
    git("commit", "-qm", "first")
    words = [*SWEEP, "hydra/launcher=lockstep", "seed=0,1", "sweep.redo=changed"]

    def redone() -> str:
        """What is said of the jobs that are trained again; empty if none is."""
        git_state.cache_clear()
        outcome = multilayer(*words)
        assert outcome.code == 0, outcome.err
        assert ("2 changed, to train again" in outcome.out) == ("trained with" in outcome.out)
        said = re.search("trained with (.*)", outcome.out)
        return said[1] if said else ""

    assert redone() == ""
    Path("notes.txt").write_text("no code")
    assert redone() == ""
    Path("code.py").write_text("a = 2")
    assert re.fullmatch("your code as revision .* has it, which was changed since", redone())
    assert redone() == ""
    Path("new.py").write_text("b = 1")
    assert redone() == "changes of your code that were not committed, which are others now"
    Path("new.py").write_text("b = 2")
    assert redone().endswith("are others now")
    Path("new.py").unlink()
    git("checkout", "-q", ".")
    assert redone().endswith("are gone now")
