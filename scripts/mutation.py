"""Plants small faults in the arithmetic, one at a time, and counts those that the tests catch.

python scripts/mutation.py [--sample N] [--jobs N] [FILE ...]

A file is tried against the tests of its own subject alone: that is stricter than the whole suite,
and takes minutes where that would take days. A second call tries again what was not caught; remove
`build/mutation` to begin anew. The faults that were not caught stand in `survivors.diff` there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src/multilayer")
WORK = ROOT / "build/mutation"
GET_READY = "import polars, pytorch_lightning, sklearn.model_selection, torchmetrics"
RUN = f"{GET_READY}; from mutmut.__main__ import cli; cli()"  # imported once for all its processes
SHOW = "import sys; from mutmut.__main__ import show; [show.callback(x) for x in sys.argv[1:]]"
CAUGHT, SURVIVED = "killed", "survived"
GOAL = 85

# For each file its tests besides `tests/FOLDER/test_NAME.py`.
TABLES = ["data/test_table"]
STATISTICS = ["reports/test_significance", "reports/test_configs_stats"]
FINDINGS = [f"reports/test_findings_{each}" for each in ("fit", "grid_edge", "truncated")]

AREAS: dict[str, dict[str, list[str]]] = {
    "data": {
        "data/table_builder": ["data/test_column_types", *TABLES],
        "data/column_types": TABLES,
        "data/numerics": ["data/test_preprocessing"],
        "data/batches": [],
        "data/preprocessing": [],
        "data/split": ["data/test_row_columns"],
        "data/row_columns": [],
        "data/parquet_stream": [],
    },
    "nn": {
        "nn/embeddings": [],
        "nn/initialization": [],
        "nn/losses": ["nn/test_row_weights"],
        "nn/metrics": ["nn/test_row_weights", "nn/test_quantiles"],
        "nn/mlp": ["nn/test_activations"],
        "nn/quantiles": [],
    },
    "training": {
        "training/components": ["training/test_optimizers", "training/test_schedulers"],
        "callbacks/best_weights": [],
        "callbacks/early_stopping": [],
        "lr_sweep/analysis": ["lr_sweep/test_analysis_range_test"],
        "training/module": ["training/test_lightning_use", "training/test_module_epochs"],
        "training/schedulers": [],
        "training/steps": [],
    },
    "lockstep": {
        "stacking/block": [],
        "stacking/chunks": [],
        "stacking/optimizers": [],
        "lockstep/slots": [],
        "lockstep/schedule": [],
        "lockstep/callback_group": [],
        "stacking/runner": [],
        "stacking/workers": ["stacking/test_runner"],
        "stacking/dropout": [],
        "stacking/layers": [],
        "stacking/model": ["stacking/test_layers"],
        "stacking/step": ["stacking/test_block"],
    },
    "report": {
        "reports/configs": STATISTICS,
        "reports/significance": ["reports/test_significance_verdict"],
        "reports/effects": ["reports/test_effects_best_lr"],
        "reports/findings": FINDINGS,
    },
}

# Messages and assertions stay as they are: the first are read by people, the second always hold.
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["{source}"]
also_copy = ["conf", "scripts", "conftest.py"]
# Forked from a process that has imported torch and the tests, and has used no threads of torch's.
process_isolation = "forkserver"
pytest_add_cli_args = ["--override-ini=addopts=--strict-markers"]
pytest_add_cli_args_test_selection = {tests}
timeout_constant = 2.0
use_git_change_detection = false
do_not_mutate_patterns = [
  '^\\s*(raise|assert|log\\.\\w+\\()',
  '^\\s*(return |\\w+ = )?f?"[^"]*[^" ] [^" ]',
]
"""

SHORTEST_TESTS_FIRST = """
import json
from pathlib import Path

def pytest_collection_modifyitems(items):
    times = Path("mutmut-stats.json")  # not there while they are taken
    seconds = json.loads(times.read_text())["duration_by_test"] if times.exists() else {}
    items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
"""


