"""Build the remediator from its settings, serve it, and shut it down."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn

from fleetmedic.alerting.settings import Notifications
from fleetmedic.alerting.settings import read as read_notifications
from fleetmedic.terminal.listen_errors import cannot_listen
from remediator.actions.registry import actions
from remediator.admission import Access
from remediator.alert_states import AlertStates
from remediator.alertmanager import AlertmanagerClient, AlertmanagerPeers
from remediator.channels.delivery import Delivery, open_channels, parse_templates
from remediator.clocks import WallClock
from remediator.clusters.base import Cluster
from remediator.clusters.registry import open_cluster
from remediator.connections import TimedConnection
from remediator.core.events import Event, Kind
from remediator.core.journal_state import JournalState
from remediator.core.model import Level, Playbook
from remediator.credentials import key_named, read_credentials
from remediator.dashboards import proxy
from remediator.dashboards.routes import DashboardRoutes
from remediator.discovery.watch import Discovery
from remediator.engine import Engine
from remediator.engine_context import EngineContext
from remediator.executor import Executor
from remediator.http import Notifier, without_credentials
from remediator.installation import ClusterLock, read_identity
from remediator.journal import Journal, JournalDown
from remediator.journal_keeper import JournalKeeper
from remediator.journal_reader import JournalReader
from remediator.journal_retention import covering
from remediator.metrics import RemediatorMetrics
from remediator.outbox import Outbox
from remediator.playbook_library import load_library
from remediator.policy import Policy
from remediator.prometheus import PrometheusClient
from remediator.reconciler import Reconciler, ReconcilerSources
from remediator.reported_hardware import ReportedHardware
from remediator.senses import FactSources as Facts
from remediator.senses import Senses
from remediator.sensors import Sensors
from remediator.settings import RemediatorSettings
from remediator.snapshots import load
from remediator.webhook import ServerContext, make_app

log = structlog.get_logger("remediator")
END_WITHIN = 2


@dataclass(frozen=True, slots=True)
class RunningRemediator:
    """The parts of a running remediator that the HTTP server uses."""

    engine: Engine
    reconciler: Reconciler
    journal_state: JournalState
    metrics: RemediatorMetrics
    delivery: Delivery
    dashboards: DashboardRoutes
    discovery: Discovery | None
    journal: Journal
    reader: JournalReader
    refusal: Callable[[], str | None]

    async def unready(self) -> str | None:
        """Return the reason why the journal cannot store alerts now; None if alerts can be stored."""
        try:
            await self.journal.check()
        except JournalDown as error:
            return str(error)
        return None


class _UvicornServer(uvicorn.Server):
    """A uvicorn server without signal handlers.

    uvicorn's handlers would raise the signal again after shutdown, and the journal would not be closed.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """Finish the current HTTP requests, then stop the server."""
        self.should_exit = True


