"""What a manifest says of the code that a run was made with."""

import subprocess
from pathlib import Path

from multilayer.runs.manifest import git_state


def test_the_revision_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    """None where there is no repository, or no commit yet."""

    def git(*words: str) -> str:
        identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        command = ["git", *identity, *words]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def state() -> dict[str, object] | None:
        git_state.cache_clear()
        return git_state(tmp_path)

    assert state() is None
    git("init")
    assert state() is None
    (tmp_path / "a.txt").write_text("a")
    git("add", "a.txt")
    git("commit", "-m", "first")
    revision = git("rev-parse", "HEAD")
    assert state() == {"revision": revision, "dirty": False, "code_changes": None}
    (tmp_path / "b.txt").write_text("b")
    assert state() == {"revision": revision, "dirty": True, "code_changes": None}
