"""The real programs that integration tests start: Prometheus, Alertmanager and their tools."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

# Both names of Alertmanager are in use: upstream's own, and Debian's.
ON_PATH = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "amtool": ("amtool",),
}


def _find(name: str) -> Path | None:
    for program in ON_PATH.get(name, (name,)):
        if found := shutil.which(program):
            return Path(found).resolve()
    try:
        binaries = importlib.import_module("fleetmedic.stack.binaries")
    except ModuleNotFoundError:
        return None
    found = binaries.find(name)
    return Path(found) if found else None


class Parts(dict[str, Path]):
    """Looked up when asked for: a test skips (or fails) for the part that it needs itself."""

    def __missing__(self, name: str) -> Path:
        path = _find(name)
        if path is None:
            reason = f"{name} is neither on PATH nor among the unpacked parts"
            if os.environ.get("FLEETMEDIC_REQUIRE_PARTS") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        self[name] = path
        return path


@pytest.fixture(scope="session")
def parts() -> Parts:
    """Program name (prometheus, promtool, alertmanager, amtool) to path, on first use."""
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