@contextlib.asynccontextmanager
async def running(
    settings: RemediatorSettings,
    data_dir: Path,
    playbooks: tuple[Playbook, ...],
    cluster: Cluster,
    take_over: str = "",
) -> AsyncIterator[RunningRemediator]:
    """Run the remediator without its HTTP server: replay the journal, start the engine and background tasks.

    `take_over` is the reason to take the cluster's lock from another installation; empty: do not take it.
    """
    given = notifications(settings)  # an error must not leave a journal behind
    journal_state = JournalState(covering(settings.retention, playbooks, settings.factor))
    clock = WallClock()
    metrics = RemediatorMetrics(journal_state, clock.now)
    messages: list[Callable[[], None]] = []
    keepers: list[JournalKeeper] = []

    def durable(event: Event) -> None:
        journal_state.apply(event)
        metrics.count_event(event, journal_state.incidents.get(event.incident or ""))
        _log_event(event)
        for keeper in keepers:
            keeper.count_event()
        if event.kind is Kind.NOTIFIED:
            for wake in messages:
                wake()

    journal = Journal(data_dir, durable)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(journal.close)
        # Read only after the lock is held, because another process may have written until then.
        reader = JournalReader(data_dir)
        replayed = await asyncio.to_thread(load, journal_state, reader)
        keeper = JournalKeeper(journal_state, journal, lambda: clock.seconds_left() <= 0, replayed)
        keepers.append(keeper)
        prometheus = alertmanager = dashboard_client = None
        if settings.prometheus_url:
            prometheus = await stack.enter_async_context(PrometheusClient(settings.prometheus_url))
            # Dashboards use their own connections.
            dashboard_client = await stack.enter_async_context(
                PrometheusClient(
                    settings.prometheus_url, timeout=proxy.TIMEOUT, max_body=proxy.MAX_BODY
                )
            )
        if settings.alertmanager_urls:
            alertmanager = AlertmanagerPeers(
                [
                    await stack.enter_async_context(
                        AlertmanagerClient(url, settings.alertmanager_receivers)
                    )
                    for url in settings.alertmanager_urls
                ]
            )
        sender = await stack.enter_async_context(Notifier())
        delivery = open_channels(given, sender)
        metrics.initialize(
            actions().names(), delivery.channels, (playbook.name for playbook in playbooks)
        )
        clock.check_last_event(journal_state.last_at)
        rules = Policy(
            playbooks,
            settings.limits,
            settings.level,
            settings.factor,
            settings.reconcile_every,
            settings.cluster,
        )
        alerts = AlertStates(
            alertmanager,
            given,
            settle=settings.alertmanager_settle,
            is_watchdog=rules.is_watchdog,
            now=clock.now,
        )
        lock = await _lock(settings, data_dir, cluster, take_over)
        refusal = lock.refusal if lock else lambda: None
        sensors = Sensors(
            prometheus,
            cluster=settings.cluster,
            scrape_interval=settings.scrape_interval,
            now=clock.now,
        )
        senses = Senses(
            Facts(
                cluster,
                sensors,
                alerts,
                journal_state,
                clock,
                ReportedHardware(journal_state, rules.route),
                refusal,
            ),
            ceiling=settings.level,
            limits=settings.limits,
            factor=settings.factor,
        )
        executor = Executor(actions(), disruptive_at_once=settings.disruptive_at_once)
        engine_context = EngineContext(
            cluster,
            senses,
            executor,
            clock.now,
            metrics.count_internal_error,
            metrics.count_evaluation,
            addresses=len(settings.webhooks),
        )
        engine = Engine(rules, journal_state, journal, engine_context)
        dashboards = DashboardRoutes(
            proxy.PrometheusProxy(dashboard_client, settings.scrape_interval)
        )
        reconciler = Reconciler(
            ReconcilerSources(alerts, senses, journal_state, clock.now),
            engine,
            journal,
            metrics,
            settings.reconcile_every,
        )
        outbox = Outbox(
            journal_state, journal, sender, settings.webhooks, clock.now, site=settings.external_url
        )
        messages.append(outbox.wake)
        metrics.export_pending_notifications(outbox.pending)
        if alertmanager is not None:
            metrics.export_alertmanager_completeness(lambda: alerts.complete)
        # Open incidents of an earlier process need the current status of their alerts.
        await alerts.refresh(0.0)
        engine.start()
        tasks = [
            asyncio.create_task(reconciler.run(), name="reconciler"),
            asyncio.create_task(outbox.run(), name="outbox"),
            asyncio.create_task(keeper.run(), name="journal keeper"),
        ]
        if lock is not None:
            held = lock
            metrics.export_lock(lambda: held.refusal() is None)
            tasks.append(asyncio.create_task(held.run(), name="lock"))
        discovery = None
        if settings.hosts:
            discovery = Discovery(settings.hosts, settings.file_sd, settings.cluster)
            metrics.export_target_list(discovery)
            tasks.append(asyncio.create_task(discovery.run(), name="discovery"))
        try:
            yield RunningRemediator(
                engine,
                reconciler,
                journal_state,
                metrics,
                delivery,
                dashboards,
                discovery,
                journal,
                reader,
                refusal,
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await engine.close()
            await keeper.finish()


def notifications(settings: RemediatorSettings) -> Notifications:
    """Read notifications.yml; returns no channels if the file is not configured. Raises UserError."""
    if settings.notifications is None:
        return Notifications()
    with key_named(settings, "notify.file"):
        given = read_notifications(settings.notifications)
        parse_templates(given)
    return given


async def _lock(
    settings: RemediatorSettings, data_dir: Path, cluster: Cluster, take_over: str
) -> ClusterLock | None:
    """Acquire the cluster's lock once. Returns None at level observe, which needs no lock."""
    if settings.level is Level.OBSERVE:
        return None
    lock = ClusterLock(cluster, read_identity(data_dir), socket.gethostname(), take_over)
    await lock.claim()
    return lock


async def serve(
    settings: RemediatorSettings, data_dir: Path, host: str, port: int, take_over: str = ""
) -> None:
    """Run the remediator until SIGTERM or SIGINT. Raises UserError for invalid settings or files."""
    credentials = read_credentials(settings)
    for warning in credentials.warnings:
        log.warning("token_file_open", text=warning)
    playbooks = load_library(settings.playbook_dirs, settings.factor)
    cluster = open_cluster(
        settings.adapter, settings.cluster, settings.adapter_settings, settings.where
    )
    # Bind the port first, so that a second remediator fails before it acts.
    with _listen(host, port) as listener:
        async with running(settings, data_dir, playbooks, cluster, take_over) as parts:
            server_context = ServerContext(
                parts.engine,
                parts.reconciler,
                parts.journal_state,
                parts.metrics,
                parts.delivery,
                Access(
                    credentials.token,
                    credentials.view_password,
                    settings.allowed_hosts,
                    settings.trusted_proxies,
                ),
                parts.reader,
                parts.unready,
                parts.dashboards,
                parts.discovery,
                settings.alertmanager_receivers,
                cluster,
                runbook_urls(settings),
                parts.refusal,
            )
            config = uvicorn.Config(
                make_app(server_context),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=END_WITHIN,
                timeout_keep_alive=60,
                server_header=False,
                http=TimedConnection,
                proxy_headers=False,
            )
            server = _UvicornServer(config)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, server.end)
            await server.serve(sockets=[listener])


def runbook_urls(settings: RemediatorSettings) -> dict[str, str]:
    """Map the localhost URLs in the runbooks to the URLs of this installation, without credentials."""
    written = {
        "http://localhost:9090": settings.prometheus_url,
        "http://localhost:9093": next(iter(settings.alertmanager_urls), None),
    }
    return {old: without_credentials(url) for old, url in written.items() if url}


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise cannot_listen(host, port, error, "--web.listen-address") from None


def _log_event(event: Event) -> None:
    """Log one line for each event that is stored in the journal."""
    log.info(
        str(event.kind),
        seq=event.seq,
        incident=event.incident,
        target=event.target,
        reason=None if event.reason is None else str(event.reason),
        text=event.text,
    )
