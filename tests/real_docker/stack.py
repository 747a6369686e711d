"""The stack of docker-compose.yml on an engine of the test's own, as a user would start and ask it."""

from __future__ import annotations

import base64
import json
import os
import signal
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from real_docker.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "fleetmedic"
# Which variable says under which port of loopback a service is published.
PORTS = {
    "prometheus": "PROMETHEUS_PORT", "alertmanager": "ALERTMANAGER_PORT",
    "remediator": "REMEDIATOR_PORT", "rules": "RULES_PORT",
    "victoriametrics": "VICTORIAMETRICS_PORT",
}  # fmt: skip
INSIDE = "http://127.0.0.1:9095"


class Stack:
    """`ports` has a free port for each of PORTS; `override` is laid over the file that users start."""

    def __init__(self, engine: Engine, ports: dict[str, int], override: str) -> None:
        self.engine = engine
        self.ports = ports
        self.profiles: tuple[str, ...] = ()
        self.overrides: tuple[str, ...] = ()
        """Files of the checkout that are laid over it before."""
        self.fleet = engine.folder / "fleet"
        """Where the host list of `compose.fleet.yml` lies."""
        self.fleet.mkdir(exist_ok=True)
        (engine.folder / "override.yml").write_text(override)

    def try_compose(self, *arguments: str, seconds: float = 240) -> CompletedProcess[str]:
        """`docker compose ARGUMENTS` with the profiles in force, whatever it answers."""
        settings = {variable: str(self.ports[name]) for name, variable in PORTS.items()}
        settings["FLEETMEDIC_FLEET"] = str(self.fleet)
        names = ("docker-compose.yml", *self.overrides, str(self.engine.folder / "override.yml"))
        files = (word for name in names for word in ("-f", name))
        profiles = (word for name in self.profiles for word in ("--profile", name))
        return self.engine.run(
            "compose", *files, *profiles, *arguments, seconds=seconds, cwd=ROOT, settings=settings
        )

    def compose(self, *arguments: str, seconds: float = 240) -> str:
        """What the command says. Raises AssertionError with its complaint when it fails."""
        done = self.try_compose(*arguments, seconds=seconds)
        said = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {said}"
        return done.stdout

    def inside(self, service: str, *command: str) -> str:
        """What a command says that is run in a service's container."""
        return self.compose("exec", "-T", service, *command)

    def services(self) -> dict[str, dict[str, Any]]:
        """Service name to what Compose knows of its container, the ended ones included."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {one["Service"]: one for one in map(json.loads, lines)}

    def unwell(self) -> dict[str, str]:
        """The services that are neither healthy nor done, with their states."""
        return {
            name: f"{one['State']} {one['Health']}"
            for name, one in self.services().items()
            if one["Health"] != "healthy" and (one["State"], one["ExitCode"]) != ("exited", 0)
        }

    def inspect(self, service: str) -> dict[str, Any]:
        """All that the engine tells about a service's container."""
        found: list[dict[str, Any]] = json.loads(
            self.engine.docker("inspect", f"{PROJECT}-{service}-1")
        )
        return found[0]

    def kill(self, service: str) -> None:
        """SIGKILL to the first process of a service's container, as the kernel would send it."""
        os.kill(int(self.inspect(service)["State"]["Pid"]), signal.SIGKILL)

    def inject(self, target: str, fault: str) -> None:
        """Let a fault happen, as the documentation says."""
        self.inside("cluster", "fleetmedic", "inject", target, fault)

    def incidents(self, target: str) -> list[dict[str, Any]]:
        """The incidents of a target; none while the remediator does not answer."""
        asked = ("fleetmedic", "incidents", "--json", "--url", INSIDE)
        done = self.try_compose("exec", "-T", "remediator", *asked)
        if done.returncode:
            return []
        return [one for one in json.loads(done.stdout)["incidents"] if one["target"] == target]

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of the embedded cluster."""
        found: list[dict[str, Any]] = json.loads(
            self.inside("cluster", "fleetmedic", "jobs", "--json")
        )
        return found

    def url(self, service: str) -> str:
        """Where a service is reached from this machine."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def query(self, expression: str, server: str = "prometheus") -> list[dict[str, Any]]:
        """The instant vector of an expression; empty while the server does not answer."""
        address = f"{self.url(server)}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found
        except OSError:
            return []

    def status(
        self, address: str, *, body: bytes | None = None, password: str | None = None
    ) -> int:
        """The status of the answer: to a POST with a body, else to a GET. A password is that of `anybody`."""
        request = urllib.request.Request(address, data=body)
        if password is not None:
            word = base64.b64encode(f"anybody:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {word}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
