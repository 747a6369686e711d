"""A remediator on an in-memory cluster behind its HTTP edge, for the tests of that edge."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

if TYPE_CHECKING:
    from remediator.clusters.memory import MemoryCluster
    from tests.unit.remediator.fake_http_server import FakeHttpServer

TOKEN = "0123456789abcdef0123"
PASSWORD = "for-people-who-look"


@pytest.fixture
def served(tmp_path: Path) -> Callable[..., AbstractContextManager[TestClient]]:
    """Serve a remediator whose data are in `tmp_path`.

    Its parts are `app.state.parts` of the client, and its application is `app.state.served`.
    """
    # Here, so that tests of single parts load the whole no earlier than one that serves it.
    from remediator.admission import Access
    from remediator.app import running
    from remediator.clusters.memory import MemoryCluster
    from remediator.playbook_library import load_library
    from remediator.settings import load_settings
    from remediator.webhook import ServerContext, make_app

    @contextlib.contextmanager
    def serve(
        cluster: MemoryCluster | None = None,
        level: str = "observe",
        settings_more: str = "",
        address: str = "127.0.0.1",
        receivers: tuple[str, ...] = (),
    ) -> Iterator[TestClient]:
        (tmp_path / "token").write_text(TOKEN)
        config = tmp_path / "remediator.yml"
        config.write_text(
            f"webhook_token_file: {tmp_path}/token\ncluster: {{adapter: memory}}\nlevel: {level}\n"
            "without_alertmanager: true\n" + settings_more
        )
        settings, there = load_settings(config), cluster or MemoryCluster()

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with running(settings, tmp_path, load_library(()), there) as parts:
                desk = ServerContext(
                    parts.engine, parts.reconciler, parts.journal_state, parts.metrics, parts.delivery,
                    Access(TOKEN, PASSWORD, settings.allowed_hosts, settings.trusted_proxies),
                    parts.reader, parts.unready, parts.dashboards, parts.discovery,
                    receivers, there,
                )  # fmt: skip
                app.state.served, app.state.parts = make_app(desk), parts
                app.router.routes.append(Mount("", app=app.state.served))
                yield

        with TestClient(
            Starlette(lifespan=lifespan), "http://localhost", client=(address, 50000)
        ) as found:
            yield found

    return serve


@pytest.fixture
def server() -> Iterator[FakeHttpServer]:
    """A server on loopback that answers what it is told."""
    from tests.unit.remediator.fake_http_server import FakeHttpServer

    with FakeHttpServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
