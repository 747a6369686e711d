"""Find the programs of Prometheus and Alertmanager, and the command line that starts each.

Search order: the configured path, PATH, the unpacked packages. A later release has its own name
(`prometheus-3`, newer_releases.py) and is searched for only in the unpacked packages.

Debian's Alertmanager reads its default template from an absolute path, whatever its settings say,
and amtool does not report a missing template. So only a trial start shows whether a command works.
If the template is missing, the unpacked directory is mounted over /usr/share in a mount namespace.
If namespaces are not permitted, proot does the same.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import newer_releases
from fleetmedic.stack.fetch import manual_fix, parts_dir

NAMES: dict[str, tuple[str, ...]] = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool",),
    "node_exporter": ("node_exporter", "prometheus-node-exporter"),
}
# Used by tests and benchmarks only, for comparison.
COMPARED = ("node_exporter",)
# The options are passed on in the environment, so that every process of the stack uses them.
OVERRIDES = {
    "prometheus": "FLEETMEDIC_PROMETHEUS_BIN",
    "alertmanager": "FLEETMEDIC_ALERTMANAGER_BIN",
}
_NEIGHBOUR = {"promtool": "prometheus", "amtool": "alertmanager"}
_START_SECONDS = 10.0
_LISTENING = re.compile(r"Listening on|component=web.*[Ll]istening")
_TRIAL = "route: {receiver: none}\nreceivers: [{name: none}]\n"
_OVERLAY = 'mount -t overlay overlay -o lowerdir="$0":/usr/share /usr/share && exec "$@"'


def find(name: str) -> Path | None:
    """Return the path of a program such as promtool, or None if the program is not found.

    The name is prometheus, promtool, alertmanager, amtool, node_exporter, or a later release of
    one. Raises UserError if a configured path is another program.
    """
    return next(iter(_candidates(name)), None)


def command(name: str) -> list[str]:
    """Return the start of the command line that runs the program; the caller appends the arguments.

    Raises UserError, with the fix, if the program is missing or does not start.
    """
    candidates, kind = _candidates(name), _kind(name)
    if kind != "alertmanager":
        if not candidates:
            raise UserError(
                f"{name} is missing. Run `fleetmedic doctor --fetch`, or {manual_fix()}"
            )
        return [str(candidates[0]), *(_web_assets(candidates[0]) if kind == "prometheus" else [])]
    complaint = ""
    for path in candidates:
        for way in candidate_commands(path):
            complaint = try_start(tuple(way)) or ""
            if not complaint:
                return way
    if not candidates:
        raise UserError(f"{name} is missing. Run `fleetmedic doctor --fetch`, or {manual_fix()}")
    raise UserError(
        f"{candidates[0]} does not start on this machine ({complaint}), neither directly nor in a "
        f"mount namespace nor with proot. To fix it, {manual_fix()}"
    )


def candidate_commands(path: Path) -> list[list[str]]:
    """Return the commands to try for this Alertmanager, the simplest first."""
    found = [[str(path)]]
    share = path.resolve().parent.parent / "share"
    if not (share / "prometheus").is_dir() or share == Path("/usr/share"):
        return found
    if shutil.which("unshare") and not re.search(r"[:,\\]", str(share)):
        found += [
            ["unshare", flags, "sh", "-c", _OVERLAY, str(share), str(path)]
            for flags in (("-m", "-Urm") if os.geteuid() == 0 else ("-Urm",))
        ]
    proot = shutil.which("proot") or str(parts_dir() / "root/usr/bin/proot")
    if Path(proot).is_file():
        libraries = ":".join(str(lib) for lib in (parts_dir() / "root/usr/lib").glob("*-linux-*"))
        # Debian's proot crashes with its seccomp acceleration on newer kernels
        settings = [f"LD_LIBRARY_PATH={libraries}", "PROOT_NO_SECCOMP=1"]
        bind = f"{share}/prometheus:/usr/share/prometheus"
        found.append(["env", *settings, proot, "-b", bind, str(path)])
    return found


@functools.cache
def try_start(way: tuple[str, ...]) -> str | None:
    """Start Alertmanager with an empty configuration on a free port, then stop it.

    Returns None if it listened, otherwise the last line of its output.
    """
    with tempfile.TemporaryDirectory(prefix="fleetmedic-trial-") as folder:
        config = Path(folder) / "alertmanager.yml"
        config.write_text(_TRIAL)
        log = Path(folder) / "log"
        arguments = [
            f"--config.file={config}",
            f"--storage.path={folder}/data",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        ]
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    [*way, *arguments],
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    cwd=folder,
                )
            except OSError as error:
                return error.strerror or str(error)
        try:
            return _came_up(process, log)
        finally:
            _end(process)


def _came_up(process: subprocess.Popen[bytes], log: Path) -> str | None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if _LISTENING.search(log.read_text(errors="replace")):
            return None
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            return lines[-1][-200:] if lines else f"exit code {process.returncode}"
        time.sleep(0.02)
    return f"it did not listen within {_START_SECONDS:g} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    for stop in (process.terminate, process.kill):
        try:
            stop()
            process.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            continue


def _kind(name: str) -> str:
    """Return the program's own name, such as prometheus for the later release prometheus-3."""
    return name.partition("-")[0] if name in newer_releases.PARTS else name


def _candidates(name: str) -> list[Path]:
    if name in newer_releases.PARTS:
        path = newer_releases.path(name)
        return [path] if os.access(path, os.X_OK) and prints_version_of(_kind(name), path) else []
    variable = OVERRIDES.get(name, "")
    if given := os.environ.get(variable):
        return [_given(name, Path(given).absolute())]
    beside = os.environ.get(OVERRIDES.get(_NEIGHBOUR.get(name, ""), ""))
    on_path = [shutil.which(alias) for alias in NAMES[name]]
    places = [Path(beside).absolute().parent / name] if beside else []
    places += [Path(path).absolute() for path in on_path if path]
    places += [parts_dir() / "root/usr/bin" / alias for alias in NAMES[name]]
    return [path for path in places if os.access(path, os.X_OK) and prints_version_of(name, path)]


def _given(name: str, path: Path) -> Path:
    if not prints_version_of(name, path):
        raise UserError(
            f"--{name}-bin: expected {name}, but `{path} --version` does not print "
            f'"{name}, version".'
        )
    return path


@functools.cache
def prints_version_of(name: str, path: Path) -> bool:
    """Return whether the program's output for `--version` contains this name."""
    try:
        said = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return f"{name}, version" in said.stdout + said.stderr


@functools.cache
def version(path: Path) -> str:
    """Return the first part of the output for `--version`, such as `prometheus, version 2.42.0`."""
    said = subprocess.run(
        [str(path), "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    return (said.stdout + said.stderr).partition(" (")[0].strip()


def _web_assets(path: Path) -> list[str]:
    """Return the option for the web pages of an unpacked Debian Prometheus, which are not in /usr/share."""
    assets = path.resolve().parent.parent / "share/prometheus/web"
    if not assets.is_dir() or assets == Path("/usr/share/prometheus/web"):
        return []
    return [f"--web.local-assets={assets}/"]
