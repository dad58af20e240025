"""Who may import whom, and what a package needs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of `pyproject.toml`, as `make lint` checks them, on another tree."""
    program = "import importlinter.cli as c; c.lint_imports_command(['--no-logo', '--no-cache'])"
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, 'src'); {program}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


PLANTED = [
    ("core/errors.py", "from multilayer.nn import losses", "multilayer.nn"),
    ("data/split.py", "from multilayer.training import run", "multilayer.training.run"),
    ("data/split.py", "import pytorch_lightning", "pytorch_lightning"),
    ("nn/mlp.py", "import hydra", "hydra"),
    ("reports/sweep.py", "from multilayer.training import run", "multilayer.training.run"),
]


@pytest.fixture(scope="module")
def broken_contracts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is printed of a tree with all of them, each inside a function."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for file, line, _ in PLANTED:
        with (root / "src" / "multilayer" / file).open("a") as opened:
            opened.write(f"\n\ndef planted():\n    {line}\n")
    found = lint_imports(root)
    assert found.returncode == 1, found.stdout + found.stderr
    assert " BROKEN" in found.stdout
    return found.stdout


@pytest.mark.parametrize(("file", "line", "imported"), PLANTED)
def test_an_import_from_above_is_found(
    broken_contracts: str, file: str, line: str, imported: str
) -> None:
    """Inside a function too."""
    assert f"multilayer.{file[:-3].replace('/', '.')} -> {imported}" in broken_contracts


def test_torch_alone_is_enough_for_networks_tables_and_stacks() -> None:
    """Neither Lightning nor Hydra is imported by what needs neither."""
    program = """
import sys
from importlib import import_module
for name in (
    "core.errors", "core.schema", "nn.mlp", "nn.losses", "nn.metrics", "data.table_builder",
    "data.split", "data.preprocessing", "data.batches", "data.parquet_stream", "data.table_io",
    "stacking.model", "stacking.runner",
):
    import_module(f"multilayer.{name}")
print([name for name in ("pytorch_lightning", "lightning_fabric", "hydra") if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.stdout == "[]\n", found.stderr


def test_a_table_is_used_with_torch_alone_as_the_docs_show(tmp_path: Path) -> None:
    """Nothing of Lightning or Hydra is imported on the way from a file to minibatches."""
    page = (ROOT / "docs" / "guides" / "data.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copy(ROOT / "tests" / "golden" / "flats.csv", tmp_path)
    check = """
import sys
assert x.shape[1] == preprocessing.n_features and x.dtype == y.dtype
print([name for name in ("pytorch_lightning", "lightning_fabric", "hydra") if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", example + check],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "[]\n", found.stderr
