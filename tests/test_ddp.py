"""One run on two processes."""

import json
import subprocess
import sys
from pathlib import Path


def test_two_processes_train_one_run(tmp_path: Path) -> None:
    """One run folder, one table; each process takes half of the rows."""
    overrides = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    overrides += ["data=iris", "trainer.max_epochs=2", "data.batch_size=13"]
    done = subprocess.run(
        [sys.executable, "-m", "multilayer", "train", *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/*/*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["steps"] == 2 * 4  # 104 rows, 52 a process, 13 a minibatch
    assert done.stdout.count("run folder") == 1
    assert (folder / "checkpoints" / "best.ckpt").is_file()
