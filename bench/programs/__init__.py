"""The real programs that the benchmarks run, on loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from fleetmedic.stack import binaries, newer_releases


def free_port() -> int:
    """A loopback port that is currently free."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def found(name: str) -> Path:
    """The program of that name; a later release is downloaded. Exits if the program is missing."""
    if name in newer_releases.PARTS:
        return newer_releases.fetch(name)
    path = binaries.find(name)
    if path is None:
        raise SystemExit(f"{name} is missing. Run `fleetmedic doctor --fetch`.")
    return path


def version(name: str) -> str:
    """The program's version, such as 2.42.0."""
    return binaries.version(found(name)).rpartition(" ")[2]


@contextlib.contextmanager
def started(
    command: list[str],
    ready: str,
    log: Path,
    *,
    patience: float = 30.0,
    prepare: Callable[[], None] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, as soon as the URL `ready` answers; terminated afterwards, killed if necessary."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=prepare)
    try:
        until = time.monotonic() + patience
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(ready, timeout=1).close()
                break
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError(log.read_text()[-1000:])
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
