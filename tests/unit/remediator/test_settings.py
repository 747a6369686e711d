from __future__ import annotations

from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from remediator.core.model import Level
from remediator.credentials import read_credentials, read_token
from remediator.settings import load_settings

FULL = """
cluster: {name: prod, adapter: local, local: {cluster_dir: /c, hardware_dir: /h}}
level: drain
prometheus_url: http://127.0.0.1:9090/
alertmanager_url: http://127.0.0.1:9093
webhook_token_file: /t
playbook_dirs: [/p]
timing: {factor: 30, reconcile_every: 10s, hold: 1s}
guards: {max_out_percent: 5, max_new: 2, max_new_window: 10m, dead_man: 3m}
notify: {webhooks: ["http://127.0.0.1:1/x"]}
"""


@pytest.fixture
def read(tmp_path):
    """Reads a text as remediator.yml."""

    def one(text: str):
        path = tmp_path / "remediator.yml"
        path.write_text(text)
        return load_settings(path)

    return one


def test_the_full_file_is_understood_and_windows_are_divided_by_the_factor(read) -> None:
    found = read(FULL)
    assert (found.cluster, found.adapter, found.level) == ("prod", "local", Level.DRAIN)
    assert found.prometheus_url == "http://127.0.0.1:9090"
    assert (
        found.limits.max_new_window, found.limits.dead_man, found.limits.hold, found.reconcile_every
    ) == (20, 180, 1, 10)  # fmt: skip


