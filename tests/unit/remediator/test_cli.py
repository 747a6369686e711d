from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetmedic.kernel.errors import UserError
from remediator.cli import remediator


@pytest.fixture
def config(tmp_path):
    """A configuration at level drain on the in-memory cluster."""
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o600)
    path = tmp_path / "remediator.yml"
    path.write_text(
        f"webhook_token_file: {tmp_path}/token\ncluster: {{adapter: memory}}\nlevel: drain\n"
        "without_alertmanager: true\n"
    )
    return path


def _run(*arguments: object):
    return CliRunner().invoke(remediator, [str(one) for one in arguments])


def test_check_names_every_playbook(config) -> None:
    result = _run("check", "--config", config)
    assert result.exit_code == 0
    assert "gpu-lost: GpuLost" in result.output
    assert "level drain" in result.output.lower()


def test_check_says_what_is_wrong_in_one_sentence(config) -> None:
    config.write_text(config.read_text() + "levl: x\n")
    result = _run("check", "--config", config)
    assert isinstance(result.exception, UserError)


def _payload(folder: Path, labels: dict[str, str]) -> Path:
    """Write a webhook's payload with one firing alert."""
    alert = {
        "status": "firing",
        "labels": labels,
        "startsAt": "2026-11-22T21:47:28Z",
        "fingerprint": "a",
    }
    payload = folder / "alert.json"
    payload.write_text(json.dumps({"alerts": [alert]}))
    return payload


def test_plan_says_what_would_be_done_and_what_the_level_forbids(config, tmp_path) -> None:
    labels = {"alertname": "GpuLost", "node": "n", "gpu": "1", "cluster": "local"}
    payload = _payload(tmp_path, labels)
    result = _run("plan", "--config", config, payload)
    assert result.exit_code == 0
    assert "Playbook gpu-lost" in result.output
    assert "quarantine the GPU\n" in result.output
    assert (
        "reset the GPU (cannot be undone) (not allowed at level drain: requires repair)"
        in result.output
    )
    assert "quarantine the GPU\n" in result.output


def test_plan_says_what_the_configured_cluster_leaves_out_and_why(config, tmp_path) -> None:
    """The embedded cluster without simulated hardware can neither reset, reboot nor test."""
    text = config.read_text().replace(
        "adapter: memory", f"adapter: local, local: {{cluster_dir: {tmp_path}/cluster}}"
    )
    config.write_text(text.replace("level: drain", "level: repair"))
    labels = {"alertname": "GpuLost", "node": "n", "gpu": "1", "cluster": "local"}
    alert = {"status": "firing", "labels": labels, "startsAt": "2026-11-22T21:47:28Z"}
    payload = tmp_path / "alert.json"
    payload.write_text(json.dumps({"alerts": [alert | {"fingerprint": "a"}]}))
    result = _run("plan", "--config", config, payload)
    assert result.exit_code == 0, result.output
    missing = "(left out: This cluster lacks a required capability:"
    assert f"reset the GPU (cannot be undone) {missing} gpu reset)" in result.output
    assert f"reboot the node (cannot be undone) {missing} reboot)" in result.output


def test_plan_refuses_junk_with_the_files_name(config, tmp_path) -> None:
    (tmp_path / "junk").write_text("{")
    result = _run("plan", "--config", config, tmp_path / "junk")
    assert isinstance(result.exception, UserError)
    assert "junk" in str(result.exception)


def test_journal_needs_a_journal(tmp_path) -> None:
    result = _run("journal", "--data-dir", tmp_path)
    assert isinstance(result.exception, UserError)


@pytest.mark.parametrize("listen", ["9095", "host:port", "127.0.0.1:99999", ":", "x:²"])
def test_a_bad_address_is_refused(config, tmp_path, listen) -> None:
    result = _run(
        "serve", "--config", config, "--data-dir", tmp_path, "--web.listen-address", listen
    )
    assert isinstance(result.exception, UserError)


def test_every_command_has_an_example() -> None:
    for name, command in [("remediator", remediator), *remediator.commands.items()]:
        assert "Example" in (command.help or ""), name


