"""The real programs that integration tests start: Prometheus, Alertmanager and their tools."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import binaries, newer_releases
from fleetmedic.stack.ports import is_free, layout
from tests.integration.harm import Edit, Scene, scene
from tests.integration.inbox import Inbox, inbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class Parts(dict[str, Path]):
    """Looked up when asked for: a test skips (or fails) for the part that it needs itself."""

    def __missing__(self, name: str) -> Path:
        path, reason = (
            binaries.find(name),
            f"{name} is neither on PATH nor among the unpacked parts",
        )
        if path is None and name in newer_releases.PARTS:
            path, reason = _later(name)
        if path is None:
            if os.environ.get("FLEETMEDIC_REQUIRE_PARTS") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        self[name] = path
        return path


@functools.cache
def _later(name: str) -> tuple[Path | None, str]:
    """A later release is fetched when a test first asks for it; else why it cannot be had."""
    try:
        newer_releases.fetch(name)
    except UserError as error:
        return None, str(error)
    return binaries.find(name), f"{newer_releases.path(name)} does not run on this machine"


@pytest.fixture(scope="module")
def steady_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The machine's network interfaces for one module at a time: an engine of containers makes and
    removes some, and Chromium ends every request under way when it sees that."""
    with (tmp_path_factory.getbasetemp().parent / "network.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def browser(steady_network: None) -> Iterator[Browser]:
    """Headless Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        why = "there is no chromium here: `apt-get install --no-install-recommends chromium`"
        if os.environ.get("FLEETMEDIC_REQUIRE_PARTS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    # Its sandbox refuses to start for root.
    words = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as start:
        found = start.chromium.launch(executable_path=program, args=words)
        yield found
        found.close()


@pytest.fixture(scope="session")
def parts() -> Parts:
    """Program name (prometheus, promtool, alertmanager, amtool, or a later release of one, as
    prometheus-3) to path, on first use."""
    return Parts()


@pytest.fixture(scope="session")
def new_port() -> Callable[[], int]:
    """Gives a TCP port of loopback that nobody listened on a moment ago; another one each call."""

    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return pick


def port_bases() -> Iterator[int]:
    """Port bases 400 apart, other ones in each worker that runs tests at the same time, for ever."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first = random.randrange(7)
    while True:
        for step in range(7):
            yield 20_000 + 3_000 * worker + 400 * ((first + step) % 7)


_BASES = port_bases()


@pytest.fixture(scope="session")
def new_port_base() -> Callable[[], int]:
    """Gives a port base on which every port of a four-node stack is free now."""

    def pick() -> int:
        nodes = ["node1", "node2", "node3", "node4"]
        return next(
            base for base in _BASES if all(is_free(port) for port in layout(base, nodes).values())
        )

    return pick


@pytest.fixture(scope="module")
def people() -> Iterator[Inbox]:
    """The messages that the remediator of this module's stack sends to people."""
    with inbox() as found:
        yield found


@pytest.fixture(scope="session")
def new_scene(
    parts: dict[str, Path], new_port_base: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., AbstractContextManager[Scene]]:  # fmt: skip
    """Gives a stack for tests of harm; edits and options are those of `scene`."""

    def start(*edits: Edit, **options: Any) -> AbstractContextManager[Scene]:
        for name in ("prometheus", "promtool", "alertmanager"):
            assert parts[name]
        return scene(tmp_path_factory.mktemp("harm"), new_port_base(), *edits, **options)

    return start
