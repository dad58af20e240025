"""What has changed since the jobs of a sweep were trained."""

import json
import math
import time
from pathlib import Path

import pytest
import torch

from multilayer.cli import changes

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
        "sweep: job 0 to 1 was trained with data that has changed since; sweep.redo=changed trains "
        "such jobs again\nsweep: 3 jobs: 2 done, 1 to train\n"
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
    monkeypatch.setattr(changes, "git_state", lambda folder: {"revision": "b" * 40, "dirty": True})
    first = manifest(0) | {"git": {"revision": "a" * 40, "dirty": False}}
    Path("sweep/0/manifest.json").write_text(json.dumps(first))
    out = multilayer(*words, "seed=0,1,2", "sweep.dry_run=true", "sweep.redo=changed").out
    assert f"job 0 to 2 was trained with torch {torch.__version__}, which is 99.0 now\n" in out
    assert "job 0 was trained with revision aaaaaaaa of your code, which is bbbbbbbb now\n" in out
    assert out.count("changed, to train again") == 3
