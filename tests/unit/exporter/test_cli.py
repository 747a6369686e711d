"""Invalid input results in one sentence with the location and the fix."""

import errno
import socket
from pathlib import Path

import click
import pytest

from exporter import app
from exporter.cli import exporter
from exporter.registry import COLLECTORS
from exporter.web.listen import listen, parse_address
from fleetmedic import __version__
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
        (["--web.listen-address=nowhere"], "expected HOST:PORT"),
        (["--web.listen-address=a:99999"], "expected HOST:PORT"),
        (["--web.listen-address=:" + "9" * 5000], "expected HOST:PORT"),
        (["--web.listen-address=:9410", "--web.listen-address=9411"], "got '9411'"),
        (["--web.listen-address=::1:80"], r"expected HOST:PORT, \[HOST\]:PORT"),
        (["--web.telemetry-path=metrics"], "expected a path such as /metrics"),
        (["--web.telemetry-path=/"], "got '/'"),
        (["--web.telemetry-path=/-/ready"], "except /, "),
        (["--web.telemetry-path=/a b"], "got '/a b'"),
        (
            ["--web.config.file=/no/such", "--check-config"],
            "/no/such: no such file. Check the path",
        ),
        (["--web.release-token-file=/no/such", "--check-config"], "/no/such: cannot read"),
        (["--hardware.dir=/no/such"], "--hardware.dir /no/such: no such directory"),
        (["--path.procfs=/no/such"], "--path.procfs /no/such: no such directory"),
        (["--gpu.interval=nan"], "--gpu.interval: expected a duration such as 30s"),
        (["--gpu.health-interval=soon"], "--gpu.health-interval: expected a duration"),
        (
            ["--collector.xid.lookback=soon", "--check-config"],
            "--collector.xid.lookback: expected a duration",
        ),
        (["--gpu.interval=1h"], "--gpu.interval=1h is out of range"),
        (["--source=simulated", "--once"], "requires --hardware.dir"),
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
    with pytest.raises(UserError, match=r"--hardware\.node: .*: node1, node2"):
        exporter.main(arguments, standalone_mode=False)


def test_a_taken_port_is_named_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is already in use by .* \\(pid"):
            listen("127.0.0.1", port)


def test_each_collector_has_its_flag() -> None:
    flags = {flag for option in exporter.params for flag in option.opts + option.secondary_opts}
    for name in COLLECTORS.names():
        assert {f"--collector.{name}", f"--no-collector.{name}"} <= flags


def test_the_help_shows_examples() -> None:
    assert "Examples:" in (exporter.help or "")


def test_only_the_collectors_that_are_named_stay_without_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[app.ExporterSettings] = []
    monkeypatch.setattr(app, "serve", seen.append)
    state = f"--state.dir={tmp_path}"
    named = ["--collector.xid", "--collector.gpu_load", "--no-collector.web"]
    for arguments in ([state], [state, "--collector.disable-defaults", *named], [state, *named]):
        exporter.main(arguments, standalone_mode=False)
    off = [settings.without for settings in seen]
    assert off[0] == {entry.name for entry in COLLECTORS if not entry.on}
    assert {*COLLECTORS.names()} - off[1] == {"xid", "gpu_load"}
    assert off[2] == off[0] | {"web"}


def test_addresses_may_be_many_and_one_is_there_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[app.ExporterSettings] = []
    monkeypatch.setattr(app, "serve", seen.append)
    for flags in ([], ["--web.listen-address=:1", "--web.listen-address=[::1]:2"]):
        exporter.main([*flags, f"--state.dir={tmp_path}"], standalone_mode=False)
    addresses = [settings.web.addresses for settings in seen]
    assert addresses == [(("127.0.0.1", 9410),), (("", 1), ("::1", 2))]


def test_a_state_that_cannot_be_read_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("shutil.copy", refuse)
    (tmp_path / "xid.json").touch()
    arguments = ["--source=simulated", f"--hardware.dir={tmp_path}", f"--state.dir={tmp_path}"]
    with pytest.raises(UserError, match=r"--state\.dir: cannot read .* \(Permission denied\)"):
        exporter.main([*arguments, "--once"], standalone_mode=False)


def test_the_help_has_every_option_once_and_in_sections() -> None:
    text = exporter.get_help(click.Context(exporter, info_name="exporter", terminal_width=200))
    sections = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert sections[:3] == ["Serving:", "Node:", "GPUs:"]
    words = text.split()
    for option in exporter.params:
        name = option.opts[-1]
        switch = bool(option.secondary_opts) and name.startswith("--collector.")
        shown = name.removeprefix("--collector.") if switch else name
        assert any(word.startswith(shown) for word in words), name


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    exporter.main(["--version"], standalone_mode=False)
    assert capsys.readouterr().out == f"fleetmedic exporter {__version__}\n"