def test_token_file_and_no_alertmanager_are_enough_and_the_level_is_observe(read) -> None:
    found = read("webhook_token_file: /t\nwithout_alertmanager: true")
    assert (
        found.level, found.prometheus_url, found.limits.hold, found.reconcile_every
    ) == (Level.OBSERVE, None, 3.0, 30.0)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "$"),
        ("webhook_token_file: 5", "$.webhook_token_file"),
        (FULL + "odd: 1", "$"),
        ("webhook_token_file: /t", "$.alertmanager_url"),
        (FULL + "without_alertmanager: true", "$.alertmanager_url"),
        (FULL + "alertmanager_receivers: []", "$.alertmanager_receivers"),
        (FULL.replace("window: 10m", 'window: "0s"'), "$.guards.max_new_window"),
        (FULL.replace("hold: 1s", "alertmanager_settle: soon"), "$.timing.alertmanager_settle"),
        (FULL.replace("level: drain", "level: all"), "$.level"),
        (FULL.replace("factor: 30", "factor: 0"), "$.timing.factor"),
        (FULL.replace("hold: 1s", "hold: 1"), "$.timing.hold"),
        (FULL.replace("hold: 1s", "hold: soon"), "$.timing.hold"),
        (FULL.replace("10s", "0"), "$.timing.reconcile_every"),
        (FULL.replace("max_out_percent: 5", "max_out_percent: 500"), "$.guards.max_out_percent"),
        (FULL.replace("max_new: 2", "max_new: 0"), "$.guards"),
        (FULL.replace("max_new: 2", "max_new: true"), "$.guards.max_new"),
        (FULL.replace("http://127.0.0.1:9093", "localhost:9093"), "$.alertmanager_url"),
        (FULL.replace("http://127.0.0.1:1/x", "x"), "$.notify.webhooks[0]"),
        (FULL.replace("http://127.0.0.1:1/x", "http://h:99999"), "$.notify.webhooks[0]"),
        (FULL.replace("http://127.0.0.1:9090/", "http://127.0.0.1:99999"), "$.prometheus_url"),
        (FULL.replace("http://127.0.0.1:9090/", "http://:9090"), "$.prometheus_url"),
        (FULL.replace("http://127.0.0.1:9090/", "http://h/?x=y"), "$.prometheus_url"),
        (FULL.replace("http://127.0.0.1:9093", "http://h:0"), "$.alertmanager_url"),
        (FULL.replace("http://127.0.0.1:9093", "http://h#x"), "$.alertmanager_url"),
        (FULL.replace("http://127.0.0.1:9093", "[http://h, http://]"), "$.alertmanager_url[1]"),
        (FULL + "external_url: http://h:99999", "$.external_url"),
        (FULL + "external_url: http://h/gpu?a=b", "$.external_url"),
        (FULL + "external_url: http://h/gpu#a", "$.external_url"),
        (FULL + "external_url: http://user:secret@h/gpu", "$.external_url"),
        (FULL + "discovery: {}", "$.discovery"),
        (FULL + "discovery: {hosts: h, file_sd: targets}", "$.discovery.file_sd"),
        (FULL.replace("name: prod", 'name: ""'), "$.cluster.name"),
        (FULL.replace("name: prod", 'name: "a\\nb"'), "$.cluster.name"),
        (FULL.replace("name: prod", 'name: " a"'), "$.cluster.name"),
        (FULL.replace("hold: 1s", 'scrape_interval: "0s"'), "$.timing.scrape_interval"),
        (FULL.replace("hold: 1s", "scrape_interval: 2h"), "$.timing.scrape_interval"),
        (FULL.replace("10s", "100y"), "$.timing.reconcile_every"),
        (FULL.replace("max_new: 2", f"max_new: {'9' * 23}"), "$.guards"),
        (FULL.replace("max_new: 2", "disruptive_at_once: 100001"), "$.guards"),
        (FULL + "trusted_proxies: [0.0.0.0/1, 128.0.0.0/1]", "$.trusted_proxies"),
        (FULL + 'trusted_proxies: [10.0.0.0/8, "::/1", "8000::/1"]', "$.trusted_proxies[1]"),
        (FULL + 'trusted_proxies: ["::ffff:0:0/96"]', "$.trusted_proxies[0]"),
        (FULL.replace("webhook_token_file: /t", 'webhook_token_file: ""'), "$.webhook_token_file"),
        (FULL.replace("_file: /t", '_file: "a\\0"'), "$.webhook_token_file"),
        (FULL + 'view_password_file: ""', "$.view_password_file"),
        (FULL.replace("[/p]", '[/p, ""]'), "$.playbook_dirs[1]"),
        (FULL.replace("webhooks: [", 'file: "", webhooks: ['), "$.notify.file"),
        (FULL + 'discovery: {hosts: ""}', "$.discovery.hosts"),
        (FULL + 'discovery: {hosts: h, file_sd: ""}', "$.discovery.file_sd"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_the_place(read, text, place) -> None:
    with pytest.raises(UserError) as caught:
        read(text)
    assert f"at {place}:" in str(caught.value)
    assert "remediator.yml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_token_is_read_and_an_open_file_is_warned_about(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o600)
    assert read_token(path) == ("0123456789abcdef", None)
    path.chmod(0o644)
    assert "0600" in (read_token(path)[1] or "")


def test_the_host_list_and_its_file_for_prometheus_are_paths(read) -> None:
    found = read(FULL + "discovery: {hosts: /h.yml, file_sd: /t.json}")
    assert (str(found.hosts), str(found.file_sd)) == ("/h.yml", "/t.json")


@pytest.mark.parametrize("text", ["", "short", "with spaces in the token", "ünïcödé0123456789"])
def test_a_token_that_is_none_is_refused(tmp_path, text) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(UserError, match="token"):
        read_token(path)
    with pytest.raises(UserError, match="file not found"):
        read_token(tmp_path / "none")


def test_the_peers_of_an_alertmanager_cluster_are_a_list(read) -> None:
    assert read(FULL).alertmanager_urls == ("http://127.0.0.1:9093",)
    two = "alertmanager_url: [http://a:9093, http://b:9093/]"
    found = read(FULL.replace("alertmanager_url: http://127.0.0.1:9093", two))
    assert found.alertmanager_urls == ("http://a:9093", "http://b:9093")


def test_runbooks_get_the_urls_of_the_settings_without_credentials(tmp_path: Path) -> None:
    from remediator.app import runbook_urls

    path = tmp_path / "remediator.yml"
    path.write_text(
        "webhook_token_file: x\nprometheus_url: http://user:secret@prom:9090/p\n"
        "alertmanager_url: [http://am1:9093, http://am2:9093]\n"
    )
    assert runbook_urls(load_settings(path)) == {
        "http://localhost:9090": "http://prom:9090/p",
        "http://localhost:9093": "http://am1:9093",
    }


def test_a_url_can_have_a_path_and_a_notification_url_also_a_query_and_a_password(read) -> None:
    found = read(
        FULL.replace("http://127.0.0.1:9090/", "http://u:p@h/prometheus/").replace(
            "http://127.0.0.1:1/x", "https://u:p@h/hook?key=1"
        )
        + "external_url: https://h/gpu/"
    )
    assert found.prometheus_url == "http://u:p@h/prometheus"
    assert found.webhooks == ("https://u:p@h/hook?key=1",)
    assert found.external_url == "https://h/gpu"


def test_each_error_about_a_credential_names_its_key_and_its_own_cure(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "same").write_text("0123456789abcdef")
    path = tmp_path / "remediator.yml"

    def error(token: str, password: str) -> str:
        path.write_text(
            f"without_alertmanager: true\nwebhook_token_file: {tmp_path}/{token}\n"
            f"view_password_file: {tmp_path}/{password}\n"
        )
        with pytest.raises(UserError) as caught:
            read_credentials(load_settings(path))
        return str(caught.value)

    missing = error("token", "none")
    assert missing.startswith(f"{path}: at $.view_password_file: {tmp_path}/none: file not found")
    assert "write a long random password into it" in missing
    assert "Alertmanager" not in missing
    missing = error("none", "token")
    assert missing.startswith(f"{path}: at $.webhook_token_file: {tmp_path}/none: file not found")
    assert "configure the same token in Alertmanager" in missing
    assert "the password cannot be read: Is a directory" in error("token", ".")
    for same in ("token", "same"):
        assert "the password is the webhook token" in error("token", same)


def test_both_files_are_warned_about(tmp_path: Path) -> None:
    for name, text in (("token", "0123456789abcdef"), ("password", "fedcba9876543210")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    path = tmp_path / "remediator.yml"
    path.write_text(
        f"without_alertmanager: true\nwebhook_token_file: {tmp_path}/token\n"
        f"view_password_file: {tmp_path}/password\n"
    )
    found = read_credentials(load_settings(path))
    assert (found.token, found.view_password) == ("0123456789abcdef", "fedcba9876543210")
    assert len(found.warnings) == 2
