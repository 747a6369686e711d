"""Assign a port to each process, and find out who uses a port."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from fleetmedic.kernel.errors import UserError

HOST = "127.0.0.1"
OFFSETS = {"prometheus": 0, "alertmanager": 3, "remediator": 5, "rules": 6, "pool": 7}
EXPORTER_OFFSET = 320


def layout(base: int, nodes: list[str], *, pool: bool = True) -> dict[str, int]:
    """Return the port of each process as an offset from `--port-base`. Each node has one exporter."""
    ports = {name: base + offset for name, offset in OFFSETS.items() if pool or name != "pool"}
    ports |= {f"exporter-{node}": base + EXPORTER_OFFSET + i for i, node in enumerate(nodes)}
    if max(ports.values()) > 65_535 or base < 1024:
        raise UserError(f"--port-base: expected 1024 to {65_535 - 330 - len(nodes)}, got {base}.")
    return ports


def require_free(ports: Mapping[str, int]) -> None:
    """Raise UserError with the first port in use, the process that uses it, and the fix."""
    for name, port in ports.items():
        if not is_free(port):
            raise UserError(
                f"port {port} of {name} is in use by {port_user(port)}. "
                f"Stop that process, or use other ports with --port-base {suggest(ports)}."
            )


def is_free(port: int) -> bool:
    """Return whether a server can listen on that loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def port_user(port: int) -> str:
    """Return a description of the process that listens on the port."""
    import psutil

    try:
        for found in psutil.net_connections(kind="tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port:
                if found.pid is None:
                    break
                process = psutil.Process(found.pid)
                return f"{process.name()} (pid {found.pid}, user {process.username()})"
    except psutil.Error:
        pass
    return "a process of another user"


def suggest(ports: Mapping[str, int]) -> int:
    """Return a port base, at least 10,000 higher, for which every port is free now."""
    base = ports["prometheus"]
    for moved in range(10_000, 50_000, 1000):
        candidate = [port + moved for port in ports.values()]
        if max(candidate) <= 65_535 and all(is_free(port) for port in candidate):
            return base + moved
    return base + 10_000 if base < 50_000 else 19_090
