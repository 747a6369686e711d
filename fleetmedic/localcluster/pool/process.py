"""Functions for the pool's processes: claim a directory, report readiness, and drain on TERM."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from pathlib import Path

from fleetmedic.http.server import HttpServer
from fleetmedic.localcluster import shim
from fleetmedic.terminal.listen_errors import cannot_listen

OPEN_FILES = 8_192
DRAIN_SECONDS = 4.0


def claim_or_exit(folder: Path) -> None:
    """Claim the replica's directory, or exit if another process has claimed it before."""
    if not shim.claim(str(folder)):
        sys.exit(shim.ALREADY_CLAIMED)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve_until_terminated(server: HttpServer, folder: Path, host: str, port: int) -> None:
    """Listen, write started.json with the port, serve until TERM or INT, then drain."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        bound = await server.start(host, port)
    except OSError as error:
        sys.exit(str(cannot_listen(host, port, error, "--pool.listen-address")))
    pid = os.getpid()
    started = {"pid": pid, "start": shim.start_ticks(pid), "host_boot": shim.host_boot()}
    shim.write_whole(f"{folder}/started.json", {**started, "at": time.time(), "port": bound})
    await stopping.wait()
    await server.drain(DRAIN_SECONDS)
