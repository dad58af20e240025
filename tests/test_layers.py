"""Who may import whom, and what a package needs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from multilayer.core.config_folder import conf_dir

from .trained import config_of

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
    ("training/components.py", "import pytorch_lightning", "pytorch_lightning"),
    (
        "callbacks/checkpoint.py",
        "from multilayer.training import module",
        "multilayer.training.module",
    ),
    ("runs/checkpoint.py", "import lightning_fabric", "lightning_fabric"),
    ("sweeps/ledger.py", "import hydra", "hydra"),
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


SETS = {
    "digits": ["data=digits"],
    "iris": ["data=iris"],
    "table": [
        "data=table",
        f"data.path={ROOT / 'tests' / 'golden' / 'flats.csv'}",
        "data.target=price",
    ],
}

OTHER_CHOICES = [
    ["callbacks=[default,diagnostics]", "optimizer=sgd", "scheduler=plateau"],
    ["callbacks=none", "logger=none", "optimizer=adamw", "scheduler=one_cycle"],
    ["logger=csv", "debug=profile", "loss.class_weights=balanced", "scheduler=cosine"],
    ["data.categorical_encoding=embedding", "loss=huber", *SETS["table"]],
]

NEEDED_BY_A_STACK = """
import json, sys
from multilayer.callbacks import (
    BestEpochMarker, BestWeights, Checkpoint, Diagnostics, EarlyStopping, LearningRate
)
from multilayer.training import EpochCallback, History, TaskModel
from multilayer.training.components import check_components, make_task_model
from multilayer.runs.folder import (Result, objective)
from multilayer.runs.manifest import (start_manifest)
from multilayer.runs.config import with_absolute_paths

heavy = [
    "pytorch_lightning", "lightning_fabric", "torchmetrics", "scipy", "matplotlib", "sklearn",
    "hydra", "torch._dynamo",
]
for config in json.load(sys.stdin):
    data = check_components(with_absolute_paths(config))
    data.setup()
    task_model = make_task_model(config, data)
    task_model.evaluate(data.minibatches("validation"))
    start_manifest(config, [], data, task_model.device)
    found = [name for name in heavy if name in sys.modules]
    assert not found, (found, config)
from multilayer.callbacks import Figures, LearningCurves
print([name for name in heavy if name in sys.modules])
"""


def test_torch_alone_is_enough_for_what_a_stack_of_runs_needs() -> None:
    """From the config to networks, data and metrics; only what draws figures imports matplotlib."""
    models = [path.stem for path in (conf_dir() / "model").glob("*.yaml")]
    models.remove("mlp_plr")  # rtdl_num_embeddings imports scikit-learn
    chosen = [[*words, f"model={model}"] for words in SETS.values() for model in models]
    chosen = [
        words for words in chosen if words[0] != "data=table" or words[-1] != "model=perceptron"
    ]
    configs = [config_of(*words) for words in [*chosen, *OTHER_CHOICES]]
    found = subprocess.run(
        [sys.executable, "-c", NEEDED_BY_A_STACK],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "['matplotlib']\n", found.stderr
