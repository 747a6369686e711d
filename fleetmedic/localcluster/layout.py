"""The file layout of the embedded cluster in a stack's state directory."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fleetmedic.kernel.files import write_atomic
from fleetmedic.localcluster import views
from fleetmedic.localcluster.model import JobSpec
from fleetmedic.localcluster.placement import Placement

MAX_RANKS = 1024
LOG_BYTES = 16 * 1024 * 1024
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files and directories of one stack's embedded cluster."""

    state: Path

    @property
    def cluster(self) -> Path:
        return self.state / "cluster"

    @property
    def hardware(self) -> Path:
        return self.state / "hardware"

    def attempt(self, job_id: str, n: int) -> Path:
        """Return the directory of one attempt of a job."""
        return views.attempt_dir(self.cluster, job_id, n)

    def replica(self, workload: str, n: int) -> Path:
        """Return the directory of one process of a workload."""
        return self.cluster / "pool" / workload / f"replica-{n}"

    def endpoints(self, workload: str) -> Path:
        """Return the file that lists a workload's workers for its gateway."""
        return self.cluster / "pool" / workload / "endpoints.json"

    def progress(self, node: str) -> Path:
        """Return the directory in which the jobs of a node report progress."""
        return self.state / "progress" / node

    def write_order(self, job_id: str, n: int, spec: JobSpec, place: Placement) -> Path:
        """Create an attempt's directory with order.json (command and environment) for its shim.

        Returns it.
        """
        folder = self.attempt(job_id, n)
        checkpoints = views.checkpoint_dir(self.cluster, job_id, spec)
        for needed in (folder, checkpoints, self.progress(place.node)):
            needed.mkdir(parents=True, exist_ok=True)
        indices = ",".join(map(str, place.gpus))
        ours = {
            "CUDA_VISIBLE_DEVICES": indices,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # CUDA's default order differs from NVML's
            "FLEETMEDIC_JOB_ID": job_id,
            "FLEETMEDIC_NODE": place.node,
            "FLEETMEDIC_GPUS": indices,
            "FLEETMEDIC_HARDWARE_DIR": str(self.hardware) if self.hardware.is_dir() else "",
            "FLEETMEDIC_PROGRESS_DIR": str(self.progress(place.node)),
            "FLEETMEDIC_CHECKPOINT_DIR": str(checkpoints),
            "FLEETMEDIC_ATTEMPT": str(n),
            "FLEETMEDIC_RESTARTS": str(n - 1),
        }
        order = {
            "command": list(spec.command),
            "env": {"PATH": DEFAULT_PATH, **spec.env, **ours},
            "cwd": spec.cwd,
            "log_bytes": LOG_BYTES,
        }
        # 0600: a job's environment may contain secrets
        write_atomic(folder / "order.json", json.dumps(order), mode=0o600)
        return folder

    def stop_progress(self, node: str, job_id: str) -> None:
        """Set `running` to false in a job's progress files, because a killed job cannot do so."""
        for path in self._reports(node, job_id):
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue  # reading a pipe would block the controller
                with path.open("rb") as file:
                    raw = json.loads(file.read(65_536))
                write_atomic(path, json.dumps({**raw, "running": False}), sync=False)
            except (OSError, ValueError, TypeError):
                continue  # missing or invalid file: nothing to correct

    def drop_progress(self, node: str, job_id: str) -> None:
        """Delete the progress files of a job on a node that the job has left."""
        for path in self._reports(node, job_id):
            try:
                path.unlink()
            except OSError:
                continue

    def _reports(self, node: str, job_id: str) -> list[Path]:
        """Return the progress file of a job's first process, and the numbered files of its other ranks."""
        folder = self.progress(node)
        others = folder.glob(f"{job_id}@[0-9]*.json")
        return [folder / f"{job_id}.json", *islice(others, MAX_RANKS)]
