"""The tab "HParams" of a sweep, as TensorBoard's own backend reads it."""

import json
import subprocess
import sys
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.get_experiment import Handler as Experiment
from tensorboard.plugins.hparams.list_session_groups import Handler as SessionGroups

from multilayer.reports.report import report
from multilayer.reports.summary import _write_hparams, print_sweep
from multilayer.reports.sweep import read_sweep
from multilayer.runs.folder import HPARAMS_FILE

from ..conftest import Run
from .fake_sweeps import write_run

QUICK = ["data=iris", "trainer.max_epochs=2", "hydra.sweep.dir=sweep"]
STATUSES = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]


def ask(handler: Any, sweep: Path, *request: Any) -> Any:
    """What TensorBoard's backend answers for a folder."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(sweep)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(sweep))
    context = Context(TBContext(data_provider=provider))
    return handler(RequestContext(), context, "", *request).run()


def rows(sweep: Path) -> dict[str, tuple[dict[str, Any], dict[str, float], int]]:
    """By job: what varied, the final metrics and the status of its row."""
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=STATUSES
    )
    found = {}
    for group in ask(SessionGroups, sweep, request).session_groups:
        (session,) = group.sessions
        hparams = {
            key: value.number_value if value.HasField("number_value") else value.string_value
            for key, value in group.hparams.items()
        }
        assert group.name == session.name.removesuffix("/tensorboard")
        metrics = {each.name.tag: each.value for each in group.metric_values}
        found[session.name.partition("/")[0]] = hparams, metrics, session.status
    return found


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_the_table_is_as_wide_as_columns_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: str,
) -> None:
    """Also where it is no terminal; names and numbers of metrics stay whole."""
    monkeypatch.setenv("COLUMNS", columns)
    for number, lr in enumerate((0.001, 0.01)):
        metrics = {"test": {"accuracy": 0.869565}}
        values: Any = {"optimizer__weight_decay": 0.1 * number, "seed": number}
        write_run(tmp_path / f"s/{number}", 0.123456, metrics=metrics, optimizer__lr=lr, **values)
    print_sweep(tmp_path / "s")
    out = capsys.readouterr().out.partition("sweep folder")[0]
    assert max(map(len, out.splitlines())) <= int(columns)
    for words in ("validation/loss", "0.123456", "accuracy 0.869565", "optimizer.lr=0.001"):
        assert words in out


def test_a_run_that_has_not_ended_has_the_value_of_its_last_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its history, if it has validated at all; it is not the best one by it."""
    write_run(tmp_path / "s/0", 0.5, seed=0)
    write_run(tmp_path / "s/1", status="interrupted", curve=[0.9, 0.25, float("nan")], seed=1)
    write_run(tmp_path / "s/2", status="interrupted", seed=2)
    write_run(tmp_path / "s/3", status="diverged", curve=[0.9], seed=3)
    print_sweep(tmp_path / "s")
    lines = [line for line in capsys.readouterr().out.splitlines() if "seed=" in line]
    cells = [[cell.strip() for cell in line.split("│")[3:5]] for line in lines]
    interrupted = [["interrupted", "0.25 in epoch 2"], ["interrupted", "-"]]
    assert cells == [["done", "0.5 *"], *interrupted, ["diverged", "-"]]


@pytest.mark.parametrize("name", ["rmse", "accuracy"])
def test_a_loss_of_another_unit_than_the_errors_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """In the table of a sweep, and in that of its report."""
    for seed in range(2):
        write_run(tmp_path / f"s/{seed}", 0.5, metrics={"test": {name: 0.9}}, seed=seed)
    for show in (
        lambda: print_sweep(tmp_path / "s"),
        lambda: report({"sweep": str(tmp_path / "s"), "metric": None}),
    ):
        show()
        said = "the loss is of the standardized target" in capsys.readouterr().out
        assert said == (name == "rmse")


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_each_run_has_a_row_of_what_varied_and_its_final_metrics(
    launcher: str, multilayer: Run, tmp_path: Path
) -> None:
    """No placeholder, and none of the rest of the config."""
    outcome = multilayer(
        "train", "-m", *QUICK, f"hydra/launcher={launcher}", "optimizer.lr=1e-3,1e-2", "seed=0,1"
    )
    assert outcome.code == 0, outcome.err
    sweep = tmp_path / "sweep"
    found = rows(sweep)
    assert [hparams for hparams, _, _ in found.values()] == [
        {"optimizer.lr": lr, "seed": str(seed)} for lr in (1e-3, 1e-2) for seed in (0, 1)
    ]
    for job, (_, metrics, status) in found.items():
        final = json.loads((sweep / job / "metrics.json").read_text())
        assert metrics == pytest.approx(
            {
                f"whole_run/{split}/{name}": final[split][name]
                for split in ("validation", "test")
                for name in ("loss", "accuracy")
            }
        )
        assert status == api_pb2.STATUS_SUCCESS
    about = ask(Experiment, sweep, api_pb2.GetExperimentRequest())
    assert {info.name for info in about.hparam_infos} == {"optimizer.lr", "seed"}
    assert about.metric_infos[0].name.tag == "whole_run/validation/loss"


