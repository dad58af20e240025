"""The examples of the guide."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "scikit_learn.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
@pytest.mark.filterwarnings("error")
def test_an_example_runs(
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a warning, and prints about the scores that its comments say."""
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r"print\(.*\)(?: +# (.*))?\n", example)
    assert len(said) == len(printed)
    for wanted, found in zip(said, printed, strict=True):
        if about := re.match(r"(0\.\d+) or so", wanted):
            assert float(found) == pytest.approx(float(about[1]), abs=0.05)
        elif wanted:
            assert found == wanted
