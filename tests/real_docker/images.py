"""Images that stand in for those that a machine without a registry cannot pull.

`debian:12-slim` is a debootstrap root, to which the machine's own settings of apt and pip are added, so
that builds reach the package archives that the machine reaches. Prometheus, Alertmanager and
VictoriaMetrics are Debian's programs in it, of the same releases as the pinned images where Debian has
them, with the user, the folders, the entry point and the tools of those.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from real_docker.engine import Engine

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import newer_releases
from fleetmedic.stack.apt import last_line
from fleetmedic.stack.fetch import parts_dir

BASE = "debian:12-slim"
SUITE = "bookworm"
# Settings by which this machine's clients reach their archives; a root that has them reaches them, too.
_BUNDLE = "ssl/certs/ca-certificates.crt"
_SETTINGS = (
    "apt/sources.list", "apt/sources.list.d", "apt/apt.conf.d", "apt/auth.conf.d", "apt/keyrings",
    "apt/trusted.gpg.d", "pip.conf", _BUNDLE,
)  # fmt: skip
_PROGRAM = """\
FROM debian:12-slim
COPY usr /usr
RUN install -d -o 65534 -g 65534 {folder}
USER 65534:65534
WORKDIR {folder}
VOLUME {folder}
ENTRYPOINT ["{program}"]
"""
# the real image has busybox, and with it wget
_VICTORIAMETRICS = """\
FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends busybox victoria-metrics \\
 && rm -rf /var/lib/apt/lists/* && ln -s /bin/busybox /usr/bin/wget
ENTRYPOINT ["/usr/bin/victoria-metrics"]
"""


def base(engine: Engine) -> None:
    """Give the engine the root on which the images are built. Raises UserError with the reason."""
    archive = parts_dir() / "debian-12" / "root.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (archive.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.is_file():
            _debootstrap(archive)
    engine.docker("import", str(archive), BASE, seconds=300)


def programs(engine: Engine, tags: Mapping[str, str]) -> None:
    """Build prometheus, alertmanager and victoriametrics under the tags that are given by name."""
    for name, part, tool, folder in (
        ("prometheus", "prometheus-3", "promtool-3", "/prometheus"),
        ("alertmanager", "alertmanager-0.33", "amtool-0.33", "/alertmanager"),
    ):  # fmt: skip
        root = newer_releases.fetch(part).parents[2]
        inside = f"/{newer_releases.path(part).relative_to(root)}"
        with tempfile.TemporaryDirectory(prefix="standin-") as made:
            context = Path(made)
            for program in (part, tool):
                copy = context / newer_releases.path(program).relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(newer_releases.path(program), copy)
            shared = "usr/share/prometheus"  # its pages and the default template
            shutil.copytree(root / shared, context / shared, symlinks=True)
            (context / "Dockerfile").write_text(_PROGRAM.format(folder=folder, program=inside))
            engine.docker("build", "-q", "-t", tags[name], made, seconds=300)
    engine.docker(
        "build", "-q", "--network=host", "-t", tags["victoriametrics"], "-",
        seconds=300, text=_VICTORIAMETRICS,
    )  # fmt: skip


def _debootstrap(archive: Path) -> None:
    program = shutil.which("debootstrap")
    if program is None:
        raise UserError("this machine has no debootstrap, of which the base image is made.")
    with tempfile.TemporaryDirectory(prefix="debootstrap-") as folder:
        root = Path(folder) / "root"
        done = subprocess.run(
            [program, "--variant=minbase", SUITE, str(root), _mirror()],
            capture_output=True, text=True, timeout=400, check=False,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        )  # fmt: skip
        if done.returncode:
            raise UserError(f"debootstrap makes no root ({last_line(done.stdout + done.stderr)}).")
        _slim(root)
        _settings(root)
        partial = archive.with_suffix(".part")
        with tarfile.open(partial, "w") as tar:
            tar.add(root, ".")
        partial.replace(archive)


def _slim(root: Path) -> None:
    """What the slim image leaves out."""
    for name in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man",
                 "usr/share/locale", "usr/share/info"):  # fmt: skip
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    for name in ("var/cache/apt/archives", "var/lib/apt/lists"):
        (root / name / "partial").mkdir()


def _settings(root: Path) -> None:
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for name in _SETTINGS:
        source, target = Path("/etc") / name, root / "etc" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy2(source, target)
    # the package of that name, which builds may install, makes the bundle anew of what lies there
    bundle, local = root / "etc" / _BUNDLE, root / "usr/local/share/ca-certificates"
    if bundle.is_file():
        local.mkdir(parents=True, exist_ok=True)
        shutil.copy2(bundle, local / "machine.crt")
    for hook in (root / "etc/apt/apt.conf.d").iterdir():
        if "Invoke" in hook.read_text(errors="replace"):
            hook.unlink()  # it calls programs of this machine
    # pip's settings may be variables of this machine
    found = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_DEFAULT_TIMEOUT")
    }
    if found and not (root / "etc/pip.conf").exists():
        lines = "".join(f"{name} = {value}\n" for name, value in found.items())
        (root / "etc/pip.conf").write_text(f"[global]\n{lines}")


def _mirror() -> str:
    """The archive that the machine's own sources name for this suite."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    for line in told.stdout.splitlines():
        address, release, component = line.split()
        if (release, component) == (SUITE, "main") and "security" not in address:
            return address
    raise UserError(f"this machine's apt sources name no archive of {SUITE}.")
