"""The page on one's own code is true: its blocks run one after another, in an empty folder."""

import os
import re
from pathlib import Path

import pytest

import multilayer

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "guides" / "your_own_code.md", ROOT / "README.md"


def test_the_blocks_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they leave is what the page says."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "the frame lacks 'ash'; it has 'alcohol'" in printed
    assert printed.count("done") == 2  # the statuses of two runs
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "runs"]
    assert names["probabilities"].shape == (100, 3)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_readmes_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order too; with fewer epochs."""
    monkeypatch.chdir(tmp_path)
    section = README.read_text().partition("## Use it as a library")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        short = block.replace("max_epochs=10", "max_epochs=1, accelerator='cpu'")
        exec(compile(short, str(README), "exec"), names)
    assert names["probabilities"].shape == (1797, 10)  # type: ignore[attr-defined]
    assert names["predictor"].task == "multiclass"  # type: ignore[attr-defined]
    assert names["search"].best_score_ > 0.95  # type: ignore[attr-defined]


def test_every_method_of_a_predictor_is_in_the_table() -> None:
    """As far as users call it."""
    page = PAGE.read_text()
    offered = [name for name in vars(multilayer.Predictor) if not name.startswith("_")]
    left_out = {
        "task",
        "encode",
        "preprocess",
        "minibatches",
        "evaluate",
        "was_trained_on",
    }  # of the commands
    for name in [*offered, "config", "columns"]:
        assert name in left_out or f"`{name}" in page or f".{name}(" in page, name
