"""Bad input gets one sentence that names the place and the cure."""

import socket
from pathlib import Path

import pytest

from exporter.app import claim, listen
from exporter.cli import exporter, parse_address
from exporter.registry import COLLECTORS
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError


@pytest.mark.parametrize(
    ("text", "address"),
    [(":9410", ("", 9410)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80))],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--web.listen-address=nowhere"], "write HOST:PORT"),
        (["--web.listen-address=a:99999"], "write HOST:PORT"),
        (["--hardware.dir=/no/such"], "--hardware.dir /no/such: no such folder"),
        (["--path.procfs=/no/such"], "--path.procfs /no/such: no such folder"),
        (["--gpu.interval=soon"], "no duration"),
        (["--gpu.interval=1h"], "--gpu.interval=1h is out of range"),
        (["--source=simulated", "--once"], "needs --hardware.dir"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        exporter.main([*arguments, f"--state.dir={tmp_path}"], standalone_mode=False)


def test_an_unknown_node_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    Hardware(tmp_path).create(2, 1)
    arguments = ["--source=simulated", f"--hardware.dir={tmp_path}", "--hardware.node=x", "--once"]
    with pytest.raises(UserError, match=r"--hardware\.node: node1, node2"):
        exporter.main(arguments, standalone_mode=False)


def test_a_taken_port_is_named_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken by .* \\(pid"):
            listen("127.0.0.1", port)


def test_two_exporters_cannot_share_their_state(tmp_path: Path) -> None:
    claim(tmp_path)
    with pytest.raises(UserError, match="another exporter uses"):
        claim(tmp_path)


def test_each_collector_has_its_flag() -> None:
    flags = {flag for option in exporter.params for flag in option.opts + option.secondary_opts}
    for name in COLLECTORS.names():
        assert {f"--collector.{name}", f"--no-collector.{name}"} <= flags


def test_the_help_shows_examples() -> None:
    assert "Examples:" in (exporter.help or "")
