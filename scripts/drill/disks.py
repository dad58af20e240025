"""A disk that is full, files that may not grow, and a folder that may only be read."""

import os
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

from drill.files import changed_files, finished_files, unreadable
from drill.kills import Drill, Row, end_problems
from drill.subjects import Ended, run

_FULL = "No space left on device"
_LIMITED = "File too large"
_READ_ONLY = ("Read-only file system", "Permission denied")

_ON_SMALL_DISK = """
mount -t tmpfs -o size="$1" tmpfs "$2" && cp -a "$3/." "$2/" || exit 99
disk=$2 kept=$4; shift 4
"$@"; code=$?
cp -a "$disk/." "$kept/"; exit $code
"""
"""Runs a command where a folder is a disk with so many bytes and what another folder holds."""

_ON_READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
shift; exec "$@"
"""
"""Runs a command where a folder may only be read, also by root."""

_WITH_LIMIT = 'ulimit -f "$1"; shift; exec "$@"'
"""Runs a command whose files may have so many blocks."""


@cache
def _namespace() -> tuple[str, ...]:
    """What starts a command that may mount disks for itself alone; empty where nothing does."""
    for options in (("--mount",), ("--map-root-user", "--mount")):
        start = ("unshare", *options, "sh", "-c")
        if shutil.which("unshare"):
            tried = (*start, "mount -t tmpfs tmpfs /mnt")
            if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
                return start
    return ()


def fill_disk(drill: Drill, moments: int) -> Row:
    """Go on with a training of which a part is done on a disk that then is full."""
    row = Row(f"full disk, {drill.subject.name}")
    if not _namespace():
        row.skipped = "neither this user nor its own namespace may mount a disk"
        return row
    for _ in range(moments):
        folder, kept = drill.new_folder(), drill.new_folder()
        begun = _with_first_job(drill)
        free = drill.random.randrange(4096, _bytes_on_disk(drill.whole))
        size = _bytes_on_disk(begun) + free
        before = (*_namespace(), _ON_SMALL_DISK, "sh", f"{size}")
        before += (f"{folder.parent}", f"{begun.parent}", f"{kept.parent}")
        finished = finished_files(drill.subject.run_folders(begun))
        ended = run(drill.subject.command(folder), drill.folder, before)
        where = f"{kept}, {free} bytes free"
        moved = {kept / path.relative_to(begun): each for path, each in finished.items()}
        row.note(where, changed_files(moved) + _refused(ended, drill, _FULL))
        _go_on(drill, row, kept, where)
    return row


def limit_files(drill: Drill, moments: int) -> Row:
    """Train where files may not grow beyond a size; a quota of a kind that every user can set."""
    row = Row(f"limit of files, {drill.subject.name}")
    largest = max(path.stat().st_size for path in drill.whole.rglob("*") if path.is_file())
    for _ in range(moments):
        folder = drill.new_folder()
        blocks = drill.random.randrange(16, max(17, largest // 512))
        before = ("sh", "-c", _WITH_LIMIT, "sh", f"{blocks}")
        ended = run(drill.subject.command(folder), folder.parent, before)
        where = f"{folder}, {blocks} blocks"
        row.note(where, _refused(ended, drill, _LIMITED))
        _go_on(drill, row, folder, where)
    return row


def forbid_writing(drill: Drill) -> Row:
    """Go on with a training in a folder that may only be read: nothing is changed."""
    row = Row(f"read-only folder, {drill.subject.name}", unchanged=True)
    is_root = os.geteuid() == 0
    if is_root and not _namespace():
        row.skipped = "root may write in any folder, and cannot mount one to be read alone"
        return row
    folder = drill.new_folder()
    shutil.copytree(_with_first_job(drill), folder)
    before = (*_namespace(), _ON_READ_ONLY, "sh", f"{folder}") if _namespace() else ()
    finished = finished_files(drill.subject.run_folders(folder))
    files = sorted(folder.rglob("*"))
    folder.chmod(0o555)
    try:
        ended = run(drill.subject.command(folder), folder.parent, before)
    finally:
        folder.chmod(0o755)
    if ended.code == 0:
        row.note(str(folder), ["exit code 0"])
    row.note(str(folder), _refused(ended, drill, *_READ_ONLY) + changed_files(finished))
    if sorted(folder.rglob("*")) != files:
        row.note(str(folder), ["files have come or gone"])
    row.moments = 1
    return row


def _with_first_job(drill: Drill) -> Path:
    """A folder where the first job of a sweep is done; a single run has not begun there."""
    folder = drill.folder / "first" / "train"
    if not folder.exists():
        folder.mkdir(parents=True)
        if drill.subject.is_sweep:
            *shared, seeds = drill.subject.words
            subject = replace(drill.subject, words=(*shared, seeds.partition(",")[0]))
            ended = run(subject.command(folder), folder.parent)
            assert ended.code == 0, ended.last_words
    return folder


def _bytes_on_disk(folder: Path) -> int:
    """The bytes of the blocks that files below a folder take, at 4096 bytes a block."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // 4096) * 4096 for size in sizes)


def _refused(ended: Ended, drill: Drill, *reasons: str) -> list[str]:
    """What is wrong with how a command ended that could not write."""
    if ended.code == 0:  # there was enough after all
        return []
    problems = []
    codes = (1, 2) if drill.subject.is_sweep else (2,)
    if ended.code not in codes:
        problems.append(f"exit code {ended.code}, not {' or '.join(map(str, codes))}")
    if not any(reason in ended.said for reason in reasons):
        problems.append(f"no word of {reasons[0]!r}")
    if "Traceback" in ended.said:
        problems.append("a traceback")
    return [f"{problem}:\n{ended.last_words}" for problem in problems]


def _go_on(drill: Drill, row: Row, folder: Path, where: str) -> None:
    """Note what is wrong in a folder where writing failed, and go on there with all the space."""
    row.moments += 1
    row.note(where, unreadable(folder, has_ended=False))
    if not drill.is_done(folder):
        drill.clear_begun(folder)
        row.note(where, end_problems(run(drill.subject.command(folder), folder.parent)))
        row.resumed += 1
    drill.check_end(row, folder, curves=False)
