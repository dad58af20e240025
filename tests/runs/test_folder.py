"""What a manifest says of the code that a run was made with."""

import os
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


def test_the_digest_is_of_what_is_in_the_python_files(tmp_path: Path) -> None:
    """Whether they are staged or not; links, pipes and devices are not read, nor keep it from."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    def changes() -> str:
        git_state.cache_clear()
        state = git_state(tmp_path)
        assert state is not None
        assert state["code_changes"]
        return str(state["code_changes"])

    git("init")
    (tmp_path / "old.py").write_text("a = 1")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "old.py").write_text("a = 2")
    (tmp_path / "new.py").write_text("b = 1")
    seen = [changes()]
    git("add", "new.py")
    git("config", "core.abbrev", "20")
    assert changes() == seen[0]
    (tmp_path / ".#m.py").symlink_to("me@host.1:2")
    seen.append(changes())
    (tmp_path / "z.py").symlink_to("/dev/zero")
    seen.append(changes())
    os.mkfifo(tmp_path / "p.py")
    assert changes() == seen[-1]  # git lists no pipes
    (tmp_path / "old.py").unlink()
    seen.append(changes())
    os.mkfifo(tmp_path / "old.py")
    seen.append(changes())
    assert len({*seen}) == len(seen)
