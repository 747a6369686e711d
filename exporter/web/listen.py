"""The HTTP server's settings from the command line, and its listening sockets."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.web.auth import TokenFile
from exporter.web.reload import ConfigFile
from exporter.web.routes import OWN_PATHS
from exporter.web.server import MAX_REQUESTS
from fleetmedic.kernel.errors import UserError
from fleetmedic.terminal.listen_errors import cannot_listen

Address = tuple[str, int]
_PATH = re.compile(r"/[A-Za-z0-9._~/-]{1,200}")


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The HTTP server's settings from the command line. A path is None if its flag is not set."""

    addresses: tuple[Address, ...]
    config: Path | None = None
    token: Path | None = None
    metrics_path: str = "/metrics"
    max_requests: int = MAX_REQUESTS
    dcgm: bool = False

    def read(self, log: Callable[..., None]) -> tuple[ConfigFile, TokenFile | None]:
        """Read the web configuration file and the token file. Raises UserError if one of them is
        invalid."""
        return ConfigFile(self.config, log), TokenFile(self.token) if self.token else None


def parse_address(text: str) -> Address:
    """Parse `HOST:PORT`, `:PORT` (all addresses) or `[::1]:PORT`. Raises UserError."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    known = colon and digits and int(port) <= 65_535
    if not known or (":" in bare and bare == host):
        raise UserError(
            f"--web.listen-address: expected HOST:PORT, [HOST]:PORT or :PORT, got {text[:80]!r}."
        )
    return bare, int(port)


def parse_path(text: str) -> str:
    """Validate and return the HTTP path of the metrics. Raises UserError."""
    if not _PATH.fullmatch(text) or text in OWN_PATHS:
        raise UserError(
            f"--web.telemetry-path: expected a path such as /metrics, except {', '.join(OWN_PATHS)}; "
            f"got {text[:80]!r}."
        )
    return text


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UserError, which names the process that already uses the
    port."""
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    flag = "specify another --web.listen-address"
    try:
        return socket.create_server(
            (host, port), family=family, dualstack_ipv6=not host and socket.has_dualstack_ipv6()
        )
    except (socket.gaierror, UnicodeError):
        raise UserError(f"{host[:80]!r} is not an address of this machine; {flag}.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is already in use{_holder(port)}; stop that process, or {flag}."
            ) from None
        raise cannot_listen(host, port, error, "--web.listen-address") from None


def _holder(port: int) -> str:
    """Return a description of the process that listens on the port, if this user may see it."""
    import psutil  # imported here to save a megabyte of memory when the port is free

    try:
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr
            if connection.status == psutil.CONN_LISTEN and here and here.port == port:
                if connection.pid:
                    name = psutil.Process(connection.pid).name()
                    return f" by {name} (pid {connection.pid})"
                break
    except (psutil.Error, OSError):
        pass  # the error message then omits the process
    return ""
