"""Slurm on this machine: two nodes of one CPU each, all of it below one folder and on loopback.

python scripts/drill/slurm_cluster.py COMMAND    # as root: run a command with such a Slurm
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str | None:
    """Why Slurm cannot be started here; None if it can."""
    if os.geteuid() != 0:
        return "Slurm's daemons are started by root"
    missing = [each for each in ("slurmctld", "slurmd", "munged") if shutil.which(each) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@dataclass
class SlurmCluster:
    """A Slurm that runs.

    Attributes:
        folder: Where everything of it is.
        nodes: The processes of its nodes, by their names.
    """

    folder: Path
    nodes: dict[str, subprocess.Popen[bytes]]

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which commands find it."""
        return {"SLURM_CONF": str(self.conf)}

    @property
    def conf(self) -> Path:
        """The file for the variable SLURM_CONF."""
        return self.folder / "slurm.conf"

    def ask(self, *words: str) -> str:
        """What a command of Slurm's prints."""
        environment = os.environ | self.environment
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def start_node(self, name: str) -> None:
        """Start a node, or start it again."""
        self.nodes[name] = self.start("slurmd", "-D", "-N", name, "-f", str(self.conf))

    def tasks(self) -> list[int]:
        """The processes of jobs on the second node."""
        return _processes_of("n2")

    def lose_node(self) -> None:
        """Kill the second node, with everything that runs on it."""
        self.nodes["n2"].kill()
        self.nodes["n2"].wait()
        tasks = self.tasks()
        stepds = {parent for parent in map(_parent, tasks) if _name(parent) == "slurmstepd"}
        for pid in [*stepds, *tasks]:  # those first that would tell of the others' end
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.ask("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=killed")

    def bring_node_back(self) -> None:
        """Start the second node again, and wait until nothing runs on both."""
        self.start_node("n2")
        self.wait_for_nodes()

    @contextmanager
    def without_node(self) -> Iterator[None]:
        """The second node is killed; it comes back afterwards."""
        self.lose_node()
        yield
        self.bring_node_back()

    def wait_for_begin(self, condition: Callable[[], bool]) -> None:
        """Wait until jobs that are back in the queue have begun; Slurm delays them for minutes.

        It refuses one that begins in the second in which it was put back: "credential revoked".
        """
        time.sleep(2.0)

        def has_begun() -> bool:
            for job in self.ask("squeue", "-hr", "--state=PD", "-o%i").split():
                self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
            return condition()

        wait_until(has_begun, "workers that begin again", every=0.5)

    def wait_for_nodes(self) -> None:
        """Wait until both nodes are idle, in both partitions."""
        wait_until(lambda: self.ask("sinfo", "-hN", "-o%T").split() == ["idle"] * 4, "nodes")

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a daemon, whose log is in the folder."""
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


@contextmanager
def running_slurm(folder: Path) -> Iterator[SlurmCluster]:
    """A Slurm whose nodes are idle, which ends afterwards."""
    cluster = SlurmCluster(folder, {})
    folder.chmod(0o755)
    (folder / "state").mkdir()
    content = CONF.format(host=socket.gethostname(), ports=free_ports(3), folder=folder)
    cluster.conf.write_text(content)
    with ExitStack() as daemons:
        daemons.callback(_end, _start_munge(cluster))
        wait_until((folder / "munge.socket").exists, "munged")
        daemons.callback(_end, cluster.start("slurmctld", "-D", "-f", str(cluster.conf)))
        for name in ("n1", "n2"):
            cluster.start_node(name)
            daemons.callback(lambda each=name: _end(cluster.nodes[each]))
        cluster.wait_for_nodes()
        yield cluster
        cluster.ask("scancel", "--user=root")
        wait_until(lambda: not cluster.ask("squeue", "--noheader"), "jobs that were cancelled")


def _start_munge(cluster: SlurmCluster) -> subprocess.Popen[bytes]:
    """Start munged, by which Slurm knows who asks."""
    key = cluster.folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
    words = [f"--{option}={cluster.folder}/munge.{name}" for option, name in files.items()]
    log = f"--log-file={cluster.folder}/munge.log"
    return cluster.start("munged", "--foreground", "--force", log, *words)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a daemon."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _processes_of(node: str) -> list[int]:
    """What jobs have started on a node."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if f"SLURMD_NODENAME={node}\0".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _parent(pid: int) -> int:
    """The parent of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    """The name of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def free_ports(n: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], object], what: str, *, every: float = 0.05) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(every)


def main() -> int:
    """Run a command with a Slurm that is there for it alone; returns its exit code."""
    if reason := why_not():
        sys.exit(reason)
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        running_slurm(Path(folder)) as cluster,
    ):
        environment = os.environ | cluster.environment
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
