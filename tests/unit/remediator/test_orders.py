"""Orders by HTTP: who and why are required, and each refusal has its own status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator.core import events
from remediator.core.model import Level

HEAD = {"Authorization": "Bearer 0123456789abcdef0123"}
RELEASE, CLOSE, RETRY = (
    "/api/v1/targets/release", "/api/v1/incidents/inc-1/close", "/api/v1/incidents/inc-1/retry",
)  # fmt: skip
WHO = {"by": "alice", "reason": "tested by hand"}


class Engine:
    """Remembers what it was ordered, and refuses when it is told to."""

    def __init__(self) -> None:
        self.ordered: list[Any] = []
        self.refusal: str | None = None

    async def release(self, target: Target, by: str, why: str) -> str:
        return self._did("release", target, by, why)

    async def close_incident(
        self, identity: str, by: str, why: str, *, keep_quarantine: bool
    ) -> str:
        return self._did("close", identity, by, why, keep_quarantine)

    async def retry(self, identity: str, by: str, why: str) -> str:
        return self._did("retry", identity, by, why)

    def _did(self, *order: Any) -> str:
        if self.refusal:
            raise UserError(self.refusal)
        self.ordered.append(order)
        return f"{order[0]} done."


@pytest.fixture
def client(served) -> Iterator[TestClient]:
    with served() as found:
        yield found


@pytest.fixture
def engine(client, monkeypatch) -> Engine:
    """In the place of the engine's orders, with one incident in the book."""
    parts, fake = client.app.state.parts, Engine()
    begun = events.opened("inc-1", Target.parse("node1/3"), "gone", Level.REPAIR, 1.0, 0, "Begun.")
    parts.book.apply(begun)
    for name in ("release", "close_incident", "retry"):
        monkeypatch.setattr(parts.engine, name, getattr(fake, name), raising=False)
    return fake


def test_each_order_reaches_the_engine_with_who_and_why(client, engine) -> None:
    said = client.post(RELEASE, json=WHO | {"target": "node1/gpu3"}, headers=HEAD)
    assert (said.status_code, said.json()) == (200, {"text": "release done."})
    assert client.post(CLOSE, json=WHO, headers=HEAD).json() == {"text": "close done."}
    kept = WHO | {"keep_quarantine": True}
    assert client.post(CLOSE, json=kept, headers=HEAD).json() == {"text": "close done."}
    assert client.post(RETRY, json=WHO, headers=HEAD).json() == {"text": "retry done."}
    assert engine.ordered == [
        ("release", Target.parse("node1/3"), "alice", "tested by hand"),
        ("close", "inc-1", "alice", "tested by hand", False),
        ("close", "inc-1", "alice", "tested by hand", True),
        ("retry", "inc-1", "alice", "tested by hand"),
    ]


@pytest.mark.parametrize("path", [RELEASE, CLOSE, RETRY])
def test_what_the_engine_cannot_do_is_a_conflict_with_its_sentence(client, engine, path) -> None:
    engine.refusal = "inc-1 still holds gpu/node1/3: release it first."
    more = {"target": "node1/3"} if path == RELEASE else {}
    answer = client.post(path, json=WHO | more, headers=HEAD)
    assert (answer.status_code, answer.text) == (409, f"{engine.refusal}\n")


@pytest.mark.parametrize("order", ["close", "retry"])
def test_an_unknown_incident_is_not_found(client, engine, order) -> None:
    answer = client.post(f"/api/v1/incidents/inc-2/{order}", json=WHO, headers=HEAD)
    assert answer.status_code == 404
    assert engine.ordered == []


@pytest.mark.parametrize(
    ("path", "changes", "place"),
    [
        (path, changes, place)
        for path in (RELEASE, CLOSE, RETRY)
        for changes, place in (
            ({"reason": None}, "$.reason"), ({"reason": ""}, "$.reason"),
            ({"reason": " \t\n"}, "$.reason"), ({"by": ""}, "$.by"), ({"by": "  "}, "$.by"),
            ({"reason": "x" * 1001}, "$.reason"), ({"by": "x" * 101}, "$.by"), ({"odd": 1}, "$"),
        )
    ]
    + [(CLOSE, {"keep_quarantine": "yes"}, "$.keep_quarantine"), (RELEASE, {"target": 3}, "$.target")],
)  # fmt: skip
def test_a_malformed_order_is_refused_with_its_place(client, engine, path, changes, place) -> None:
    more = {"target": "node1/3"} if path == RELEASE else {}
    answer = client.post(path, json=WHO | more | changes, headers=HEAD)
    assert answer.status_code == 400
    assert f"at {place}: " in answer.text
    assert engine.ordered == []


@pytest.mark.parametrize("missing", ["by", "reason", "target"])
def test_an_order_without_who_why_or_what_is_refused(client, engine, missing) -> None:
    order = WHO | {"target": "node1/3"}
    del order[missing]
    answer = client.post(RELEASE, json=order, headers=HEAD)
    assert (answer.status_code, f"`{missing}`" in answer.text) == (400, True)
    assert engine.ordered == []


@pytest.mark.parametrize("target", ["../etc", "node1/x", "", "node1/\u0663"])
def test_a_target_that_is_none_is_refused(client, engine, target) -> None:
    answer = client.post(RELEASE, json=WHO | {"target": target}, headers=HEAD)
    assert (answer.status_code, "is no target" in answer.text) == (400, True)
    assert engine.ordered == []
