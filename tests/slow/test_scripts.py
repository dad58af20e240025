"""Scripts follow when names of the package change."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.mark.parametrize("name", ["lockstep", "lr_sweep", "report", "tables", "train"])
def test_a_benchmark_finds_all_that_it_imports(name: str, tmp_path: Path) -> None:
    """Its help is shown after everything is imported."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
