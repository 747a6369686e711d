"""What the outbox does about a failing address, a message that is refused or too old, and a journal that is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fake_receivers import DEAD, GOOD, NOW, Bench, dead, settle
from structlog.testing import capture_logs

from remediator.outbox import EXPIRES_AFTER, LONGEST_PAUSE, address_id


def play(story: Awaitable[None]) -> None:
    async def whole() -> None:
        await story

    asyncio.run(whole())


def test_a_hundred_messages_ask_a_dead_address_once_a_minute() -> None:
    async def story() -> None:
        bench = Bench((DEAD,))
        bench.people.answers[DEAD] = dead
        async with bench.running():
            for number in range(100):
                bench.post(f"m{number}")
                await bench.clock.pass_time(0.01)
            await bench.clock.pass_time(3600)
            # 1, 2, 4, 8, 16, 32, then every 60 s
            assert set(bench.people.requests(DEAD)) == {"m0"}
            assert len(bench.people.asked) == 1 + 6 + (3601 - 63) // 60
            del bench.people.answers[DEAD]
            await bench.clock.pass_time(LONGEST_PAUSE)
            assert bench.people.at(DEAD) == [f"m{number}" for number in range(100)]

    play(story())


def test_the_back_off_begins_again_after_a_delivery() -> None:
    async def story() -> None:
        bench = Bench((DEAD,))
        bench.people.answers[DEAD] = dead
        async with bench.running():
            bench.post("m1")
            await bench.clock.pass_time(600)
            del bench.people.answers[DEAD]
            await bench.clock.pass_time(60)
            bench.people.answers[DEAD] = dead
            bench.people.asked.clear()
            bench.post("m2")
            await bench.clock.pass_time(7)
            assert len(bench.people.asked) == 4  # at once, and after 1, 2 and 4 s

    play(story())


def test_a_message_that_the_receiver_never_takes_stops_no_other() -> None:
    async def story() -> None:
        bench = Bench((DEAD,))
        bench.people.answers[DEAD] = lambda body: 413 if body["op_id"] == "m1" else 200
        async with bench.running():
            bench.post("m1", "m2", "m3")
            await bench.clock.pass_time(1)
            assert bench.people.at(DEAD) == ["m2", "m3"]
            bench.post("m4")
            await bench.clock.pass_time(3600)
            assert bench.people.at(DEAD) == ["m2", "m3", "m4"]
            assert len(bench.people.requests(DEAD)) < 80
            del bench.people.answers[DEAD]
            await bench.clock.pass_time(60)
            assert bench.people.at(DEAD) == ["m2", "m3", "m4", "m1"]

    play(story())


def test_a_delivery_is_recorded_later_and_not_sent_again_while_the_journal_is_down() -> None:
    async def story() -> None:
        bench = Bench((GOOD,))
        bench.ledger.down = True
        with capture_logs() as logs:
            async with bench.running():
                bench.post("m1", "m2")
                await bench.clock.pass_time(600)
                assert bench.people.requests(GOOD) == ["m1", "m2"]
                assert bench.outbox.pending() == 0
                assert bench.ledger.deliveries() == []
                bench.ledger.down = False
                await bench.clock.pass_time(2)
                there = address_id(GOOD)
                assert bench.ledger.deliveries() == [("m1", there, False), ("m2", there, False)]
                bench.ledger.down = True
                bench.post("m3")
                await bench.clock.pass_time(600)
        assert bench.people.requests(GOOD) == ["m1", "m2", "m3"]
        # once for each time that the journal was down
        assert [one["event"] for one in logs] == ["delivery_not_recorded"] * 2

    play(story())


def test_a_delivery_is_recorded_though_the_address_fails_meanwhile() -> None:
    async def story() -> None:
        bench = Bench((DEAD,))
        bench.people.answers[DEAD] = lambda body: 200 if body["op_id"] == "m1" else 503
        bench.ledger.down = True
        async with bench.running():
            bench.post("m1", "m2")
            await settle()
            bench.ledger.down = False
            await bench.clock.pass_time(1)
            assert bench.ledger.deliveries() == [("m1", address_id(DEAD), False)]
        assert bench.people.requests(DEAD).count("m1") == 1

    play(story())


def test_a_message_expires_after_a_day() -> None:
    async def story() -> None:
        bench = Bench()
        bench.people.answers[DEAD] = dead
        with capture_logs() as logs:
            async with bench.running():
                bench.write("m1", NOW - EXPIRES_AFTER + 600)
                bench.outbox.wake()
                await bench.clock.pass_time(599)
                assert bench.outbox.pending() == 1
                await bench.clock.pass_time(LONGEST_PAUSE)
                assert bench.outbox.pending() == 0
                asked = len(bench.people.asked)
                await bench.clock.pass_time(3600)
                assert len(bench.people.asked) == asked
        assert bench.ledger.deliveries() == [
            ("m1", address_id(GOOD), False),
            ("m1", address_id(DEAD), True),
        ]
        assert "notification_address_recovered" not in [one["event"] for one in logs]
        expired = [one for one in logs if one["event"] == "notifications_expired"]
        assert [(one["messages"], one["first"]) for one in expired] == [(1, "Message m1.")]

    play(story())


def test_what_expired_while_the_remediator_was_down_is_not_sent() -> None:
    async def story() -> None:
        bench = Bench((GOOD,))
        bench.write("old", NOW - EXPIRES_AFTER)
        bench.write("new", NOW - EXPIRES_AFTER + 1)
        async with bench.running():
            assert bench.people.asked == [(GOOD, "new")]
            there = address_id(GOOD)
            assert sorted(bench.ledger.deliveries()) == [
                ("new", there, False),
                ("old", there, True),
            ]

    play(story())


def test_a_failing_address_is_logged_once_when_it_begins_and_once_when_it_recovers() -> None:
    async def story() -> None:
        bench = Bench()
        bench.people.answers[DEAD] = lambda _: 404
        with capture_logs() as logs:
            async with bench.running():
                bench.post("m1", "m2")
                await bench.clock.pass_time(3600)
                bench.people.answers[DEAD] = dead
                await bench.clock.pass_time(3600)
                del bench.people.answers[DEAD]
                await bench.clock.pass_time(LONGEST_PAUSE)
                bench.post("m3")
                await bench.clock.pass_time(60)
        assert [(one["event"], one["address"]) for one in logs] == [
            ("notification_address_failing", "dead"),
            ("notification_address_recovered", "dead"),
        ]
        assert logs[0]["refused"] is True
        assert "404" in logs[0]["error"]
        assert "Check the URL" in logs[0]["error"]
        assert "secret" not in str(logs)

    play(story())


def test_an_unexpected_error_at_one_address_ends_no_delivery() -> None:
    async def story() -> None:
        bench = Bench()

        def broken(_: dict[str, Any]) -> int:
            raise RuntimeError("a defect")

        bench.people.answers[DEAD] = broken
        async with bench.running():
            bench.post("m1")
            await settle()
            assert bench.people.at(GOOD) == ["m1"]
            del bench.people.answers[DEAD]
            await bench.clock.pass_time(LONGEST_PAUSE)
            assert bench.people.at(DEAD) == ["m1"]

    play(story())