def main() -> None:
    """Try the files named, or all; print a table; exit with 1 where too few faults are caught."""
    arguments = read_arguments()
    counts = {}
    for area, files in AREAS.items():
        for name in files:
            source = PACKAGE / f"{name}.py"
            if not arguments.files or source in arguments.files:
                counts[name] = try_file(source, files[name], arguments.sample, arguments.jobs)
                print(row(f"{area}: {name}", counts[name]), flush=True)
    total = sum(counts.values(), Counter())
    print(row("all", total))
    print(f"What was not caught: {WORK.relative_to(ROOT)}/*/survivors.diff")
    sys.exit(100 * total[CAUGHT] < GOAL * total.total())


def read_arguments() -> argparse.Namespace:
    """The command line's words."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--sample", type=int, choices=(2, 5, 10), help="one fault in so many")
    parser.add_argument("--jobs", type=int, default=2, help="faults tried at a time")
    arguments = parser.parse_args()
    known = {PACKAGE / f"{name}.py" for files in AREAS.values() for name in files}
    if strangers := set(arguments.files) - known:
        parser.error(
            f"not among the files of scripts/mutation.py: {', '.join(map(str, strangers))}"
        )
    return arguments


def try_file(source: Path, more_tests: list[str], sample: int | None, jobs: int) -> Counter[str]:
    """How the faults in a file ended: mutmut's words, and how often each."""
    folder = WORK / str(source.relative_to(PACKAGE).with_suffix("")).replace("/", "-")
    prepare(folder, source, [own_tests(source), *(f"tests/{name}.py" for name in more_tests)])
    names = [chosen(source, sample)] if sample else []
    python(folder, RUN, "run", f"--max-children={jobs}", *names)
    state = json.loads((folder / f"mutants/{source}.meta").read_text())["exit_code_by_key"]
    ends = {name: status_by_exit_code[code] for name, code in state.items() if code is not None}
    missed = [name for name, end in ends.items() if end != CAUGHT]
    (folder / "survivors.diff").write_text(python(folder, SHOW, *missed))
    return Counter(ends.values())


def own_tests(source: Path) -> str:
    """The tests of a file, by its name."""
    name = source.relative_to(PACKAGE)
    return str("tests" / name.with_name(f"test_{name.name}"))


def prepare(folder: Path, source: Path, tests: list[str]) -> None:
    """A folder for mutmut; what was caught there before stays so, the rest is to be tried again."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("src", "conf", "scripts", "tests"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    existing = [test for test in dict.fromkeys(tests) if (ROOT / test).exists()]
    config = CONFIG.format(source=source, tests=json.dumps(existing))
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + config)
    (folder / "conftest.py").write_text(SHORTEST_TESTS_FIRST)
    shutil.rmtree(folder / "mutants/tests", ignore_errors=True)
    (folder / "mutants/mutmut-stats.json").unlink(missing_ok=True)
    known = folder / f"mutants/{source}.meta"
    if known.exists():
        state = json.loads(known.read_text())
        ends = state["exit_code_by_key"]
        state["exit_code_by_key"] = {name: 1 if code == 1 else None for name, code in ends.items()}
        known.write_text(json.dumps(state))


def chosen(source: Path, sample: int) -> str:
    """mutmut's pattern for every `sample`th fault of each function."""
    digits = "".join(str(digit) for digit in range(0, 10, sample))
    module = ".".join(source.relative_to("src").with_suffix("").parts)
    return f"{module}.*[{digits}]"


def python(folder: Path, code: str, *words: str) -> str:
    """What Python prints that runs some code of mutmut's in a folder."""
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=os.environ | one_thread,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"mutmut {' '.join(words)} in {folder}:\n{done.stdout[-3000:]}{done.stderr}")
    return done.stdout


def row(name: str, ends: Counter[str]) -> str:
    """A line of the table."""
    others = {end: n for end, n in ends.items() if end not in (CAUGHT, SURVIVED)}
    share = f"{100 * ends[CAUGHT] / max(ends.total(), 1):.0f} %"
    rest = "".join(f", {n} {end}" for end, n in others.items())
    return f"{name:<36} {ends[CAUGHT]:>5} of {ends.total():>5} caught, {share:>5}{rest}"


if __name__ == "__main__":
    main()
