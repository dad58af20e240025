"""What a fresh machine sees: the Makefile in a clone, the wheel in another folder, the README."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from importlib import import_module, metadata
from pathlib import Path

import pytest

from ..conftest import Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    build = "from hatchling.build import build_wheel; print(build_wheel('.'))"
    name = run(sys.executable, "-c", build, cwd=folder).splitlines()[-1]
    return folder / name


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `multilayer` command of an environment that holds the wheel, and borrows the rest."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    run(
        *(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"),
        *("--quiet", "--no-deps", "--no-index", wheel),
        cwd=folder,
    )
    site = next((folder / "lib").glob("python*/site-packages"))
    # A path alone: the editable install of this clone, a .pth file there, is not followed.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "multilayer"


def test_the_wheel_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """A sweep, evaluate and predict, with the config groups inside the wheel."""
    where = "import multilayer; print(multilayer.__file__)"
    package = run(installed.parent / "python", "-c", where, cwd=tmp_path)
    assert str(installed.parents[1]) in package
    run(
        installed,
        "train",
        "-m",
        "data=pass_class",
        "trainer.max_epochs=2",
        "seed=0,1",
        cwd=tmp_path,
    )
    folder, _ = (path.parent for path in tmp_path.glob("sweeps/*/*/metrics.json"))
    assert "90 test rows" in run(installed, "evaluate", f"run={folder}", cwd=tmp_path)
    (tmp_path / "me.csv").write_text("hours,lectures\n40,20\n")
    run(installed, "predict", f"run={folder}", "input=me.csv", "output=p.csv", cwd=tmp_path)
    assert (tmp_path / "p.csv").read_text().count("\n") == 2


SCRIPT = """
import multilayer
from multilayer import MLP, BuiltinData, MulticlassModule
from multilayer.callbacks import EarlyStopping

