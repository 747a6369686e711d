"""Records what an exporter reads of a real Slurm, for tests/unit/exporter/slurm_VERSION.

    sudo env PYTHONPATH=tests .venv/bin/python -m real_slurm.record FOLDER

Three jobs: one has ended; `train` holds GPUs of two nodes, other numbers on each; `wrap`, of the user
nobody, holds GPUs of the first beside it. FOLDER gets a folder for each node, with the parts of /proc and
/sys that belong to its jobs and with the notes of its prolog. It needs root and a network.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from real_slurm.cluster import FREEZER, Slurm, running

NODES = ("n0", "n1")
# of an environment, what Slurm and CUDA said; not this machine's
KEPT = re.compile(
    rb"(SLURM_(JOB_(ID|USER|ACCOUNT|GPUS|PARTITION|NAME|NODELIST|NUM_NODES|UID)"
    rb"|STEP_(ID|GPUS|NODELIST)|GPUS_ON_NODE|NODEID|CLUSTER_NAME)"
    rb"|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL)="
)


def main(out: Path) -> None:
    """Start a Slurm, submit the jobs, and write down both nodes."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with running(Slurm(folder, NODES)) as slurm:
            _submit(slurm)
            version = slurm.run("sinfo", "--version").split()[-1]
            for node in NODES:
                record(slurm, node, out / node)
    finally:
        shutil.rmtree(folder)
    print(f"recorded Slurm {version} in {out}")


def _submit(slurm: Slurm) -> None:
    ended = slurm.submit("true", "--gres=gpu:4", "-wn0")
    slurm.wait("the first job has ended", lambda: ended not in slurm.run("squeue", "-h"))
    wrap = slurm.submit("sleep 300", "--gres=gpu:3", "-wn0", "-Jwrap", user="nobody")
    slurm.wait("wrap runs", lambda: slurm.runs(wrap))
    train = slurm.submit(
        "srun --overlap sleep 300 &\nsleep 300", "--gres=gpu:2", "-N2", "-Jtrain", "-Aresearch"
    )
    slurm.wait("train runs with its step", lambda: slurm.runs(train, 2))
    at_work = [FREEZER / f"slurm_{node}/uid_0/job_{train}/step_0/cgroup.procs" for node in NODES]
    slurm.wait("both tasks have begun", lambda: all(_named(path, "sleep") for path in at_work))


def _named(procs: Path, name: str) -> bool:
    pids = procs.read_text().split() if procs.exists() else []
    return any(Path(f"/proc/{pid}/comm").read_text().strip() == name for pid in pids)


def record(slurm: Slurm, node: str, out: Path) -> None:
    """Write down what belongs to one node's jobs."""
    for procs in sorted((FREEZER / f"slurm_{node}").rglob("cgroup.procs")):
        copy = out / "sys" / procs.relative_to("/sys")
        copy.parent.mkdir(parents=True)
        copy.write_text(procs.read_text())
        for pid in copy.read_text().split():
            _process(Path("/proc") / pid, out / "proc" / pid)
    shutil.copytree(slurm.notes(node), out / "slurm-jobs", ignore=shutil.ignore_patterns(".*"))


def _process(found: Path, copy: Path) -> None:
    copy.mkdir(parents=True)
    lines = (found / "cgroup").read_text().splitlines(keepends=True)
    # what names no node of Slurm is where this machine keeps its own
    kept = [line if "/slurm_" in line else f"{line.rpartition(':')[0]}:/\n" for line in lines]
    (copy / "cgroup").write_text("".join(kept))
    (copy / "stat").write_bytes((found / "stat").read_bytes())
    variables = (found / "environ").read_bytes().split(b"\0")
    (copy / "environ").write_bytes(b"".join(v + b"\0" for v in variables if KEPT.match(v)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
