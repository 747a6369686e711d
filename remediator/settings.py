"""Read remediator.yml and validate it. Durations become seconds. See docs/configuration.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load
from fleetmedic.kernel.urls import check_base_url, check_public_url, check_url
from remediator.core.guards import Limits
from remediator.core.model import Level
from remediator.core.retention import Retention
from remediator.journal_retention import retention_of


class ClusterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The managed cluster: its name, the adapter, and the adapter's settings."""

    name: str = "local"
    adapter: str = "local"
    local: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None


_MAPPED = IPv6Network("::ffff:0:0/96")
_ALL = (
    "so every client could report any address as its own; list the addresses of your proxies, such as "
    "10.0.0.0/24."
)
MOST = 100_000
LONGEST_INTERVAL = 3600.0
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")


class TimingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `timing`: intervals and delays.

    `factor` divides the long durations (probation, cooldowns, windows) and no others.
    `alertmanager_settle`: a missing alert does not count as over for this long after Alertmanager's
    start. Use at least twice Prometheus' resend delay (`--rules.alert.resend-delay`, default 1m).
    """

    factor: float = 1.0
    reconcile_every: str = "30s"
    hold: str = "3s"
    scrape_interval: str = "5s"
    alertmanager_settle: str = "3m"


class GuardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `guards`: the limits of the guards.

    `dead_man: 0` and `exporters_up_percent: 0` disable these two guards.
    """

    max_out_percent: float = 10.0
    max_new: int = 3
    max_new_window: str = "10m"
    dead_man: str = "3m"
    exporters_up_percent: float = 90.0
    disruptive_at_once: int = 4


class NotifySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `notify`: where notifications are sent.

    `webhooks` are URLs that get a JSON message about incidents, in addition to the log. `file` is
    the path of notifications.yml, with the channels that Alertmanager uses through the remediator.
    """

    webhooks: tuple[str, ...] = ()
    file: str | None = None


class JournalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `journal`: how long the remediator remembers, and keeps events in the journal.

    `memory`: attempts, ended alerts and sent notifications are remembered for this long. `events`: events of ended
    incidents and alerts are deleted after this time; 0 keeps them forever.
    """

    memory: str = "14d"
    events: str = "90d"


class DiscoverySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `discovery`: service discovery for Prometheus.

    `hosts` is the path of hosts.yml, the list of scrape targets. They are served at /sd/targets,
    and written to the file `file_sd` if it is set.
    """

    hosts: str
    file_sd: str | None = None


class FileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of remediator.yml.

    `alertmanager_url` is one URL, or the URLs of a cluster's peers. It is required unless
    `without_alertmanager` is true. `alertmanager_receivers` are Alertmanager's receivers that send
    to the remediator.
    """

    webhook_token_file: str
    view_password_file: str | None = None
    cluster: ClusterSettings = ClusterSettings()
    level: Level = Level.OBSERVE
    prometheus_url: str | None = None
    alertmanager_url: str | tuple[str, ...] | None = None
    alertmanager_receivers: tuple[str, ...] = ("remediator", "fleetmedic")
    without_alertmanager: bool = False
    external_url: str | None = None
    playbook_dirs: tuple[str, ...] = ()
    timing: TimingSettings = TimingSettings()
    guards: GuardSettings = GuardSettings()
    notify: NotifySettings = NotifySettings()
    discovery: DiscoverySettings | None = None
    journal: JournalSettings = JournalSettings()
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemediatorSettings:
    """The validated settings. Times are in seconds. The cluster's adapter validates `adapter_settings`."""

    where: str
    cluster: str
    adapter: str
    adapter_settings: object
    level: Level
    prometheus_url: str | None
    alertmanager_urls: tuple[str, ...]
    alertmanager_receivers: tuple[str, ...]
    alertmanager_settle: float
    external_url: str | None
    token_file: Path
    view_password_file: Path | None
    playbook_dirs: tuple[Path, ...]
    factor: float
    reconcile_every: float
    scrape_interval: float
    limits: Limits
    disruptive_at_once: int
    webhooks: tuple[str, ...]
    notifications: Path | None
    hosts: Path | None
    file_sd: Path | None
    allowed_hosts: tuple[str, ...]
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    retention: Retention