def test_check_counts_the_hosts_and_refuses_a_bad_list(config, tmp_path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("hosts: ['gpu[1-12]']")
    config.write_text(config.read_text() + f"discovery: {{hosts: {hosts}}}\n")
    assert f"{hosts}: valid, 12 scrape targets." in _run("check", "--config", config).output
    hosts.write_text("hosts: []")
    assert isinstance(_run("check", "--config", config).exception, UserError)


def test_targets_are_printed_or_written_as_prometheus_reads_them(tmp_path) -> None:
    hosts, out = tmp_path / "hosts.yml", tmp_path / "targets.json"
    hosts.write_text("hosts: [a]")
    said = _run("targets", hosts, "--cluster", "prod").output
    assert json.loads(said) == [{"targets": ["a:9410"], "labels": {"cluster": "prod", "node": "a"}}]
    result = _run("targets", hosts, "--cluster", "prod", "--out", out)
    assert (result.output, out.read_text()) == (f"{out}: 1 scrape target.\n", said)
    link = tmp_path / "link.json"
    link.symlink_to(out)
    out.write_text("")
    _run("targets", hosts, "--cluster", "prod", "--out", link)
    assert (link.is_symlink(), out.read_text()) == (True, said)
    hosts.write_text("hosts: [a, a]")
    assert isinstance(_run("targets", hosts, "--out", out).exception, UserError)
    assert out.read_text() == said
    hosts.write_text("hosts: [a]")
    assert "cannot be written" in str(_run("targets", hosts, "--out", tmp_path / "x/y").exception)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("notify: {file: FOLDER/none.yml}\n", "$.notify.file"),
        ("notify: {file: FOLDER}\n", "$.notify.file"),
        ("notify: {file: FOLDER/bad-template.yml}\n", "$.notify.file"),
        ("discovery: {hosts: FOLDER/none.yml}\n", "$.discovery.hosts"),
        ("view_password_file: FOLDER/none\n", "$.view_password_file"),
        ("view_password_file: FOLDER/token\n", "$.view_password_file"),
    ],
)
def test_check_and_serve_refuse_the_same_files_and_name_their_key(
    config, tmp_path, more, key
) -> None:
    config.write_text(config.read_text() + more.replace("FOLDER", str(tmp_path)))
    channel = "{kind: http, url_file: /u, template: /nope.j2}"
    (tmp_path / "bad-template.yml").write_text(f"channels: {{c: {channel}}}\n")
    result = _run("check", "--config", config)
    assert isinstance(result.exception, UserError), result.output
    expected = "at $.channels.c.template" if "bad-template" in more else str(tmp_path)
    assert f"{config}: at {key}: {expected}" in str(result.exception)
    if key == "$.discovery.hosts":
        return  # the remediator serves without a valid list, and waits for one
    data = tmp_path / "data"
    listen = ("--web.listen-address", "127.0.0.1:0", "--data-dir", data)
    again = _run("serve", "--config", config, *listen)
    assert str(again.exception) == str(result.exception)
    assert not data.exists(), "a refused start leaves no journal behind"


def test_a_file_in_place_of_a_playbook_folder_is_no_missing_folder(config, tmp_path) -> None:
    config.write_text(config.read_text() + f"playbook_dirs: [{tmp_path}/token]\n")
    result = _run("check", "--config", config)
    assert f"{tmp_path}/token: not a directory; correct playbook_dirs" in str(result.exception)


def test_check_warns_of_notifications_that_reach_nobody(config, tmp_path) -> None:
    (tmp_path / "n.yml").write_text("")
    config.write_text(config.read_text() + f"notify: {{file: {tmp_path}/n.yml}}\n")
    result = _run("check", "--config", config)
    assert result.exit_code == 0
    assert f"warning: {tmp_path}/n.yml: at $.teams: no team is configured" in result.stderr


def test_plan_prints_no_control_character_of_an_alert(config, tmp_path) -> None:
    labels = {"alertname": "a\x1b[2J\x07", "node": "n", "severity": "warning", "cluster": "local"}
    payload = _payload(tmp_path, labels)
    result = _run("plan", "--config", config, payload)
    assert "matches a [2J  on node/n." in result.output
    assert "\x1b" not in result.output
