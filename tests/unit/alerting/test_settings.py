"""notifications.yml: what is taken, and what is refused with its place and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetmedic.alerting.settings import Email, Slack, read
from fleetmedic.kernel.errors import UserError

GOOD = """
channels:
  mail: {kind: email, to: [ops@example.org], sender: a@example.org, smarthost: "mail.example.org:587", username: u, password_file: /s/p}
  chat: {kind: slack, url_file: /s/slack, resolved: false}
  ding: {kind: http, url_file: /s/ding, template: dingtalk, sign: dingtalk, secret_file: /s/d}
  wecom: {kind: wechat, corp_id: c, agent_id: "1", secret_file: /s/w, to_user: "@all"}
teams:
- {name: net, match: {alertname: "Node(Network|Infiniband).*"}, critical: [mail], warning: [chat]}
- {name: ops, critical: [mail, chat], warning: [chat], info: [ding]}
quiet: [{times: [{start_time: "22:00", end_time: "24:00"}], location: Europe/Berlin}]
maintenance:
- {name: rack-12, match: {node: "gpu-12-.*"}, windows: [{weekdays: [tuesday]}]}
dead_man: {url: "https://dead.example.org/ping", every: 2m}
repeat: {critical: 30m}
"""


def _read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "notifications.yml"
    path.write_text(text)
    return read(path)


def test_channels_of_each_kind_and_teams_are_read(tmp_path: Path) -> None:
    path = tmp_path / "notifications.yml"
    path.write_text(GOOD)
    given = read(path)
    assert isinstance(given.channels["mail"], Email)
    assert isinstance(given.channels["chat"], Slack)
    assert not given.channels["chat"].resolved
    assert [team.name for team in given.teams] == ["net", "ops"]


def test_an_empty_file_tells_nobody_and_is_fine(tmp_path: Path) -> None:
    assert _read(tmp_path, "") is not None


@pytest.mark.parametrize(
    ("good", "bad", "text"),
    [
        ("kind: slack", "kind: skype", "$.channels"),
        ("url_file: /s/slack", "url: http://x", "unknown field `url`"),
        ("resolved: false", "resolvd: false", "resolvd"),
        ("to: [ops@example.org]", "to: []", "$.channels"),
        ('smarthost: "mail.example.org:587"', "smarthost: mail", "smarthost"),
        (
            "mail.example.org:587",
            "mail.example.org:99999",
            "$.channels.mail.smarthost: expected HOST:PORT",
        ),
        (
            "mail.example.org:587",
            "mail.example.org:0",
            "$.channels.mail.smarthost: expected HOST:PORT",
        ),
        ("corp_id: c", "corp_id: c, url: h", "$.channels.wecom.url: expected a URL"),
        ("corp_id: c", "corp_id: c, url: 'http://h/?a'", "$.channels.wecom.url: expected a URL"),
        (
            "  chat:",
            "  page: {kind: pagerduty, routing_key_file: /s/k, url: 'http://h:0'}\n  chat:",
            "$.channels.page.url: expected a URL with a port",
        ),
        (
            "https://dead.example.org/ping",
            "https://dead.example.org:99999",
            "$.dead_man.url: expected a URL",
        ),
        ("[ops@example.org]", '["a@b.c\\nBcc: x@y"]', "$.channels.mail.to: expected one line"),
        ("[ops@example.org]", "[ops]", "$.channels.mail.to: expected an email address"),
        ("sender: a@example.org", "sender: a", "$.channels.mail.sender: expected an email address"),
        ("username: u", 'username: "u\\r\\n"', "$.channels.mail.username: expected one line"),
        (
            "template: dingtalk",
            'template: dingtalk, content_type: "a\\nb: c"',
            "$.channels.ding.content_type: expected one line",
        ),
        (", password_file: /s/p", "", "both `username` and `password_file`"),
        (", secret_file: /s/d", "", "both `sign` and `secret_file`"),
        ("sign: dingtalk", "sign: rot13", "sign"),
        (', to_user: "@all"', "", "set a recipient"),
        (
            "critical: [mail, chat]",
            "critical: [mail, phone]",
            "unknown channel 'phone'. Expected one of: mail, chat",
        ),
        ("name: ops,", "name: net,", "duplicate name 'net'"),
        ("name: ops,", "name: Ops Team,", "$.teams[1].name"),
        ('match: {alertname: "Node(Network|Infiniband).*"}, ', "", "$.teams[0].match: required"),
        ("name: ops,", "name: ops, match: {cluster: a},", "$.teams[1].match: remove the key"),
        ("Node(Network|Infiniband).*", "Node(", "invalid regular expression"),
        ("gpu-12-.*", "gpu-12-[", "invalid regular expression"),
        ("match: {node:", "match: {no-de:", "$.maintenance[0].match"),
        ("windows: [{weekdays: [tuesday]}]", "windows: []", "$.maintenance[0].windows"),
        ("name: rack-12,", "name: Rack 12,", "$.maintenance[0].name"),
        (
            "- {name: rack-12,",
            "- {name: rack-12, match: {gpu: a}, windows: [{}]}\n- {name: rack-12,",
            "$.maintenance[1].name: duplicate name 'rack-12'",
        ),
        ("gpu-12-.*", "gpu-(?=12).*", "$.maintenance[0].match.node: invalid regular expression"),
        (
            "[tuesday]",
            "[funday]",
            "$.maintenance[0].windows[0].weekdays[0]: 'funday' is not a weekday",
        ),
        (
            "{weekdays: [tuesday]}",
            "{}, {weekdays: [monday, 'friday:monday']}",
            "$.maintenance[0].windows[1].weekdays[1]: 'friday:monday' ends before it starts",
        ),
        ('start_time: "22:00"', 'start_time: "25:00"', "$.quiet[0].times[0].start_time: '25:00'"),
        (
            'end_time: "24:00"',
            'end_time: "06:00"',
            "use two entries, 22:00-24:00 and 00:00-06:00.",
        ),
        (', end_time: "24:00"', "", "missing required field `end_time`"),
        ('end_time: "24:00"', 'end_time: "24:00", zone: CET', "unknown field `zone`"),
        ("Europe/Berlin", "Mars/Base", "$.quiet[0].location: the time zone 'Mars/Base' is unknown"),
        ("every: 2m", "every: often", "$.dead_man.every"),
        ("every: 2m", "every: 1ms", "expected at least 1s"),
        ("https://dead.example.org/ping", "dead.example.org", "$.dead_man.url"),
        ("critical: 30m", "page: 30m", "expected the keys critical, warning, info"),
        ("critical: 30m", "critical: soon", "$.repeat.critical"),
        ("channels:", "chanels:", "chanels"),
    ],
)
def test_what_cannot_be_is_one_sentence_with_its_place(
    tmp_path: Path, good: str, bad: str, text: str
) -> None:
    assert good in GOOD
    with pytest.raises(UserError) as error:
        _read(tmp_path, GOOD.replace(good, bad, 1))
    said = str(error.value)
    assert "notifications.yml" in said
    assert text in said, said
    assert "\n" not in said


def test_too_many_maintenances_for_one_alert_are_refused_with_their_place(tmp_path: Path) -> None:
    lines = [f"- {{name: m{n}, match: {{label{n}: a}}, windows: [{{}}]}}" for n in range(12)]
    with pytest.raises(UserError, match=r"yml: at \$\.maintenance: more than 256 combinations"):
        _read(tmp_path, "maintenance:\n" + "\n".join(lines))


@pytest.mark.parametrize(
    "address", ["ops@example.org", "Ops <ops@example.org>", "o'x+y@b", "a@b.c, d@e.f"]
)
def test_an_email_address_can_have_a_name_and_a_list_is_kept(tmp_path: Path, address: str) -> None:
    _read(tmp_path, GOOD.replace("[ops@example.org]", f'["{address}"]'))
