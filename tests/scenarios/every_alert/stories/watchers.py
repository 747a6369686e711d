"""Faults of the monitoring itself, and unauthorized use: the real programs fail."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable

from every_alert.fleet import HOLDERS, USER, Fleet
from every_alert.story import Story
from fleetmedic.hardware.faults import inject
from fleetmedic.progress import Progress

# A many-to-many match, which fails at each evaluation, and a query to a remote storage that takes longer
# than the interval of the group.
_SITE_RULES = """groups:
- name: mistaken
  interval: 1s
  rules:
  - record: site:mistaken
    expr: up * on (cluster) up
- name: slow
  interval: 1s
  rules:
  - record: site:slow
    expr: count(up{store="old"})
"""
STRAY = 4711


def _always(_: Fleet) -> None: ...


def _page_gone(fleet: Fleet) -> None:
    fleet.outside.silent.add("/objectives")


def _file_broken(fleet: Fleet) -> None:
    fleet.machines["yard-3"].write("proc/1/net/dev", "nonsense\n")


def _bad_reload(fleet: Fleet) -> None:
    fleet.spare.site_rules(
        "bad.yml", "groups: [{name: bad, rules: [{alert: Bad, expr: 'sum('}]}]\n"
    )
    assert not fleet.spare.reload(), "an invalid rule file was accepted"


def _own_rules(fleet: Fleet) -> None:
    fleet.spare.site_rules("own.yml", _SITE_RULES)
    assert fleet.spare.reload(), "the rules of the site were rejected"


def _no_alertmanager(fleet: Fleet) -> None:
    fleet.spare.know_alertmanagers([])


def _wrong_token(fleet: Fleet) -> None:
    (fleet.folder / "alertmanager.token").write_text("not-the-one-that-is-known")


def _chat_refuses(fleet: Fleet) -> None:
    fleet.outside.chat_refuses = True
    for job in HOLDERS:
        inject(fleet.rack, "node1", fleet.gpu_of(job), "xid", xid=43, count=8)


def _detectors_blind(fleet: Fleet) -> None:
    fleet.wire.cut()


def _log_torn(fleet: Fleet) -> None:
    fleet.hall.log("node1", "usb 1-1: new device")
    path = fleet.hall.kmsg_path("node1")
    _, last, stamp, _ = path.read_text().splitlines()[-1].split(",", 3)
    with path.open("a") as file:
        file.write(f"6,{int(last) + 500},{int(stamp) + 10},-;usb 1-1: device gone\n")


def _web_config_wrong(fleet: Fleet) -> None:
    fleet.webconfig.write_text("basic_auth_users: [a]\n")


def _hosts_emptied(fleet: Fleet) -> None:
    (fleet.folder / "hosts.yml").write_text("hosts: []\n")


def _store_gone(fleet: Fleet) -> None:
    fleet.cluster_store.rename(fleet.cluster_store.with_name("elsewhere.db"))


def _stranger(fleet: Fleet) -> None:
    fleet.machines["node1"].process(STRAY, "miner")
    held = {fleet.gpu_of(job) for job in HOLDERS}
    free = ({0, 1, 2, 3} - held).pop()
    fleet.rack.change("node1", free, stray_pid=STRAY)


def _times(count: int, ask: Callable[[], int]) -> None:
    assert {ask() for _ in range(count)} == {401}, "a request with wrong credentials was accepted"


def _guesses(fleet: Fleet) -> None:
    word = base64.b64encode(f"{USER}:guess".encode()).decode()
    _times(60, lambda: fleet.get("hall-2", Authorization=f"Basic {word}"))


def _guesses_token(fleet: Fleet) -> None:
    url = f"http://127.0.0.1:{fleet.ports['remediator']}/api/v1/alerts"
    _times(20, lambda: fleet.post(url, Authorization="Bearer guess"))


def _forges(fleet: Fleet) -> None:
    """The owner of the file is the reporting user; the first reporting user of a job owns the job."""
    for rank, user in ((0, 1001), (1, 1002)):
        Progress("thesis", fleet.progress, rank=rank).step(1, seconds=0.5)
        name = f"thesis@{rank}.json" if rank else "thesis.json"
        os.chown(fleet.progress / name, user, user)


STORIES = (
    Story("No fault.", {"Watchdog": {}}, _always),
    Story(
        "A scrape target of the site returns an error.",
        {"TargetDown": {"cluster": "hall"}},
        _page_gone, after=frozenset({"InferenceLatencyHigh"}),
    ),
    Story(
        "/proc/net/dev of yard-3 becomes unreadable for the exporter.",
        {
            "ExporterCollectorFailing": {"node": "yard-3", "collector": "netdev"},
            "ExporterDataStale": {"node": "yard-3", "collector": "netdev"},
        },
        _file_broken,
    ),
    Story(
        "A Prometheus is reloaded with an invalid rule file.",
        {"PrometheusConfigReloadFailed": {"job": "prometheus"}},
        _bad_reload, after=frozenset({"PrometheusRuleFailures", "PrometheusRuleGroupSlow"}),
    ),
    Story(
        "The site adds a rule that fails, and a rule that queries a slow remote storage every second.",
        {"PrometheusRuleFailures": {}, "PrometheusRuleGroupSlow": {}},
        _own_rules, instead="the remote storage: a page that responds after 4 s",
    ),
    Story(
        "The service discovery of a Prometheus no longer returns an Alertmanager.",
        {"PrometheusNotConnectedToAlertmanager": {"job": "prometheus"}},
        _no_alertmanager,
    ),
    Story(
        "Programs fail on three GPUs of cluster rack, and the chat service rejects the notifications.",
        {"NotificationChannelFailing": {"channel": "chat"}},
        _chat_refuses, instead="a chat service: a page that rejects messages",
    ),
    Story(
        "Alertmanager uses a wrong token for the remediator.",
        {
            "AlertmanagerNotificationsFailing": {"integration": "webhook"},
            "RemediatorWebhookFailing": {"cluster": "rack"},
        },
        _wrong_token,
        after=frozenset({"NotificationChannelFailing", "RemediatorLoginsFailing"}),
    ),
    Story("The network between the detectors and their Prometheus is cut.", {"DetectorModelStale": {"cluster": "rack"}}, _detectors_blind),
    Story("Several hundred records of the kernel log of hall-1 are lost.", {"ExporterKernelLogDropped": {"node": "hall-1"}}, _log_torn, fleeting=True),
    Story(
        "The web configuration of the exporter of hall-2 becomes invalid.",
        {"ExporterWebConfigRefused": {"node": "hall-2"}},
        _web_config_wrong, after=frozenset({"ExporterLoginsFailing"}),
    ),
    Story("A script empties the target list of cluster rack.", {"RemediatorHostListRefused": {"cluster": "rack"}}, _hosts_emptied),
    Story("The allocation store that the exporter of hall-1 reads is removed.", {"ExporterAllocationUnknown": {"node": "hall-1"}}, _store_gone),
    Story("A process without a job uses a free GPU of cluster rack.", {"GpuUnownedProcesses": {"cluster": "rack"}}, _stranger),
    Story("The exporter of hall-2 receives 60 requests with a wrong password.", {"ExporterLoginsFailing": {"node": "hall-2"}}, _guesses, fleeting=True),
    Story("The remediator receives 20 requests with a wrong token.", {"RemediatorLoginsFailing": {"cluster": "rack"}}, _guesses_token, fleeting=True),
    Story("A user on hall-1 reports progress for a job of another user.", {"ProgressReportsForged": {"node": "hall-1"}}, _forges, fleeting=True, needs_root=True),
)  # fmt: skip
