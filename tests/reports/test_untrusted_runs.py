"""Reports of untrusted sweep folders."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from multilayer.core.files import partial_of
from multilayer.reports.planned_jobs import count_jobs
from multilayer.reports.runs import read_curves
from multilayer.reports.summary import _write_hparams
from multilayer.reports.sweep import open_sweep, read_sweep
from multilayer.runs.folder import HPARAMS_FILE

from ..conftest import Run
from .fake_sweeps import write_grid, write_noted, write_run
from .untrusted_runs import YAML, write_untrusted


def state(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def tokens(text: str) -> Iterator[Token]:
    """The parts of a Markdown text, as a reader that lets HTML through takes them."""
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        yield token
        yield from token.children or []


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder beside the sweep, with files that a report writes or removes in its own."""
    folder = tmp_path / "canary"
    folder.mkdir()
    for name in ("secret.txt", "metric_by_mine.png", "heat_map.png"):
        (folder / name).write_text(f"{name} of mine")
    return folder


@pytest.mark.parametrize("seed", range(100))
def test_no_untrusted_folder_does_harm(
    multilayer: Run, tmp_path: Path, canary: Path, seed: int
) -> None:
    """A report or a message; nothing outside is touched, nothing that is written acts."""
    sweep = tmp_path / "sweep"
    write_untrusted(sweep, canary, seed)
    before, beside = state(canary), set(tmp_path.iterdir())
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code in (0, 2), outcome.err
    printed = outcome.out + outcome.err
    assert "Traceback" not in printed
    assert not [each for each in printed if not (each.isprintable() or each in "\n\t")]
    assert state(canary) == before
    assert set(tmp_path.iterdir()) == beside
    if outcome.code == 0:
        assert not [path for path in sweep.glob(".*") if not path.is_dir()]
        text = (sweep / "report.md").read_text()
        assert not [each for each in text if not (each.isprintable() or each == "\n")]
        found = list(tokens(text))
        acting = [each for each in found if each.type in ("html_block", "html_inline", "link_open")]
        assert not acting
        pictures = [token.attrs["src"] for token in found if token.type == "image"]
        assert all((sweep / str(picture)).is_file() for picture in pictures)
        headings = [token.map for token in found if token.type == "heading_open"]
        assert len(headings) <= 12  # all ours


def test_links_are_replaced_by_what_is_written(
    multilayer: Run, tmp_path: Path, canary: Path
) -> None:
    """Also of those to folders, and of what is not yet there."""
    sweep, before = tmp_path / "sweep", state(canary)
    write_grid(sweep, {0.1: [0.5], 1.0: [0.6]})
    (sweep / "report.md").symlink_to(canary / "secret.txt")
    (sweep / "runs.csv").symlink_to(canary / "new.csv")
    partial_of(sweep / "runs.parquet").symlink_to(canary / "secret.txt")
    (sweep / "figures").mkdir()
    (sweep / "figures" / "heat_map.png").symlink_to(canary / "heat_map.png")
    (sweep / "figures" / "metric_by_optimizer.lr.png").symlink_to(canary / "secret.txt")
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code == 0, outcome.err
    assert state(canary) == before
    written = ["report.md", "runs.csv", "runs.parquet", "figures/metric_by_optimizer.lr.png"]
    assert all((sweep / name).is_file() for name in written)
    assert not any((sweep / name).is_symlink() for name in written)
    assert not (sweep / "figures" / "heat_map.png").is_symlink()  # removed: none is drawn


def test_figures_are_not_drawn_where_a_link_leads(
    multilayer: Run, tmp_path: Path, canary: Path
) -> None:
    """Refused before anything is written, with the command that mends it."""
    sweep, before = tmp_path / "sweep", state(canary)
    write_grid(sweep, {0.1: [0.5], 1.0: [0.6]})
    (sweep / "figures").symlink_to(canary)
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code == 2
    assert "remove it: rm sweep/figures" in outcome.err
    assert state(canary) == before
    assert not (sweep / "runs.csv").exists()


def test_figures_stay_inside_whatever_the_key(multilayer: Run, tmp_path: Path) -> None:
    """Two keys that differ in such letters alone have a figure each."""
    sweep = tmp_path / "sweep"
    for number in range(2):
        values = {"../../a": number, "..__..__a": number, "x" * 400: number}
        write_run(sweep / str(number), 0.5 + number, optimizer__lr=0.1)
        manifest = json.loads((sweep / str(number) / "manifest.json").read_text())
        manifest["overrides"] += [f"{key}={value}" for key, value in values.items()]
        (sweep / str(number) / "manifest.json").write_text(json.dumps(manifest))
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code == 0, outcome.err
    figures = [path.name for path in (sweep / "figures").glob("metric_by_*.png")]
    assert len(figures) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_names_are_escaped_everywhere(multilayer: Run, tmp_path: Path) -> None:
    """In Markdown, in the terminal and in figures; the command is whole, and in one block."""
    name = "\x1b[31m<b>a</b>\u202e | [x](http://evil) `y` $\\frac{$\n```\n# z"
    sweep = tmp_path / "sweep"
    for number in range(2):
        write_run(sweep / str(number), 0.5 + number, optimizer__lr=0.1, tag=f"{name}{number}")
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code == 0, outcome.err
    assert "\\x1b[31m<b>a</b>\\u202e" in outcome.out
    found = list(tokens((sweep / "report.md").read_text()))
    (command,) = [token.content for token in found if token.type == "fence"]
    shown = name.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert f"'tag={shown}0'" in command
    texts = [token.content for token in found if token.type == "text"]
    assert any("<b>a</b>" in text for text in texts)
    assert "z0" not in [token.content for token in found]


