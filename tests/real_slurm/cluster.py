"""Starts a real Slurm of several nodes on this machine: Debian's packages, unpacked and never installed.

The programs are laid over /usr in a mount namespace of their own, so Slurm finds its plugins where it
was built to look for them and the machine stays as it was. It needs root, for namespaces, device files
and cgroups. Every node is a slurmd of this machine, with eight GPUs that are device files.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import real_parts

from fleetmedic.kernel.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "deploy" / "slurm"
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
# Of what these depend on, libraries alone; those that the machine has are in front of them.
_LIBRARY = re.compile(r"lib(?!c6$)[a-z0-9.+-]+")
_OVERLAY = 'mount -t overlay overlay -o lowerdir=/usr:"$0" /usr && exec "$@"'
FREEZER = Path("/sys/fs/cgroup/freezer")
START_SECONDS = 30.0
GPUS = 8

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
Prolog={folder}/prolog.sh
Epilog={folder}/epilog.sh
PrologFlags=Alloc
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/log/ctld.log
SlurmdLogFile={folder}/log/slurmd_%n.log
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
GresTypes=gpu
MpiDefault=none
KillWait=2
"""
CGROUP = "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainDevices=no\n"


def unpack() -> Path:
    """The folder with the unpacked programs, fetched when they are not there yet.

    Raises UserError where this machine cannot have them.
    """
    return real_parts.unpack("Slurm", "usr/sbin/slurmd", PACKAGES, _LIBRARY, _arrange)


def _arrange(root: Path) -> None:
    for name in ("slurmctld", "slurmd", "slurmstepd"):
        # Slurm's daemons know what they are by the name that they were started by
        (root / "usr/sbin" / name).symlink_to(f"{name}-wlm")


class Slurm:
    """One cluster below `folder`. Its nodes are called `nodes`; these must be the machine's only nodes
    of that name, since a cgroup is called after each.

    `cgroups` says whether jobs are kept in control groups (of version 1: this Slurm refuses a machine
    that has both), or not at all (`proctrack/linuxproc`).
    """

    def __init__(
        self, folder: Path, nodes: tuple[str, ...] = ("n0", "n1", "n2"), *, cgroups: bool = True
    ) -> None:
        self.folder = folder
        self.nodes = nodes
        self.cgroups = cgroups
        self._usr = Path()
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start everything and wait until every node is idle. Raises UserError when that fails."""
        self._usr = unpack()
        self._configure()
        self._daemon(
            "munged", "--force", "--foreground", f"--socket={self.folder}/munge.sock",
            f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/log/munged.log", f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        self.wait("munged listens", (self.folder / "munge.sock").exists)
        self._daemon("slurmctld", "-D", "-f", f"{self.folder}/slurm.conf")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-f", f"{self.folder}/slurm.conf", "-N", node)
        self.wait("every node is idle", self._idle)

    def stop(self) -> None:
        """End every job and every program."""
        self.run("scancel", "--state=RUNNING")
        self.run("scancel", "--state=PENDING")
        with suppress(UserError):
            self.wait("no job is left", lambda: not self.run("squeue", "-h").split(), 20)
        real_parts.end_processes(self.cgroup_roots())
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(timeout=5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(timeout=5)
        self._daemons.clear()
        real_parts.remove_groups(self.cgroup_roots())

    def run(self, program: str, *arguments: str, user: str = "") -> str:
        """What one of Slurm's commands says. One that fails says why in what is returned."""
        command = [program, *arguments]
        if user:
            command = ["setpriv", f"--reuid={user}", "--clear-groups", *command]
        command = self._command(*command)
        said = subprocess.run(
            command, env=self._environment(), cwd=self.folder, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        return said.stdout + (said.stderr if said.returncode else "")

    def submit(self, script: str, *options: str, user: str = "") -> str:
        """Queue a batch job that runs these lines of shell. Returns its number."""
        path = self.folder / "job.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        said = self.run(
            "sbatch", "--parsable", "--output=/dev/null", *options, str(path), user=user
        ).strip()
        if not said.isdigit():
            raise UserError(f"the job was refused: {said}")
        return said

    def runs(self, job: str, steps: int = 1) -> bool:
        """Whether a job runs, and so many of its steps."""
        found = self.run("squeue", "-h", "-s", "-j", job, "-o", "%i").split()
        return len(found) >= steps

    def notes(self, node: str) -> Path:
        """Where the prolog of a node notes its jobs."""
        return self.folder / f"jobs-{node}"

    def wait(self, what: str, holds: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until that holds. Raises UserError with what the logs say last when it does not."""
        until = time.monotonic() + seconds
        while not holds():
            dead = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > until:
                raise UserError(f"Slurm: {what}: not within {seconds:.0f} s {dead}\n{self._logs()}")
            time.sleep(0.1)

    def _idle(self) -> bool:
        said = self.run("sinfo", "-h", "-N", "-o", "%N %T").split("\n")
        return all(f"{node} idle" in said for node in self.nodes)

    def _logs(self) -> str:
        tails = [
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}"
            for path in sorted((self.folder / "log").glob("*"))
        ]
        return "\n".join(tails)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        return {
            **kept, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SLURM_CONF": f"{self.folder}/slurm.conf",
        }  # fmt: skip

    def _command(self, program: str, *arguments: str) -> list[str]:
        return ["unshare", "-m", "sh", "-c", _OVERLAY, str(self._usr), program, *arguments]

    def _daemon(self, program: str, *arguments: str) -> None:
        with (self.folder / "log" / "out").open("ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    self._command(program, *arguments), env=self._environment(), cwd=self.folder,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                )
            )  # fmt: skip

    def _configure(self) -> None:
        folder = self.folder
        for name in ("log", "state", *(f"spool_{node}" for node in self.nodes)):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        ports = _ports(len(self.nodes) + 1)
        host = socket.gethostname().partition(".")[0]
        proctrack = "cgroup" if self.cgroups else "linuxproc"
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 "
            f"Gres=gpu:{GPUS} State=UNKNOWN"
            for node, port in zip(self.nodes, ports[1:], strict=True)
        ]
        conf = CONF.format(host=host, port=ports[0], folder=folder, proctrack=proctrack)
        partition = "PartitionName=gpu Nodes=ALL Default=YES OverSubscribe=FORCE State=UP"
        (folder / "slurm.conf").write_text("\n".join([conf, *lines, partition, ""]))
        (folder / "cgroup.conf").write_text(CGROUP)
        # null devices: without a device file Slurm counts no GPU
        for number in range(GPUS):
            os.mknod(folder / f"nvidia{number}", 0o020666, os.makedev(1, 3))
        gres = f"Name=gpu File={folder}/nvidia[0-{GPUS - 1}]"
        (folder / "gres.conf").write_text(
            "".join(f"NodeName={node} {gres}\n" for node in self.nodes)
        )
        for name in ("prolog", "epilog"):
            script = folder / f"{name}.sh"
            jobs = f"{folder}/jobs-$SLURMD_NODENAME"
            script.write_text(
                f"#!/bin/sh\nFLEETMEDIC_SLURM_JOBS={jobs} exec sh {SCRIPTS}/{name}.sh\n"
            )
            script.chmod(0o755)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)

    def cgroup_roots(self) -> list[Path]:
        """Where the jobs of the nodes are kept."""
        return [root for node in self.nodes if (root := FREEZER / f"slurm_{node}").is_dir()]


def _ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


@contextmanager
def running(slurm: Slurm) -> Iterator[Slurm]:
    """The cluster, started, and ended whatever happens."""
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
