"""Maintenance windows: the remediator's own evaluation against what real Alertmanagers decide."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from fleetmedic.alerting.expressions import expression
from fleetmedic.alerting.intervals import MONTHS, WEEKDAYS, TimeRange, Window, interval
from fleetmedic.alerting.render import RenderContext, matchers, render
from fleetmedic.alerting.settings import Maintenance, Notifications
from fleetmedic.alerting.windows import open_maintenance
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.share import share
from fleetmedic.stack import binaries
from fleetmedic.stack.health import health_problem

pytestmark = pytest.mark.integration


def _table(now: datetime) -> dict[str, tuple[Window, ...]]:
    """Windows by name; what is open or closed at `now` stays so for some minutes."""
    day, tomorrow = WEEKDAYS[now.isoweekday() % 7], now + timedelta(days=1)
    length = (now.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    back = now.day - length.day - 1
    month, other = MONTHS[now.month - 1], MONTHS[now.month % 12]
    kolkata = now.astimezone(ZoneInfo("Asia/Kolkata"))
    there = (TimeRange(f"{kolkata:%H:%M}", "24:00"),)
    earlier = TimeRange(
        *(("12:00", "13:00") if f"{now:%H:%M}" == "00:00" else ("00:00", f"{now:%H:%M}"))
    )
    all_day = (TimeRange("00:00", "24:00"),)
    return {
        "always": (Window(),),
        "all-day": (Window(times=all_day),),
        "earlier": (Window(times=(earlier,)),),
        "from-now": (Window(times=(TimeRange(f"{now:%H:%M}", "24:00"),)),),
        "weekday": (Window(weekdays=(day.capitalize(),)),),
        "other-weekday": (Window(weekdays=(WEEKDAYS[tomorrow.isoweekday() % 7],)),),
        "week": (Window(weekdays=("sunday:saturday",)),),
        "other-weekdays": (Window(weekdays=tuple(name for name in WEEKDAYS if name != day)),),
        "day": (Window(days_of_month=(str(now.day),)),),
        "other-day": (Window(days_of_month=(str(tomorrow.day),)),),
        "to-the-end": (Window(days_of_month=(f"{now.day}:31",)),),
        "negative-day": (Window(days_of_month=(str(back),)),),
        "negative-range": (Window(days_of_month=(f"-31:{back}",)),),
        "other-negative-day": (Window(days_of_month=(str(back - 1 if back > -31 else -1),)),),
        "month": (Window(months=(month,)),),
        "month-number": (Window(months=(str(now.month),)),),
        "other-month": (Window(months=(other,)),),
        "here": (Window(times=there, location="Asia/Kolkata"),),
        "elsewhere": (Window(times=there),),
        "all-fields": (Window(all_day, (day,), (str(now.day),), (month,)),),
        "one-field-wrong": (Window(all_day, (day,), (str(now.day),), (other,)),),
        "second-of-two": (Window(months=(other,)), Window(months=(month,))),
    }


def _place(tmp_path: Path) -> RenderContext:
    token = tmp_path / "token"
    token.write_text("secret\n")
    return RenderContext("http://127.0.0.1:9", str(token), str(share("alertmanager") / "templates"))


@pytest.fixture
def now() -> datetime:
    """The present; not in the last seconds of a day, there or in Kolkata, when the table changes."""
    found = datetime.now(UTC)
    if found.minute in (29, 59) and found.second > 44:
        time.sleep(61 - found.second)
    return datetime.now(UTC)


class Receiver(ThreadingHTTPServer):
    """Takes the remediator's place: keeps the GPU of each alert that Alertmanager sends there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.gpus: queue.Queue[str] = queue.Queue()

    def until(self, wanted: set[str], seconds: float) -> set[str]:
        """The GPUs that came, once they hold those wanted; or after that time."""
        deadline, found = time.monotonic() + seconds, set()
        while not wanted <= found and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                found.add(self.gpus.get(timeout=left))
        while not self.gpus.empty():
            found.add(self.gpus.get())
        return found


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            self.server.gpus.put(alert["labels"]["gpu"])
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def _running(program: str, config: Path, url: str) -> Iterator[None]:
    log = config.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *binaries.command(program), f"--config.file={config}",
                f"--storage.path={config.parent}/data", f"--web.listen-address={url[7:]}",
                "--cluster.listen-address=",
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
        try:
            until = time.monotonic() + 20
            while health_problem(f"{url}/-/ready"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(timeout=10)


def _json(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read() or "null")


def _cases(now: datetime) -> tuple[Notifications, list[dict[str, str]]]:
    """A maintenance for each entry of the table and two more that overlap them; alerts of each kind,
    each with a `gpu` of its own."""
    table = _table(now)
    given = Notifications(
        maintenance=(
            *(Maintenance(name, {"node": name}, table[name]) for name in table),
            Maintenance("pool-open", {"pool": "a|b"}, table["always"]),
            Maintenance("pool-closed", {"pool": "c.*"}, table["other-month"]),
        )
    )
    cases = [(name, "") for name in (*table, "other")]
    cases += [
        ("other", "a"),
        ("other", "c1"),
        ("other-month", "b"),
        ("month", "c1"),
        ("other-day", "c2"),
    ]
    common = {"alertname": "GpuLost", "category": "gpu", "source": "static", "severity": "critical"}
    return given, [
        common | {"node": node, "gpu": str(number)} | ({"pool": pool} if pool else {})
        for number, (node, pool) in enumerate(cases)
    ]


@pytest.mark.parametrize("program", ["alertmanager", "alertmanager-0.33"])
def test_alertmanager_mutes_what_the_remediator_judges_to_be_in_an_open_window(
    program: str, parts: dict[str, Path], receiver: Receiver, now: datetime, tmp_path: Path,
    new_port: Callable[[], int],
) -> None:  # fmt: skip
    assert parts[program]
    given, alerts = _cases(now)
    place = replace(_place(tmp_path), remediator_url=f"http://127.0.0.1:{receiver.server_port}")
    config = tmp_path / "alertmanager.yml"
    config.write_text(render(place, given))
    judged = {each["gpu"]: open_maintenance(given, each, time.time()) for each in alerts}
    expected = {gpu: [f"maintenance-{one.name}"] if one else [] for gpu, one in judged.items()}
    assert 5 < sum(map(bool, expected.values())) < len(alerts) - 5
    url = f"http://127.0.0.1:{new_port()}"
    with _running(program, config, url):
        _json(f"{url}/api/v2/alerts", [{"labels": labels} for labels in alerts])
        closed = {gpu for gpu, one in judged.items() if one is None}
        assert receiver.until(closed, 15) == closed
        if program == "alertmanager-0.33":
            until = time.monotonic() + 10
            while (muted := _muted(url)) != expected and time.monotonic() < until:
                time.sleep(0.1)
            assert muted == expected


def _muted(url: str) -> dict[str, list[str]]:
    """By GPU, the time intervals that mute its alert on the remediator's route."""
    groups = _json(f"{url}/api/v2/alerts/groups?receiver=remediator")
    return {
        alert["labels"]["gpu"]: alert["status"]["mutedBy"]
        for group in groups
        if group["receiver"]["name"] == "remediator"
        for alert in group["alerts"]
    }


@pytest.fixture(params=["amtool", "amtool-0.33"])
def accepts(
    request: pytest.FixtureRequest, parts: dict[str, Path], tmp_path: Path
) -> Callable[[Notifications], bool]:
    """Whether that release's checker accepts the configuration that is written from these settings."""

    def check(given: Notifications) -> bool:
        config = tmp_path / "checked.yml"
        config.write_text(render(_place(tmp_path), given))
        said = subprocess.run(
            [str(parts[request.param]), "check-config", str(config)],
            capture_output=True, check=False, timeout=30,
        )  # fmt: skip
        return said.returncode == 0

    return check


REFUSED = [
    Window(weekdays=("funday",)), Window(weekdays=("friday:monday",)), Window(weekdays=("mon",)),
    Window(weekdays=(" monday",)), Window(days_of_month=("32",)), Window(days_of_month=("0",)),
    Window(days_of_month=("5:1",)), Window(days_of_month=("-1:1",)), Window(days_of_month=("-1:-3",)),
    Window(days_of_month=("29:-1",)), Window(days_of_month=("15:-14",)), Window(months=("jan",)),
    Window(months=("december:february",)), Window(times=(TimeRange("25:00", "26:00"),)),
    Window(times=(TimeRange("22:00", "06:00"),)), Window(times=(TimeRange("9:00", "10:00"),)),
    Window(times=(TimeRange("06:00", "06:00"),)), Window(location="Mars/Base"),
    Window(location="europe/berlin"),
]  # fmt: skip
ACCEPTED = [
    Window(weekdays=("Sunday:saturday",)), Window(days_of_month=("15:-13", "+5", "05", "-31:-30")),
    Window(months=("May:8", "12", "03")), Window(times=(TimeRange("00:00", "24:00"),)),
    Window(location="Asia/Kolkata"), Window(location=""), Window(),
]  # fmt: skip


def test_what_is_refused_at_reading_is_what_alertmanager_refuses(
    accepts: Callable[[Notifications], bool],
) -> None:
    for window in [*REFUSED, *ACCEPTED]:
        assert accepts(Notifications(quiet=(window,))) == (window in ACCEPTED), window
        try:
            interval(window)
        except UserError:
            assert window in REFUSED, window
        else:
            assert window in ACCEPTED, window


EXPRESSIONS = [
    "a|bc", "(?:a|b)+c?", "(?i)GPU", "(?i:a)b", "a.b", r"\d+", r"[\d.-]+", r"[^\d]", r"\w+", r"\W",
    r"[\W]", r"\bx\b", "a$", r"a\.b", r"\x41", "a{,5}", "a{01}", "a{2,3}?", "[]a]", "[a-]", "[a&&b]",
    "[!-/]", r"\z|x", r"[\w-]+", "^a", "a{2}b|", r"\Aab", "(?P<n>a|b)c", r"[+-9]", "é+", "(?i)É",
]  # fmt: skip
VALUES = [
    "a", "b", "bc", "ab", "abc", "ac", "aa", "aaa", "GPU", "gpu", "Ab", "axb", "a.b", "12", "1.2-3",
    "٣", "ä", "_", "x", "xx", "A", "a{,5}", "a{01}", "]", "-", "&", "+", "5", "aab", "É", "é",
]  # fmt: skip


def test_expressions_match_what_alertmanager_matches(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    routes = [
        {"receiver": f"r{n}", "matchers": matchers({"node": text}), "continue": True}
        for n, text in enumerate(EXPRESSIONS)
    ]
    names = ["none", *(f"r{n}" for n in range(len(EXPRESSIONS)))]
    config = tmp_path / "routes.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "route": {"receiver": "none", "routes": routes},
                "receivers": [{"name": name} for name in names],
            }
        )
    )
    for value in VALUES:
        said = subprocess.run(
            [str(parts["amtool"]), "config", "routes", "test", f"--config.file={config}",
             f"node={json.dumps(value, ensure_ascii=False)}"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        ours = [f"r{n}" for n, text in enumerate(EXPRESSIONS) if expression(text).fullmatch(value)]
        assert said.stdout.strip().split(",") == (ours or ["none"]), value


def test_no_expression_is_accepted_that_alertmanager_refuses(
    accepts: Callable[[Notifications], bool],
) -> None:
    refused = [
        "(?=x)", "(?!x)", "(?<=a)b", r"(a)\1", "a*+", "a{2}+", "(?>a)", "(?#c)a", "(?x)a", "(?a)a",
        "a{1001}", "(a{100}){11}", r"\Z", r"\u0041", r"\é", r"[\b]", r"[+-\d]", "(?P<é>a)", "a**", "[]",
    ]  # fmt: skip
    for text in [*EXPRESSIONS, *refused]:
        with contextlib.suppress(ValueError):
            expression(text)
            assert text not in refused
        given = Notifications(maintenance=(Maintenance("m", {"node": text}, (Window(),)),))
        assert accepts(given) == (text not in refused), text
