"""Check the Host header of a request, to reject DNS rebinding.

In such an attack, a web page resolves its own name to the address of this machine. The browser then
sends the requests of the page to this machine, under the name of the page.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Set as AbstractSet
from functools import cache

_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9_][a-z0-9_.-]{0,252}))(?::[0-9]{0,5})?",
    re.IGNORECASE | re.ASCII,
)


def host_name(header: str) -> str | None:
    """Return the host of a Host header in lower case, without port, brackets and final dot.

    Returns None unless the whole header is `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`.
    """
    found = _HOST.fullmatch(header.strip(" \t"))
    if found is None:
        return None
    if (address := found["v6"]) is None:
        return found["name"].lower().removesuffix(".")
    try:
        return str(ipaddress.IPv6Address(address))
    except ValueError:
        return None


def is_own_host(header: str, names: AbstractSet[str]) -> bool:
    """Return whether the Host header is an IP address, or one of the names of this machine."""
    name = host_name(header)
    return name is not None and (name in names or _is_address(name))


def own_names() -> frozenset[str]:
    """Return the names of this machine that an outside DNS server cannot define."""
    here = host_name(socket.gethostname()) or ""
    return frozenset({"localhost", here, _full_name()} - {""})


@cache
def _full_name() -> str:
    return host_name(socket.getfqdn()) or ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