@pytest.mark.parametrize(
    ("words", "n"),
    [
        (["seed=range(1000000000)"], 10**9),
        (["seed=shuffle(range(1000000000))", "optimizer.lr=1,2"], 2 * 10**9),
        (["optimizer.lr=range(0,1,0.001)"], 1000),
        (["optimizer.lr=range(0,1,0.3)"], 4),
        (["optimizer.lr=range(1,0,-0.25)"], 4),
        (["seed=range(5,1)"], 0),
        (["seed=range(3,0,-2)"], 2),
        (["seed=range(0,1,0)"], None),
        (["seed=range(0,inf)"], None),
        ([f"seed=range({10**18})"] * 2, None),
        (["model=glob(*)"], None),
        (["a=" + "[" * 50_000], None),
        ("seed=1,2", None),
    ],
)
def test_jobs_are_counted_without_listing_them(tmp_path: Path, words: Any, n: int | None) -> None:
    """As many as Hydra would start; None where nobody can know, or would start them."""
    write_noted(tmp_path, words)
    assert count_jobs(tmp_path) == n


def test_of_a_billion_missing_runs_the_first_are_listed(multilayer: Run, tmp_path: Path) -> None:
    """And all are counted."""
    write_grid(tmp_path / "sweep", {0.1: [0.5, 0.6]})
    write_noted(tmp_path / "sweep", ["seed=range(1000000000)"])
    outcome = multilayer("report", "sweep=sweep")
    assert "2 runs of 1000000000 planned" in outcome.out
    assert "missing: 999999998 (runs 2, 3, 4, 5," in outcome.out
    assert "21 and 999999978 more)" in outcome.out


def test_a_file_beyond_the_bounds_breaks_that_run_alone(tmp_path: Path) -> None:
    """It is named with the reason; a pipe is not waited for."""
    write_grid(tmp_path, {0.1: [0.5], 1.0: [0.6], 10.0: [0.7], 100.0: [0.8], 1000.0: [0.9]})
    (tmp_path / "1" / "config.yaml").unlink()
    os.mkfifo(tmp_path / "1" / "config.yaml")
    (tmp_path / "2" / "metrics.json").write_bytes(b" " * 10_000_000)
    (tmp_path / "3" / "manifest.json").unlink()
    (tmp_path / "3" / "manifest.json").mkdir()
    (tmp_path / "4" / "config.yaml").unlink()
    (tmp_path / "4" / "config.yaml").symlink_to("/dev/zero")
    sweep = open_sweep(tmp_path)
    assert sweep.broken == {
        "1": "config.yaml is not a regular file",
        "2": "metrics.json is larger than 1 MiB",
        "3": "manifest.json is not a regular file",
        "4": "config.yaml is not a regular file",
    }
    assert [run.name for run in sweep.runs] == ["0"]


@pytest.mark.parametrize("text", YAML)
@pytest.mark.parametrize("name", ["0/config.yaml", "multirun.yaml"])
def test_no_yaml_crashes_the_process(tmp_path: Path, text: str, name: str) -> None:
    """Deep, holding itself, or of values that are none."""
    write_grid(tmp_path, {0.1: [0.5], 1.0: [0.6]})
    before = "monitor: validation/loss\nmode: min\n" if name == "0/config.yaml" else ""
    (tmp_path / name).write_text(before + text)
    sweep = open_sweep(tmp_path)
    assert sweep.n_planned is None
    assert "1" in [run.name for run in sweep.runs]


def test_histories_are_read_within_bounds(tmp_path: Path) -> None:
    """Not pipes, nor the holes of a file of 64 GB."""
    path = tmp_path / "history.csv"
    os.mkfifo(path)
    assert read_curves(path, ["train/loss"]) is None
    path.unlink()
    with path.open("wb") as file:
        file.write(b"epoch,train/loss\n1,0.5\n")
        file.truncate(2**36)
    curves = read_curves(path, ["train/loss"])
    assert curves is not None
    assert curves["epoch"].tolist() == [1]


def test_hparams_are_not_written_through_a_link(tmp_path: Path, canary: Path) -> None:
    """Nor through one that has the name of the partial file."""
    before = state(canary)
    logger = {"tensorboard": {"_target_": "multilayer.training.TensorBoard"}}
    for number in range(2):
        write_run(tmp_path / "sweep" / str(number), 0.5, optimizer__lr=0.1 + number, logger=logger)
    (tmp_path / "sweep" / "0" / "tensorboard").symlink_to(canary)
    own = tmp_path / "sweep" / "1" / "tensorboard"
    own.mkdir()
    partial_of(own / HPARAMS_FILE).symlink_to(canary / "secret.txt")
    _write_hparams(read_sweep(tmp_path / "sweep"))
    assert state(canary) == before
    assert (own / "events.out.tfevents.9999999999.hparams").is_file()


def test_runs_with_the_same_folder_name_are_distinguished(tmp_path: Path) -> None:
    """With `hydra.sweep.subdir='${optimizer}/${seed}'`; else one would have the other's curves."""
    write_noted(tmp_path, ["optimizer=sgd,adam"])
    for number, name in enumerate(("adam", "sgd")):
        write_run(tmp_path / name / "0", 0.5 + number, optimizer=name)
    assert [run.name for run in open_sweep(tmp_path).runs] == ["adam/0", "sgd/0"]
