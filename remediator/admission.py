"""Authorize HTTP requests: each route declares who may call it.

Without a credential, only clients on this machine may read, and only under a known host name of
this machine. This rejects DNS rebinding, where a web page resolves its own name to 127.0.0.1. With
the view password, people can read from other machines. All changes require the token.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleetmedic.http.hosts import host_name, is_own_host, own_names

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Answer = Callable[[Request], Awaitable[Response]]
# A request with one of these headers was passed on by a proxy: its sender is not the peer. The same
# is true of each header whose name begins with `x-forwarded`.
FORWARDED = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "fastly-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-original-forwarded-for",
        "x-original-host",
        "x-appengine-user-ip",
        "x-azure-clientip",
        "x-proxyuser-ip",
    }
)


class Audience(StrEnum):
    """The clients that may call a route. The value is the wording for the documentation."""

    MONITORING = "anyone, under any host name"
    ANYONE = "anyone"
    VIEWER = "this machine; elsewhere the view password or the token"
    OPERATOR = "the token"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route: its path and method, the function that handles it, and who may call it."""

    path: str
    answer: Answer
    audience: Audience
    method: str = "GET"


class GuardedRoute(Route):
    """A Starlette route with the declared audience of its endpoint."""

    def __init__(self, endpoint: Endpoint, answer: Answer) -> None:
        super().__init__(endpoint.path, answer, methods=[endpoint.method])
        self.audience = endpoint.audience


@dataclass(frozen=True, slots=True)
class Access:
    """The credentials and names from the settings that decide who has access.

    `token` is the bearer token, which allows everything. `viewers` is the password for reading from other
    machines under any host name; None disables this. `hosts` are additional names of this machine, besides
    localhost and its host name. `proxies` are the networks whose X-Forwarded-For header is trusted.
    """

    token: str
    viewers: str | None = None
    hosts: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()


class RefusedError(Exception):
    """The exception for a rejected request: status, a sentence, and the WWW-Authenticate header of a 401."""

    def __init__(self, status: int, sentence: str, asks: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {"WWW-Authenticate": asks} if asks else None


class Admission:
    """Checks the credentials and the host name of each request.

    `failed` is called for each request with a wrong credential, and for each change without a credential.
    """

    def __init__(self, access: Access, failed: Callable[[], None]) -> None:
        self._access = access
        self._failed = failed
        self._hosts = own_names() | {name for one in access.hosts if (name := host_name(one))}

    def require(self, request: Request, audience: Audience) -> None:
        """Check that the client may call a route for this audience. Raises RefusedError otherwise.

        A browser sends a stored password with every request, including requests that other sites
        cause. The password therefore only allows reading.
        """
        if audience is Audience.MONITORING:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        kind, given = kind.lower(), given.strip()
        token = self._access.token.encode()
        if kind == "bearer" and hmac.compare_digest(given.encode("utf-8", "replace"), token):
            return
        reads = audience is not Audience.OPERATOR
        if reads and kind == "basic" and self._is_viewer(given):
            return
        if not is_own_host(request.headers.get("host", ""), self._hosts):
            self._failed()
            raise RefusedError(
                403,
                "Unknown host name in the URL: use an IP address, or add the name to `allowed_hosts`.",
            )
        if audience is Audience.ANYONE or (reads and self._is_local(request)):
            return
        if kind or not reads:  # a browser reads without a credential first
            self._failed()
        if reads and self._access.viewers is not None:
            sentence = "Use any user name, with the password of view_password_file."
            raise RefusedError(401, sentence, 'Basic realm="fleetmedic", charset="UTF-8"')
        raise RefusedError(401, "Send the bearer token of webhook_token_file.", "Bearer")

    def _is_viewer(self, given: str) -> bool:
        if self._access.viewers is None:
            return False
        try:
            password = base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return False
        return hmac.compare_digest(password, self._access.viewers.encode())

    def _is_local(self, request: Request) -> bool:
        """Return whether the original client is on this machine, behind trusted proxies too.

        A forwarded loopback address names the machine of the proxy that added it. So it counts as this
        machine only if all proxies are on loopback too.
        """
        senders = self._senders(request)
        return bool(senders) and all(one is not None and one.is_loopback for one in senders)

    def _senders(self, request: Request) -> list[Address | None]:
        """Return the addresses of the peer, of the trusted proxies before it, and of the original client.

        None is an unreadable address. The list is empty if a proxy that is not in `proxies` forwarded
        the request.
        """
        peer = _address(request.client.host if request.client else "")
        fields = request.headers.getlist("x-forwarded-for")
        if not fields:
            return [] if _is_forwarded(request) else [peer]
        passed = ",".join(fields)
        if not self._is_proxy(peer):
            return []
        senders = [peer]
        for text in reversed(passed.split(",")):
            senders.append(_address(text.strip()))
            if not self._is_proxy(senders[-1]):
                break
        return senders

    def _is_proxy(self, address: Address | None) -> bool:
        return address is not None and any(address in one for one in self._access.proxies)


def _is_forwarded(request: Request) -> bool:
    """Return whether a proxy passed the request on, and the request says so."""
    return any(name in FORWARDED or name.startswith("x-forwarded") for name in request.headers)


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