def load_settings(path: Path) -> RemediatorSettings:
    """Read remediator.yml. Raises UserError with the file name and the path of the invalid key."""
    raw = load(path, FileSettings)
    where = str(path)
    timing, guards = raw.timing, raw.guards
    if not 0.001 <= timing.factor <= 100_000:
        raise UserError(f"{where}: at $.timing.factor: expected a number from 0.001 to 100000.")
    for name, percent in (
        ("max_out_percent", guards.max_out_percent),
        ("exporters_up_percent", guards.exporters_up_percent),
    ):
        if not 0 <= percent <= 100:
            raise UserError(f"{where}: at $.guards.{name}: expected a percentage from 0 to 100.")
    if not (1 <= guards.max_new <= MOST and 1 <= guards.disruptive_at_once <= MOST):
        raise UserError(
            f"{where}: at $.guards: expected max_new and disruptive_at_once from 1 to {MOST}."
        )
    if _seconds(guards.max_new_window, where, "guards.max_new_window") <= 0:
        raise UserError(
            f"{where}: at $.guards.max_new_window: expected a duration above 0, such as 10m."
        )
    given = getattr(raw.cluster, raw.cluster.adapter, None) or {}
    limits = Limits(
        max_out_percent=guards.max_out_percent,
        max_new=guards.max_new,
        max_new_window=_seconds(guards.max_new_window, where, "guards.max_new_window")
        / timing.factor,
        dead_man=_seconds(guards.dead_man, where, "guards.dead_man"),
        exporters_up_percent=guards.exporters_up_percent,
        hold=_seconds(timing.hold, where, "timing.hold"),
        notice=120.0 / timing.factor,
        pin=14_400.0 / timing.factor,
        watch=300.0 / timing.factor,
        calm=600.0 / timing.factor,
        approval=1800.0 / timing.factor,
    )
    return RemediatorSettings(
        where=where,
        cluster=_cluster_name(raw.cluster.name, where),
        adapter=raw.cluster.adapter,
        adapter_settings=given,
        level=raw.level,
        prometheus_url=_url(raw.prometheus_url, where, "prometheus_url"),
        alertmanager_urls=_alertmanagers(raw, where),
        alertmanager_receivers=_receivers(raw, where),
        alertmanager_settle=_seconds(
            timing.alertmanager_settle, where, "timing.alertmanager_settle"
        ),
        external_url=_url(raw.external_url, where, "external_url", check_public_url),
        token_file=_path(raw.webhook_token_file, where, "webhook_token_file"),
        view_password_file=_optional_path(raw.view_password_file, where, "view_password_file"),
        playbook_dirs=tuple(
            _path(folder, where, f"playbook_dirs[{n}]")
            for n, folder in enumerate(raw.playbook_dirs)
        ),
        factor=timing.factor,
        reconcile_every=_interval(timing.reconcile_every, where, "timing.reconcile_every"),
        scrape_interval=_interval(timing.scrape_interval, where, "timing.scrape_interval"),
        limits=limits,
        disruptive_at_once=guards.disruptive_at_once,
        webhooks=tuple(
            _url(one, where, f"notify.webhooks[{n}]", check_url) or ""
            for n, one in enumerate(raw.notify.webhooks)
        ),
        notifications=_optional_path(raw.notify.file, where, "notify.file"),
        hosts=_hosts_file(raw.discovery, where),
        file_sd=_file_sd(raw.discovery, where),
        allowed_hosts=_hosts(raw, where),
        trusted_proxies=_proxies(raw, where),
        retention=retention_of(
            _seconds(raw.journal.memory, where, "journal.memory"),
            _seconds(raw.journal.events, where, "journal.events"),
            limits,
            where,
        ),
    )


def _seconds(text: str, where: str, place: str) -> float:
    try:
        return parse_duration(text)
    except UserError as error:
        raise UserError(f"{where}: at $.{place}: {error}") from None


def _interval(text: str, where: str, place: str) -> float:
    seconds = _seconds(text, where, place)
    if not 0 < seconds <= LONGEST_INTERVAL:
        raise UserError(f"{where}: at $.{place}: expected a duration from 1ms to 1h, got {text}.")
    return seconds


