"""Kills, interrupts, full disks and read-only folders: what becomes of sweeps and single runs.

python scripts/fault_drill.py [--moments 100] [--engines one,local:2] [--only "stacked"] [--seed 0]

Sweeps, stacked and one by one, and single runs of both engines are killed at random moments, and
gone on with by the same command until they are done. Then no job that was finished may have been
trained again or changed, every file must be readable, and weights, metrics and curves must equal
those of an undisturbed training: one by one to the last bit, in a stack to rounding. SIGTERM and
Ctrl-C must leave a checkpoint, and full disks and read-only folders a clear error, and what was
there before. It ends with exit code 1 if anything is wrong, and keeps the folders then.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree

from drill.disks import fill_disk, forbid_writing, limit_files
from drill.kills import Drill, Row
from drill.subjects import Subject, make_subjects
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def drill_subject(subject: Subject, folder: Path, moments: int, seed: int) -> Iterator[Row]:
    """All that is done to one subject, a row of the table each."""
    drill = Drill(subject, folder, seed)
    drill.train_undisturbed()
    yield drill.kill(moments)
    if subject.has_workers:
        yield drill.kill_workers(moments)
    few = max(1, moments // 4)
    for number in (signal.SIGTERM, signal.SIGINT):
        yield drill.interrupt(few, number)
    if not subject.has_workers:
        yield fill_disk(drill, few)
        yield limit_files(drill, few)
        yield forbid_writing(drill)


def print_table(rows: Sequence[Row]) -> None:
    """A line for each row."""
    table = Table("what", "moments", "resumed", "result", header_style="bold")
    for row in rows:
        table.add_row(row.what, str(row.moments), str(row.resumed), escape(row.result()))
    Console(width=120).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=4, help="kills of each; fewer of the rest")
    parser.add_argument("--engines", default="one", help="of sweeps: one, local:2, slurm:2, ray:2")
    parser.add_argument("--only", default="", help="subjects whose names hold this text")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--jobs", type=int, default=2, help="how many subjects at a time")
    options = parser.parse_args(arguments)
    subjects = [
        each for each in make_subjects(options.engines.split(",")) if options.only in each.name
    ]
    parent = Path(tempfile.mkdtemp(prefix="fault_drill."))

    folders = {subject: parent / str(index) for index, subject in enumerate(subjects)}

    def drill(subject: Subject) -> list[Row]:
        rows = []
        try:
            for row in drill_subject(subject, folders[subject], options.moments, options.seed):
                lines = [f"  {problem}" for problem in row.problems]
                print(f"{row.what}: {row.result()}", *lines, sep="\n", flush=True)
                rows.append(row)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            rows.append(Row(subject.name, problems=[f"the drill ended: {error}"]))
            print(rows[-1].what, *rows[-1].problems, sep="\n", flush=True)
        return rows

    with ThreadPoolExecutor(options.jobs) as threads:
        rows = [row for each in threads.map(drill, subjects) for row in each]
    print_table(rows)
    if any(row.problems for row in rows):
        print(f"the folders are kept: {parent}")
        return 1
    rmtree(parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
