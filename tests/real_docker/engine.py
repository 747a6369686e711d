"""Starts a Docker engine of the test's own: Debian's packages, unpacked and never installed.

The programs are laid over /usr in a mount namespace, with the machine's own in front of them. Data,
sockets and settings lie in one folder; every container belongs to one control group. No rule of the
machine's firewall is made: ports are forwarded by docker-proxy, images are built in the host's network,
and containers are given no way out. It needs root, for namespaces, control groups and bridges.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import real_parts

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import newer_releases
from fleetmedic.stack.apt import last_line

PACKAGES = ("docker.io", "containerd", "runc", "tini", "iptables")
# The libraries of these that a bare Debian lacks; those that the machine has are in front of them.
_LIBRARY = re.compile(
    r"lib(devmapper|seccomp|ip4tc|ip6tc|xtables|nftnl|mnl|nfnetlink|netfilter)[a-z0-9.-]*"
)
CGROUPS = Path("/sys/fs/cgroup")
START_SECONDS = 60.0
# What the engine needs of its mount namespace: its programs, no other engine's containerd, control
# groups where a bare root has none, and layers on something that takes them (an overlay does not).
_ROOM = """\
set -e
mount -t overlay overlay -o lowerdir=/usr:"$1" /usr
mkdir -p /run/containerd
mount -t tmpfs none /run/containerd
[ -n "$(ls -A /sys/fs/cgroup)" ] || mount -t cgroup2 none /sys/fs/cgroup
[ -d /sys/fs/cgroup/memory ] || [ -e /sys/fs/cgroup/cgroup.controllers ] ||
  { echo "there are no control groups" >&2; exit 1; }
case "$(stat -f -c %T "$2")" in overlayfs) mount -t tmpfs -o size=8g none "$2" ;; esac
shift 2
exec "$@"
"""


def unpack() -> Path:
    """The folder with the unpacked programs, fetched when they are not there yet.

    Raises UserError where this machine cannot have them.
    """
    # Debian 13 has Docker's client in a package of its own.
    return real_parts.unpack(
        "Docker", "usr/bin/docker", PACKAGES, _LIBRARY, _arrange, if_offered=("docker-cli",)
    )


def _arrange(root: Path) -> None:
    for useless in ("etc", "usr/share"):
        shutil.rmtree(root / useless, ignore_errors=True)
    for name in ("lib", "sbin"):
        # on the machine these are links into /usr, which the folder is laid over
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
    # what the packages' alternatives would have made
    (root / "usr/sbin/iptables").unlink(missing_ok=True)
    (root / "usr/sbin/iptables").symlink_to("xtables-nft-multi")


def refused() -> str:
    """Why this machine cannot run an engine, or nothing: what it would not let any engine do."""
    if os.geteuid() != 0:
        return "it needs root, for namespaces, control groups and bridges"
    with tempfile.TemporaryDirectory(prefix="fleetmedic-docker-") as folder:
        tried = subprocess.run(
            ["unshare", "-m", "sh", "-c", _ROOM, "room", "/etc", folder, "unshare", "-n", "true"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    return last_line(tried.stderr) if tried.returncode else ""


class Engine:
    """One engine, all of it below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._group = f"fleetmedic-{secrets.token_hex(4)}"
        self._usr = Path()
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the engine and wait until it answers. Raises UserError, with its last word."""
        self._usr = unpack()
        plugins = self.folder / "client/cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(newer_releases.fetch("compose"))
        for name in ("data", "exec"):
            (self.folder / name).mkdir()
        (self.folder / "daemon.json").write_text("{}")
        command = [
            "unshare", "-m", "sh", "-c", _ROOM, "room", str(self._usr), f"{self.folder}/data",
            "dockerd", f"--config-file={self.folder}/daemon.json", f"--host={self._address}",
            f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid", "--group=root", "--storage-driver=overlay2",
            "--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false",
            "--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{self._group}",
            "--log-level=warn",
        ]  # fmt: skip
        with self._log.open("wb") as output:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                start_new_session=True,
                env={**self._environment(), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )  # fmt: skip
        wait("the engine answers", self._answers, START_SECONDS)

    def stop(self) -> None:
        """Remove every container, network and volume, end the engine, and what it left."""
        if self._daemon is None:
            return
        for kind, remove in (
            ("ps -aq", "rm -fv"), ("network ls -q --filter type=custom", "network rm"),
        ):  # fmt: skip
            if found := self._quietly(*kind.split()).split():
                self._quietly(*remove.split(), *found)
        self._daemon.send_signal(signal.SIGTERM)
        try:
            self._daemon.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait(timeout=10)
        self._kill_strays()
        with suppress(OSError):
            Path("/run/containerd").rmdir()

    def docker(self, *arguments: str, seconds: float = 120, text: str | None = None) -> str:
        """What `docker ARGUMENTS` says. Raises AssertionError with its complaint when it fails."""
        done = self.run(*arguments, seconds=seconds, text=text)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
        return done.stdout

    def run(
        self, *arguments: str, seconds: float = 120, text: str | None = None,
        cwd: Path | None = None, settings: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """`docker ARGUMENTS` with these variables besides, whatever it answers."""
        return subprocess.run(
            [str(self._usr / "bin/docker"), *arguments], cwd=cwd or self.folder, input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True, text=True, timeout=seconds, check=False,
            env={**self._environment(), **(settings or {})},
        )  # fmt: skip

    def version(self) -> str:
        """The engine's version and its way to keep layers."""
        return self.docker("info", "--format", "{{.ServerVersion}}, {{.Driver}}").strip()

    @property
    def _address(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def _log(self) -> Path:
        return self.folder / "dockerd.log"

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
        return {
            **kept, "DOCKER_HOST": self._address, "DOCKER_CONFIG": f"{self.folder}/client",
            "DOCKER_BUILDKIT": "0", "COMPOSE_ANSI": "never",
        }  # fmt: skip

    def _answers(self) -> bool:
        assert self._daemon is not None
        if self._daemon.poll() is not None:
            raise UserError(f"dockerd does not start here: {last_line(self._log.read_text())}.")
        return self.run("info", seconds=20).returncode == 0

    def _quietly(self, *arguments: str) -> str:
        try:
            return self.run(*arguments, seconds=90).stdout
        except subprocess.TimeoutExpired:
            return ""

    def _kill_strays(self) -> None:
        """End what an engine that died itself has left: its helpers, containers and their groups."""
        ours = str(self.folder).encode()
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if ours in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                    os.kill(int(entry.parent.name), signal.SIGKILL)
        groups = [*CGROUPS.glob(self._group), *CGROUPS.glob(f"*/{self._group}")]
        real_parts.end_processes(groups)
        real_parts.remove_groups(groups)


def wait(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Wait until that holds. Raises UserError when it does not within that time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise UserError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


@contextmanager
def running() -> Iterator[Engine]:
    """An engine in a folder of its own, ended and removed whatever happens."""
    with tempfile.TemporaryDirectory(prefix="fleetmedic-docker-") as folder:
        engine = Engine(Path(folder))
        try:
            engine.start()
            yield engine
        finally:
            engine.stop()
