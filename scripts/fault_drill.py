"""Kills, interrupts, full disks and read-only folders: what becomes of sweeps and single runs.

python scripts/fault_drill.py [--moments 100] [--engines one,local:2] [--only "stacked"] [--seed 0]
                              [--runs 256] [--nodes]

Sweeps, stacked and one by one, and single runs of both engines are killed at random moments, and
gone on with by the same command until they are done. Then no job that was finished may have been
trained again or changed, every file must be readable, and weights, metrics and curves must equal
those of an undisturbed training: one by one to the last bit, in a stack to rounding. SIGTERM and
Ctrl-C must leave a checkpoint, and full disks and read-only folders a clear error, and what was
there before. It ends with exit code 1 if anything is wrong, and keeps the folders then.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from shutil import rmtree

from drill.disks import fill_disk, forbid_writing, limit_files
from drill.kills import Drill, Row
from drill.subjects import Subject, make_subjects
from drill.workers import Cluster, kill_nodes, kill_workers, running_cluster, train_by_workers
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def drill_subject(
    subject: Subject, folder: Path, moments: int, seed: int, cluster: Cluster | None
) -> Iterator[Row]:
    """All that is done to one subject, a row of the table each."""
    drill = Drill(subject, folder, seed)
    drill.train_undisturbed()
    if subject.workers:
        yield train_by_workers(drill)
        yield kill_workers(drill, moments)
    if cluster is not None:
        yield kill_nodes(drill, moments, cluster)
    yield drill.kill(moments)
    few = max(1, moments // 4)
    for number in (signal.SIGTERM, signal.SIGINT):
        yield drill.interrupt(few, number)
    if not subject.workers:
        yield fill_disk(drill, few)
        yield limit_files(drill, few)
        yield forbid_writing(drill)


def print_table(rows: Sequence[Row]) -> None:
    """A line for each row."""
    table = Table("what", "moments", "jobs done", "resumed", "result", header_style="bold")
    for row in rows:
        ends = {min(row.n_done), max(row.n_done)} if row.n_done else set()
        n_done = " to ".join(map(str, sorted(ends)))
        table.add_row(row.what, str(row.moments), n_done, str(row.resumed), escape(row.result()))
    Console(width=120).print(table)


_RUNS = "of a sweep, a multiple of 4 for its four rates; by default 3 or 4"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=4, help="kills of each; fewer of the rest")
    parser.add_argument("--engines", default="one", help="of sweeps: one, local:2, slurm:2, ray:2")
    parser.add_argument("--runs", type=int, help=_RUNS)
    parser.add_argument("--nodes", action="store_true", help="start clusters; kill their nodes too")
    parser.add_argument("--only", default="", help="subjects whose names hold this text")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--jobs", type=int, default=2, help="how many subjects at a time")
    options = parser.parse_args(arguments)
    if options.runs is not None and (options.runs < 4 or options.runs % 4):
        parser.error(f"--runs {options.runs}: expected a multiple of 4, as 8 or 256")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all; returns the exit code."""
    options = parse(arguments)
    engines = options.engines.split(",")
    subjects = make_subjects(engines, options.runs)
    parent = Path(tempfile.mkdtemp(prefix="fault_drill."))
    with ExitStack() as clusters:
        found = {
            each: clusters.enter_context(running_cluster(each)) if options.nodes else None
            for each in engines
        }
        for cluster in found.values():
            os.environ.update(cluster.environment if cluster else {})
        rows = drill_all(
            [each for each in subjects if options.only in each.name], found, parent, options
        )
    print_table(rows)
    if any(row.problems for row in rows):
        print(f"the folders are kept: {parent}")
        return 1
    rmtree(parent)
    return 0


def drill_all(
    subjects: Sequence[Subject],
    clusters: Mapping[str, Cluster | None],
    parent: Path,
    options: argparse.Namespace,
) -> list[Row]:
    """Drill subjects below a folder, several at a time, and print what comes of it."""

    def drill(index: int, subject: Subject) -> list[Row]:
        rows = []
        folder, cluster = parent / str(index), clusters.get(subject.workers)
        try:
            for row in drill_subject(subject, folder, options.moments, options.seed, cluster):
                lines = [f"  {problem}" for problem in row.problems]
                print(f"{row.what}: {row.result()}", *lines, sep="\n", flush=True)
                rows.append(row)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            rows.append(Row(subject.name, problems=[f"the drill ended: {error}"]))
            print(rows[-1].what, *rows[-1].problems, sep="\n", flush=True)
        return rows

    with ThreadPoolExecutor(1 if options.nodes else options.jobs) as threads:
        return [row for rows in threads.map(drill, count(), subjects) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