def _path(text: str, where: str, place: str) -> Path:
    if not text or "\0" in text:
        raise UserError(f"{where}: at $.{place}: expected the path of a file or directory.")
    return Path(text)


def _optional_path(text: str | None, where: str, place: str) -> Path | None:
    return None if text is None else _path(text, where, place)


def _cluster_name(text: str, where: str) -> str:
    """Return the name of the cluster. Alerts have the same name in their label `cluster`."""
    if not 1 <= len(text) <= 253 or not text.isprintable() or text != text.strip():
        raise UserError(
            f"{where}: at $.cluster.name: expected the value of the label `cluster` of your alerts, with 1 to "
            f"253 printable characters, got {text[:40]!r}."
        )
    return text


def _hosts_file(given: DiscoverySettings | None, where: str) -> Path | None:
    return None if given is None else _path(given.hosts, where, "discovery.hosts")


def _file_sd(given: DiscoverySettings | None, where: str) -> Path | None:
    if given is None or given.file_sd is None:
        return None
    path = _path(given.file_sd, where, "discovery.file_sd")
    if path.suffix != ".json":  # Prometheus would read it as YAML, or refuse it
        raise UserError(
            f"{where}: at $.discovery.file_sd: expected a file name that ends in .json."
        )
    return path


def _alertmanagers(raw: FileSettings, where: str) -> tuple[str, ...]:
    given = raw.alertmanager_url or ()
    urls = (given,) if isinstance(given, str) else given
    if bool(urls) == raw.without_alertmanager:
        raise UserError(
            f"{where}: at $.alertmanager_url: expected the URL of Alertmanager, or "
            "`without_alertmanager: true` and no URL."
        )
    return tuple(
        _url(one, where, "alertmanager_url" if one is given else f"alertmanager_url[{n}]") or ""
        for n, one in enumerate(urls)
    )


def _hosts(raw: FileSettings, where: str) -> tuple[str, ...]:
    for n, one in enumerate(raw.allowed_hosts):
        if not _HOST.fullmatch(one):
            raise UserError(
                f"{where}: at $.allowed_hosts[{n}]: expected a host name without scheme and port."
            )
    return raw.allowed_hosts


def _proxies(raw: FileSettings, where: str) -> tuple[IPv4Network | IPv6Network, ...]:
    found: list[IPv4Network | IPv6Network] = []
    for n, one in enumerate(raw.trusted_proxies):
        place = f"{where}: at $.trusted_proxies[{n}]"
        try:
            network = ip_network(one)
        except ValueError:
            raise UserError(
                f"{place}: expected an IP address or network such as 10.0.0.0/24."
            ) from None
        if _all_addresses(network):
            which = "all" if network.prefixlen == 0 else "all IPv4"
            raise UserError(f"{place}: {network} contains {which} addresses, {_ALL}")
        found.append(network)
    fourth = [one for one in found if isinstance(one, IPv4Network)]
    sixth = [one for one in found if isinstance(one, IPv6Network)]
    fourth_full = any(map(_all_addresses, collapse_addresses(fourth)))
    sixth_full = any(map(_all_addresses, collapse_addresses(sixth)))
    if fourth_full or sixth_full:
        raise UserError(
            f"{where}: at $.trusted_proxies: the networks together contain all addresses, {_ALL}"
        )
    return tuple(found)


def _all_addresses(network: IPv4Network | IPv6Network) -> bool:
    """Return whether a network contains all addresses of its version, or all IPv4 addresses in IPv6 form."""
    return network.prefixlen == 0 or (
        isinstance(network, IPv6Network) and network.supernet_of(_MAPPED)
    )


def _receivers(raw: FileSettings, where: str) -> tuple[str, ...]:
    if not raw.alertmanager_receivers or not all(raw.alertmanager_receivers):
        raise UserError(
            f"{where}: at $.alertmanager_receivers: expected the names of Alertmanager's receivers "
            "that send to this remediator."
        )
    return raw.alertmanager_receivers


def _url(
    text: str | None, where: str, place: str, check: Callable[[str, str], None] = check_base_url
) -> str | None:
    if text is None:
        return None
    check(text, f"{where}: at $.{place}")
    return text.rstrip("/")
