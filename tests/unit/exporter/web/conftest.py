"""The HTTP server in its own thread, on a free port, and a client that sends raw bytes."""

from __future__ import annotations

import asyncio
import gzip as packer
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from exporter.gpu_states import GpuStates
from exporter.pages.collector_runner import CollectorState
from exporter.pages.openmetrics import ExpositionFormat
from exporter.web.access_control import AccessControl
from exporter.web.auth import TokenFile
from exporter.web.backend import WebBackend
from exporter.web.counters import WebCounters
from exporter.web.reload import ConfigFile
from exporter.web.routes import Routes
from exporter.web.server import WebServer

TEXT = b"gpu_expected 8\n" * 100


@dataclass
class Pages:
    """Fake pages: one page, or none to serve; records the requests."""

    shown: bytes | None = TEXT
    names: tuple[str, ...] = ("gpu_load", "xid")
    asked: list[tuple[frozenset[str] | None, ExpositionFormat, bool]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return self.shown is not None

    def page(
        self, wanted: frozenset[str] | None, form: ExpositionFormat, gzip: bool
    ) -> bytes | None:
        self.asked.append((wanted, form, gzip))
        return self.shown if self.shown is None or not gzip else packer.compress(self.shown)

    def states(self, now: float) -> list[CollectorState]:
        return [
            CollectorState("gpu_load", "", 5.0, now),
            CollectorState("xid", "<b>no</b> log", 1.0, 0.0),
        ]


class Reader:
    """A fake reader that releases GPUs immediately, or never."""

    def __init__(self, *, obeys: bool = True) -> None:
        self.obeys = obeys
        self.released_for = 0.0

    def release(self, seconds: float, wait: float = 0.0) -> bool:
        self.released_for = seconds
        return self.obeys


@dataclass
class Served:
    """A running server. `told` are its log events, with their fields."""

    folder: Path
    port: int
    server: WebServer
    counters: WebCounters
    pages: Pages
    reader: Reader | None
    told: list[tuple[str, dict[str, Any]]]
    stop: Callable[[], None]
    strays: list[dict[str, Any]]
    opened: list[socket.socket] = field(default_factory=list)

    @property
    def web(self) -> Path:
        """The web configuration."""
        return self.folder / "web.yml"

    def failed(self, reason: str, count: int) -> bool:
        """Whether the count of failed connections with this reason reaches this value within a moment."""
        end = time.monotonic() + 5
        while self.counters.failed[reason] < count and time.monotonic() < end:
            time.sleep(0.01)
        return self.counters.failed[reason] == count

    def events(self) -> list[str]:
        return [event for event, _ in self.told]

    def connect(self, tls: ssl.SSLContext | None = None) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened.append(connection)
        if tls is not None:
            connection = tls.wrap_socket(connection, server_hostname="localhost")
            self.opened.append(connection)
        return connection

    def say(self, sent: bytes, tls: ssl.SSLContext | None = None) -> bytes:
        """All received data until the server closes the connection."""
        with self.connect(tls) as connection:
            connection.sendall(sent)
            return read_all(connection)

    def get(
        self, path: str = "/-/healthy", tls: ssl.SSLContext | None = None, **headers: str
    ) -> int:
        """The status of a request; ConnectionError when the connection ends without one."""
        return self.ask("GET", path, tls, **headers)[0]

    def ask(
        self, method: str, path: str, tls: ssl.SSLContext | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"
        return parsed(self.say(head.encode("latin-1"), tls))


def read_all(connection: socket.socket) -> bytes:
    got = b""
    while data := connection.recv(65_536):
        got += data
    return got


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 "):
        raise ConnectionError("no answer")
    pairs = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {name: value for name, _, value in pairs}, body


def _run(
    server: WebServer, listener: socket.socket, ready: threading.Event, strays: list[Any]
) -> Any:
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def main() -> None:
        loop.set_exception_handler(lambda _, context: strays.append(context))
        listening = await server.listen(listener)
        ready.set()
        await stopped.wait()
        listening.close()
        await server.close()

    def thread() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    runs = threading.Thread(target=thread)
    runs.start()

    def stop() -> None:
        if runs.is_alive():
            loop.call_soon_threadsafe(stopped.set)
        runs.join(10)

    return stop


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers: `serve(config text, token=..., pages=..., ...)`. Checks at the end that the event
    loop had no unhandled exceptions."""
    started: list[Served] = []

    def begin(
        config: str | None = None,
        *,
        token: str | None = None,
        pages: Pages | None = None,
        reader: Reader | None = None,
        max_requests: int = 40,
        **site: Any,
    ) -> Served:
        told: list[tuple[str, dict[str, Any]]] = []

        def log(event: str, **fields: Any) -> None:
            told.append((event, fields))

        web = tmp_path / "web.yml"
        if config is not None:
            web.write_text(config)
        file = ConfigFile(web if config is not None else None, log)
        (tmp_path / "token").write_text(token or "")
        secret = TokenFile(tmp_path / "token") if token is not None else None
        counters, shown = WebCounters(), pages or Pages()
        gpu_states = GpuStates(tmp_path / "inventory.json", expected=None, intervals={})
        routes = Routes(WebBackend(shown, gpu_states, "node1", "1.2.3", reader, **site))
        server = WebServer(
            routes, AccessControl(file, secret, counters, log), file, counters, log, max_requests
        )
        listener = socket.create_server(("127.0.0.1", 0))
        ready, strays = threading.Event(), list[Any]()
        stop = _run(server, listener, ready, strays)
        assert ready.wait(5)
        port = listener.getsockname()[1]
        served = Served(tmp_path, port, server, counters, shown, reader, told, stop, strays)
        started.append(served)
        return served

    yield begin
    for served in started:
        for connection in served.opened:
            connection.close()
        served.stop()
        assert served.strays == []


@pytest.fixture
def new_pages() -> type[Pages]:
    return Pages


@pytest.fixture
def new_reader() -> type[Reader]:
    return Reader


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certified(authority: trustme.CA, tmp_path: Path) -> Callable[[str], trustme.LeafCert]:
    """Writes NAME.crt and NAME.key for a name, and the authority's certificate to ca.crt."""

    def write(name: str) -> trustme.LeafCert:
        leaf = authority.issue_cert(name)
        (tmp_path / f"{name}.crt").write_bytes(leaf.cert_chain_pems[0].bytes())
        (tmp_path / f"{name}.key").write_bytes(leaf.private_key_pem.bytes())
        (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes())
        return leaf

    return write


@pytest.fixture
def trusting(authority: trustme.CA) -> Callable[..., ssl.SSLContext]:
    """A client that trusts the authority, with its own certificate if specified."""

    def make(leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if leaf is not None:
            leaf.configure_cert(context)
        return context

    return make
