"""The command in a run's manifest, which does the same again."""

import json
import shlex
from pathlib import Path

import pytest

from ..conftest import Run


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-m"],
        ["-m", "hydra/launcher=joblib"],
        ["-m", "hydra/launcher=lockstep"],
        ["-m", "hydra/launcher=lockstep", "hydra.launcher.workers=local:1"],
    ],
    ids=" ".join,
)
def test_it_names_the_folder_of_ones_own_choices(
    words: list[str], multilayer: Run, tmp_path: Path
) -> None:
    """Without which it would not know them."""
    folder = tmp_path / "own conf" / "optimizer"
    folder.mkdir(parents=True)
    text = "_target_: torch.optim.SGD\n_partial_: true\nlr: 0.05\n"
    (folder / "own.yaml").write_text(text)
    words = [*words, "hydra.sweep.dir=sweep" if words else "hydra.run.dir=sweep/0"]
    quick = ["--config-dir", "own conf", "data=iris", "optimizer=own", "trainer.max_epochs=1"]
    outcome = multilayer("train", *quick, *words)
    assert outcome.code == 0, outcome.err
    recorded = json.loads(Path("sweep/0/manifest.json").read_text())["command"]
    assert shlex.split(recorded)[:3] == ["multilayer", "train", "--config-dir"]
    assert multilayer(*shlex.split(recorded)[1:], "hydra.run.dir=again").code == 0
    assert multilayer("train", "data=iris", "trainer.max_epochs=1", "hydra.run.dir=own").code == 0
    recorded = json.loads(Path("own/manifest.json").read_text())["command"]
    assert "--config-dir" not in recorded  # a process may run several commands
