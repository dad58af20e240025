"""Secrets in a config: references to the environment stay so, and the rest is masked."""

import json
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger

from multilayer.cli.config_loader import take_value
from multilayer.core.errors import UserError
from multilayer.reports.planned_jobs import count_jobs
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.config import (
    _keep_env_references,
    mask_config,
    mask_overrides,
    problems_with,
)

from ..conftest import Run, only_folder
from ..trained import config_of, train_in

QUICK = ["data=iris", "trainer.max_epochs=1", "compile=false", "logger=csv"]

SECRET = "hunter2"


class Tracker(CSVLogger):
    """A logger that wants an address and a key."""

    seen: tuple[str, Any] = ("", None)

    def __init__(self, tracking_uri: str, api_key: Any = None, **rest: Any) -> None:
        Tracker.seen = tracking_uri, api_key
        super().__init__(**rest)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides that add the logger, with an address out of the environment."""
    monkeypatch.setenv("TRACKER", f"https://me:{SECRET}@example.org")
    Tracker.seen = "", None
    return [
        *QUICK,
        f"logger.csv._target_={__name__}.Tracker",
        "+logger.csv.tracking_uri='${oc.env:TRACKER}/x'",
    ]


def files_with(text: str, folder: Path) -> list[str]:
    """The files below a folder that hold a text; checkpoints are not packed."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_what_comes_from_the_environment_is_used_and_not_written(
    tracker: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run folder has the reference, and a run that goes on looks it up anew."""
    train_in(tmp_path / "run", *tracker)
    assert Tracker.seen[0] == f"https://me:{SECRET}@example.org/x"
    assert files_with(SECRET, tmp_path / "run") == []
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert config["logger"]["csv"]["tracking_uri"] == "${oc.env:TRACKER}/x"
    assert last["multilayer"]["config"] == config

    monkeypatch.setenv("TRACKER", "https://you:another@example.org")
    on = [f"resume={tmp_path / 'run'}", "trainer.max_epochs=2", f"trusted_packages=[{__name__}]"]
    with pytest.raises(UserError, match=r"give it as logger\.csv\.tracking_uri=VALUE"):
        train_in(tmp_path / "refused", *on)  # a stranger's run might send any variable anywhere
    train_in(tmp_path / "on", *on, "logger.csv.tracking_uri='${oc.env:TRACKER}/x'")
    assert Tracker.seen[0] == "https://you:another@example.org/x"
    assert files_with("another", tmp_path / "on") == []


def test_a_reference_of_our_own_files_is_looked_up_in_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's address, as conf/logger/mlflow.yaml has it."""
    pytest.importorskip("mlflow", reason="an extra")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/{SECRET}.db")
    words = ["data=iris", "trainer.max_epochs=1", "compile=false", "logger=mlflow"]
    train_in(tmp_path / "run", *words)
    train_in(tmp_path / "on", f"resume={tmp_path / 'run'}", "trainer.max_epochs=2")
    assert files_with(SECRET, tmp_path / "run") == files_with(SECRET, tmp_path / "on") == []


