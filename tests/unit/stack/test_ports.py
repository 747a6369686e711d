"""Ports: the layout, and the sentence about a port that is taken."""

from __future__ import annotations

import os
import socket

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.ports import is_free, layout, require_free


def test_every_port_moves_with_the_base() -> None:
    assert layout(9090, ["node1", "node2"]) == {
        "prometheus": 9090, "alertmanager": 9093, "remediator": 9095, "rules": 9096, "pool": 9097,
        "exporter-node1": 9410, "exporter-node2": 9411,
    }  # fmt: skip
    assert layout(19090, [])["remediator"] == 19095


@pytest.mark.parametrize("base", [80, 65_300])
def test_a_base_without_room_is_refused(base: int) -> None:
    with pytest.raises(UserError, match="--port-base: expected 1024 to"):
        layout(base, ["node1", "node2"])


def test_a_taken_port_is_named_with_its_process_and_the_cure() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(UserError) as error:
            require_free({"prometheus": port})
    text = str(error.value)
    assert f"port {port} of prometheus is in use by" in text
    assert f"pid {os.getpid()}" in text
    assert "--port-base" in text


def test_free_ports_pass() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    require_free({"rules": port})