def test_choices_are_words_and_the_monitored_metric_comes_first(
    multilayer: Run, tmp_path: Path
) -> None:
    """Beside a word a number is a word too."""
    outcome = multilayer(
        "train", "-m", *QUICK, "monitor=validation/f1", "mode=max", "hydra/launcher=lockstep",
        "optimizer=sgd,adam", "data.batch_size=16,full",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    hparams, metrics, _ = rows(tmp_path / "sweep")["2"]
    assert hparams == {"optimizer": "adam", "data.batch_size": "16"}
    assert next(iter(metrics)) == "whole_run/validation/f1"


def test_runs_that_failed_or_diverged_have_a_row_that_says_so(
    multilayer: Run, tmp_path: Path
) -> None:
    """With the metrics that there are."""
    outcome = multilayer(
        "train", "-m", *QUICK, "optimizer=sgd", "trainer.max_epochs=20", "data=diabetes",
        "optimizer.lr=0.01,1e30", "optimizer.nesterov=false,true",
    )  # fmt: skip
    assert outcome.code == 1
    found = rows(tmp_path / "sweep")
    _, metrics, status = found["0"]
    assert status == api_pb2.STATUS_SUCCESS
    assert set(metrics) >= {"whole_run/test/loss", "whole_run/test/rmse"}
    assert found["1"] == (
        {"optimizer.lr": 0.01, "optimizer.nesterov": "true"},
        {},
        api_pb2.STATUS_FAILURE,
    )
    _, metrics, status = found["2"]
    assert status == api_pb2.STATUS_FAILURE
    assert not any(map(isnan, metrics.values()))


def test_rows_written_again_take_the_place_of_the_first(multilayer: Run, tmp_path: Path) -> None:
    """One file a run, the last by its name, and nothing beside it."""
    multilayer("train", "-m", *QUICK, "hydra/launcher=lockstep", "seed=0,1")
    sweep = tmp_path / "sweep"
    before = rows(sweep)
    print_sweep(sweep)
    assert rows(sweep) == before
    for job in ("0", "1"):
        names = sorted(path.name for path in (sweep / job / "tensorboard").iterdir())
        assert len(names) == 2
        assert names[-1] == HPARAMS_FILE


def test_without_tensorboard_nothing_is_written(multilayer: Run, tmp_path: Path) -> None:
    """As with `logger=csv`."""
    outcome = multilayer("train", "-m", *QUICK, "hydra/launcher=lockstep", "logger=csv", "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert not list(tmp_path.rglob("*tfevents*"))


def test_a_sweep_without_tensorboard_ends_without_torch() -> None:
    """The process that started the sweep may not have trained anything."""
    script = "import sys, multilayer.reports.summary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_run_of_a_stack_ends_when_the_stack_let_it_go(tmp_path: Path) -> None:
    """Its share of the time is no time of the day."""
    logger = {"tensorboard": {"_target_": "multilayer.training.TensorBoard"}}
    about = {"started": "2026-01-01T00:00:00+00:00", "members": 2, "fit_seconds": 3.0}
    for number in range(2):
        manifest = about | {"stack_seconds": 60.0}
        write_run(tmp_path / str(number), 0.5, manifest=manifest, seed=number, logger=logger)
    _write_hparams(read_sweep(tmp_path))
    events = EventFileLoader(str(tmp_path / "0" / "tensorboard" / HPARAMS_FILE)).Load()
    times = {event.wall_time for event in events}
    assert times == {datetime.fromisoformat(str(about["started"])).timestamp() + 60.0}


def test_a_row_lacks_what_the_run_does_not_have(tmp_path: Path) -> None:
    """An argument of another class, as a momentum; the column is there."""
    logger = {"tensorboard": {"_target_": "multilayer.training.TensorBoard"}}
    write_run(tmp_path / "0", 0.5, logger=logger, seed=0, optimizer__momentum=0.9)
    write_run(tmp_path / "1", 0.4, logger=logger, seed=1)
    _write_hparams(read_sweep(tmp_path))
    assert [hparams for hparams, _, _ in rows(tmp_path).values()] == [
        {"seed": "0", "optimizer.momentum": 0.9},
        {"seed": "1"},
    ]