def test_the_reference_of_mlflows_address_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, though Hydra has resolved it to be checked."""
    monkeypatch.setattr("multilayer.core.config_problems._missing_extras", lambda loggers: [])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://me:{SECRET}@example.org")
    address = config_of("logger=mlflow")["logger"]["mlflow"]["tracking_uri"]
    assert address == '${oc.env:MLFLOW_TRACKING_URI,"sqlite:///mlflow.db"}'
    assert take_value("logger.mlflow.tracking_uri", address) == address


def test_a_job_of_a_sweep_lacks_what_is_not_taken_from_its_run() -> None:
    """Only one job is checked before the sweep begins; each is before it is built."""
    config = config_of() | {"logger": {"x": {"uri": take_value("logger.x.uri", "https://a.org")}}}
    (problem,) = problems_with("train", config, in_sweep=True)
    assert "give it as logger.x.uri=VALUE" in problem.text


def test_references_through_other_keys_stay_references() -> None:
    """What is no string is a value: a number is no secret, and has to be there to train again."""
    from omegaconf import OmegaConf

    config = OmegaConf.create(
        {
            "own": "${oc.env:HOST,'a\"b'}",
            "logger": {"a": ["${own}/x", 1], "b": {"c": "${oc.decode:${oc.env:N,3}}"}},
        }
    )
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    found = _keep_env_references(config, {str(key): value for key, value in resolved.items()})
    assert found["logger"] == {"a": ['${oc.env:HOST,"a\\"b"}/x', 1], "b": {"c": 3}}
    again = OmegaConf.to_container(OmegaConf.create(found), resolve=True)
    assert isinstance(again, dict)
    assert again["logger"] == resolved["logger"]


def test_a_table_by_a_variable_is_read_by_every_command(
    multilayer: Run, iris_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is looked up where it is read; without the variable it is told which is missing."""
    monkeypatch.setenv("TABLES", str(iris_csv.parent))
    words = ["data=table", "data.path='${oc.env:TABLES}/iris.csv'", "data.target=species"]
    outcome = multilayer("train", *words, "trainer.max_epochs=1", "trainer=cpu")
    assert outcome.code == 0, outcome.err
    run = only_folder(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["path"] == "${oc.env:TABLES}/iris.csv"
    assert multilayer("evaluate", f"run={run}").code == 0
    words = [f"input={iris_csv}", "output=predictions.csv"]
    on = ["train", f"resume={run}", "trainer.max_epochs=2"]
    assert "give it as data.path=VALUE" in multilayer(*on).err
    assert multilayer(*on, "data.path='${oc.env:TABLES}/iris.csv'").code == 0
    monkeypatch.delenv("TABLES")
    outcome = multilayer("evaluate", f"run={run}")
    assert outcome.code == 2
    assert "TABLES" in outcome.err
    assert multilayer("predict", f"run={run}", *words).code == 0
    assert pl.read_csv("predictions.csv").height == 150


def test_a_secret_that_is_named_is_used_and_masked(tracker: list[str], tmp_path: Path) -> None:
    """In the config, the checkpoints, and the command; going on asks for it again."""
    secrets = [
        "+logger.csv.api_key=hunter2",
        "+logger.csv.tracking_uri='https://me:hunter2@example.org/x?a=1&token=hunter2'",
    ]
    train_in(tmp_path / "run", *tracker[:-1], *secrets)
    assert Tracker.seen == ("https://me:hunter2@example.org/x?a=1&token=hunter2", SECRET)
    assert files_with(SECRET, tmp_path / "run") == []
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["overrides"][-2:] == [
        "+logger.csv.api_key=***",
        "+logger.csv.tracking_uri='https://***@example.org/x?a=1&token=***'",
    ]
    on = [f"resume={tmp_path / 'run'}", "trainer.max_epochs=2", f"trusted_packages=[{__name__}]"]
    with pytest.raises(UserError) as error:
        train_in(tmp_path / "refused", *on)
    keys = {line.partition(":")[0] for line in str(error.value).splitlines()}
    assert keys == {"logger.csv.tracking_uri", "logger.csv.api_key"}
    train_in(tmp_path / "on", *on, *(word.removeprefix("+") for word in secrets))
    assert Tracker.seen[1] == SECRET


@pytest.mark.parametrize("words", [[], ["-m"], ["-m", "hydra/launcher=lockstep"]])
def test_a_recorded_command_refers_to_the_environment_as_it_was_given(
    multilayer: Run, tracker: list[str], tmp_path: Path, words: list[str]
) -> None:
    """Pasted, it logs in with what the variable holds; Hydra's sweeper writes it in its own way."""
    folder = "hydra.sweep.dir=sweep" if words else "hydra.run.dir=sweep/0"
    own = ["+logger.csv.api_key=${oc.env:TRACKER}", folder]
    assert multilayer("train", *words, *tracker, *own).code == 0
    manifest = json.loads((tmp_path / "sweep" / "0" / "manifest.json").read_text())
    assert files_with(SECRET, tmp_path) == []
    Tracker.seen = "", None
    assert multilayer(*shlex.split(manifest["command"])[1:]).code == 0
    assert Tracker.seen == (
        f"https://me:{SECRET}@example.org/x",
        f"https://me:{SECRET}@example.org",
    )


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=lockstep"]])
def test_a_secret_of_a_sweep_is_masked_in_what_hydra_notes(
    multilayer: Run, tracker: list[str], tmp_path: Path, launcher: list[str]
) -> None:
    """In the values, the words and the string made of them; its jobs are counted as before."""
    words = [*tracker[:-1], "+logger.csv.tracking_uri=x", "+logger.csv.api_key=hunter2", "seed=0,1"]
    outcome = multilayer("train", "-m", *launcher, *words, "hydra.sweep.dir=sweep")
    assert outcome.code == 0, outcome.err
    assert SECRET not in outcome.out + outcome.err
    assert Tracker.seen == ("x", SECRET)
    assert files_with(SECRET, tmp_path) == []
    noted = (tmp_path / "sweep" / "multirun.yaml").read_text()
    assert "- +logger.csv.api_key=***" in noted
    assert count_jobs(tmp_path / "sweep") == 2


NAMES = ["auth", "bearer", "passphrase", "PGPASSWORD", "X-Api-Key", "db_pwd", "cookie", "secretKey"]
ALLOWED = [
    "logger.x.api_key=${oc.env:KEY}",
    "logger.x.api_key=$\\{oc.env\\:KEY\\}",
    "logger.x.uri='https://${oc.env:USER}:${oc.env:KEY}@host'",
    "logger.x.headers={Authorization: 'Bearer ${oc.env:KEY}'}",
    "logger.x={api_key: ${oc.env:KEY}, project: p}",
    "logger.x.token=null",
    "logger.x.auth=true",
    "logger.x.author=me",
    "logger.x.tag='a basic run'",
    "model.d_hidden=[64]",
    "data.path=/home/me@work/t.csv",
    "data.path=/tables/token=5/t.csv",
    "monitor=validation/loss",
    "model.n_tokens=8",
    "~logger",
]


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("logger.x.password=a", "logger.x.password=***"),
        ("+logger.x.auth_token='a b'", "+logger.x.auth_token=***"),
        ("logger.x.client_secret=1234", "logger.x.client_secret=***"),
        ("+logger.x={api_key: abc, project: p}", "+logger.x={api_key: ***, project: p}"),
        (
            "logger.x.uri='postgresql://me:p%40ss@host/db'",
            "logger.x.uri='postgresql://***@host/db'",
        ),
        (
            "logger.x.uris=[http://t0k3n@a/b,http://c/d]",
            "logger.x.uris=[http://***@a/b,http://c/d]",
        ),
        ("+logger.x.headers={Authorization: 'Bearer a'}", "+logger.x.headers={Authorization: ***}"),
        (
            "+logger.x.headers=['Authorization: Basic a']",
            "+logger.x.headers=['Authorization: ***']",
        ),
        ("+logger.x.dsn='Server=h;Password=a;x=1'", "+logger.x.dsn='Server=h;Password=***;x=1'"),
        ("+logger.x.uri=me:pw@host/db", "+logger.x.uri=***@host/db"),
        ("+logger.x.uri='a://me:p@ss@host/db'", "+logger.x.uri='a://***@host/db'"),
        ("+logger.x.db=AccountKey=a==", "+logger.x.db=AccountKey=***"),
        *((f"+logger.x.{key}=a", f"+logger.x.{key}=***") for key in NAMES),
        *((word, word) for word in ALLOWED),
    ],
)
def test_words_are_written_without_secrets(word: str, written: str) -> None:
    """And otherwise as they are."""
    assert mask_overrides([word]) == [written]


def test_our_own_configs_hold_nothing_that_is_masked() -> None:
    """No key of ours is taken for a secret."""
    for words in (
        [],
        ["callbacks=[default,lr_sweep,figures,diagnostics]", "logger=[csv,tensorboard]"],
    ):
        config = config_of(*words)
        assert mask_config(config) == config