data = BuiltinData(name="digits", batch_size=64)
network = MLP(64, 10, d_hidden=[128, 64], dropout=0.1)
module = MulticlassModule(network)
stopping = EarlyStopping(monitor="validation/loss", patience=5)
config = multilayer.compose("train", ["data=iris"])
result = multilayer.train(config, "run")
predictor = multilayer.load("run", device="cpu")
predictor.predict({"a": [1.0]})
reveal_type(multilayer.__version__)
reveal_type(network)
reveal_type(config)
reveal_type(result.metrics)
reveal_type(predictor)
reveal_type(predictor.module)
reveal_type(predictor.metrics("new.csv"))
MLP("64", 10)
multilayer.load("run", device="tpu")
"""


MYPY = """
[mypy]
ignore_missing_imports = true
[mypy-torch.*,torchmetrics.*,pytorch_lightning.*,lightning_fabric.*,numpy.*,polars.*]
follow_imports = skip
[mypy-matplotlib.*,rich.*,pydantic.*,hydra.*,omegaconf.*,yaml.*]
follow_imports = skip
"""


def test_types_are_seen_from_outside(installed: Path, tmp_path: Path) -> None:
    """By mypy, in a script that uses the public names of the wheel; without other packages."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(MYPY)
    check = [sys.executable, "-m", "mypy", "--python-executable"]
    found = subprocess.run(
        [*check, installed.parent / "python", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert 'Revealed type is "str"' in found
    assert 'Revealed type is "multilayer.nn.mlp.MLP"' in found
    assert 'Revealed type is "dict[str, Any]"' in found
    assert 'Revealed type is "dict[str, dict[str, float]]"' in found
    assert 'Revealed type is "multilayer.training.predictor.Predictor"' in found
    assert 'Revealed type is "multilayer.training.module.SupervisedModule"' in found
    assert 'Revealed type is "dict[str, float]"' in found
    assert '"MLP" has incompatible type "str"; expected "int"' in found
    assert """"load" has incompatible type "Literal['tpu']"; expected""" in found
    assert "Found 2 errors in 1 file" in found


@pytest.mark.parametrize("package", ["", ".nn", ".data", ".training", ".callbacks", ".reports"])
def test_public_names_are_listed_and_there(package: str) -> None:
    """Each in `__all__` can be had, and `dir` shows it, as tab completion does."""
    module = import_module(f"multilayer{package}")
    assert module.__all__
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_a_public_name_is_imported_when_it_is_used() -> None:
    """`import multilayer` alone imports no torch."""
    program = "import sys, multilayer; dir(multilayer); print('torch' in sys.modules)"
    assert run(sys.executable, "-c", program, cwd=Path.cwd()) == "False\n"
    version = metadata.version("multilayer")
    program = "import multilayer; print(multilayer.__version__)"
    assert run(sys.executable, "-c", program, cwd=Path.cwd()) == f"{version}\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose environment is this one, as if `make` had installed it."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    scripts = Path(sysconfig.get_path("scripts"))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(scripts)
    for stamp in ("installed", "installed-dev"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def test_make_trains_sweeps_and_installs_nothing_twice(clone: Path) -> None:
    """`make train` and `make sweep` leave runs; nothing is installed again."""
    printed = run("make", "train", "ARGS=data=iris trainer.max_epochs=2", cwd=clone)
    assert "pip" not in printed
    assert "run folder  runs/" in printed
    printed = run("make", "sweep", "ARGS=data=iris trainer.max_epochs=2", cwd=clone)
    assert "sweep folder  sweeps/" in printed
    assert len(list(clone.glob("sweeps/*/*/metrics.json"))) == 4


def test_make_installs_before_it_trains(clone: Path) -> None:
    """In a fresh clone every target makes the environment first, from the pinned versions."""
    (clone / ".venv" / "bin").unlink()
    shutil.rmtree(clone / ".venv")
    for target in ("train", "sweep", "tensorboard", "test"):
        planned = run("make", "--dry-run", target, cwd=clone)
        assert "-m venv .venv" in planned
        assert "install --quiet --disable-pip-version-check -c constraints.txt -e" in planned


def test_make_tensorboard_serves_the_runs_on_this_machine_alone(
    clone: Path, finished_run: Path
) -> None:
    """The runs are listed on the loopback address; no other address answers."""
    shutil.copytree(finished_run, clone / "runs" / "today" / "now")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "tensorboard", f"ARGS=--port {port}"]
    server = subprocess.Popen(command, cwd=clone, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        runs = wait_for(f"http://localhost:{port}/data/runs", "today/now")
        assert "runs/today/now/tensorboard" in json.loads(runs)
        with socket.socket() as client:  # answered too, if the server listened everywhere
            assert client.connect_ex(("127.0.0.2", port)) != 0
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def wait_for(url: str, words: str) -> str:
    """The page, as soon as it holds some words."""
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as page:
            text = page.read().decode()
            if words in text:
                return str(text)
        time.sleep(0.1)
    raise AssertionError(f"{url} never held {words}")


def test_every_pinned_version_is_the_one_installed() -> None:
    """The tests run on what the Makefile installs."""
    from importlib.metadata import PackageNotFoundError, version

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:
        if not line or line.startswith("#"):
            continue
        name, _, pinned = line.partition("==")
        try:
            assert version(name).partition("+")[0] == pinned, name
        except PackageNotFoundError:
            assert name.lower() in OF_EXTRAS, f"{name} is pinned and not installed"


OF_EXTRAS = {"alembic", "mlflow-skinny", "pandas", "sqlalchemy", "wandb"}


def readme_commands() -> list[str]:
    """Each `multilayer` command in the README's code blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.startswith("multilayer ")]


def test_the_readmes_commands_run(multilayer: Run, tmp_path: Path, iris_csv: Path) -> None:
    """In their order, in an empty folder with a table; RUN and SWEEP are the last ones.

    Each trains for two epochs.
    """
    shutil.copy(iris_csv, tmp_path / "my.csv")
    commands = readme_commands()
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command)[1:]
        for name, pattern in (("RUN", "runs/*/*"), ("SWEEP", "sweeps/*")):
            found = sorted(tmp_path.glob(pattern), key=os.path.getmtime)
            words = [word.replace(name, str(found[-1])) if found else word for word in words]
        words += ["trainer.max_epochs=2"] if words[0] == "train" else []
        outcome = multilayer(*words)
        assert outcome.code == 0, f"{command}\n{outcome.err}"


def test_the_page_on_extending_is_true(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files, written as it says, give a run on a user's own network, data and schedule."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    page = (ROOT / "docs" / "guides" / "extending.md").read_text()
    for path, text in re.findall(r"```yaml\n# (mine/\S+)\n(.*?)```", page, re.DOTALL):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (weather,) = [block for block in blocks if "class Weather" in block]
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "weather.py").write_text(weather)
    (tmp_path / "my_package" / "networks.py").write_text(
        "from multilayer import MLP\n\n\ndef Wide(n_features, n_outputs, width):\n"
        "    return MLP(n_features, n_outputs, d_hidden=[width])\n"
    )
    choices = ["--config-dir", "mine", "model=wide", "model.width=64", "data=weather"]
    choices += ["scheduler=cosine_annealing", "trainer.max_epochs=5"]
    outcome = multilayer("train", *choices)
    assert outcome.code == 0, outcome.err
    assert "cosine_annealing" in multilayer("train", "--help", "--config-dir", "mine").out
