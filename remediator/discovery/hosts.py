"""Read hosts.yml, the list of exporters to scrape with their labels `cluster` and `node`.

Host names may contain ranges in Slurm's notation, such as `gpu[001-128]`. See docs/discovery.md.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load

K = TypeVar("K")
MAX_TARGETS = 20_000
MAX_LABELS = 16
META = "__meta_fleetmedic_"
_PORT = 9410
_Label = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_]{1,60}$")]
_Value = Annotated[str, msgspec.Meta(max_length=200)]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_SPAN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of hosts.yml: one host or a range, with optional address, cluster and labels."""

    node: str
    address: str | None = None
    cluster: str | None = None
    labels: dict[_Label, _Value] = {}


class HostsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of hosts.yml. In `address`, `{node}` is replaced by the name of the host."""

    hosts: tuple[str | Host, ...]
    cluster: str | None = None
    address: str = f"{{node}}:{_PORT}"


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One exporter to scrape: its HOST:PORT, cluster, node, and further labels."""

    address: str
    cluster: str
    node: str
    labels: tuple[tuple[str, str], ...] = ()


def read_hosts(path: Path, cluster: str) -> tuple[ScrapeTarget, ...]:
    """Read all scrape targets in the order of the file. `cluster` is the default cluster.

    Raises UserError with the file name and the path of the invalid key. An empty list is an error too,
    because a file that lost its content must not end the monitoring of a fleet.
    """
    raw = load(path, HostsFile)
    found: list[ScrapeTarget] = []
    nodes: dict[tuple[str, str], int] = {}
    addresses: dict[str, int] = {}
    for number, given in enumerate(raw.hosts):
        where = f"{path}: at $.hosts[{number}]"
        host = Host(given) if isinstance(given, str) else given
        if len(host.labels) > MAX_LABELS:
            raise UserError(f"{where}.labels: expected at most {MAX_LABELS} labels.")
        for target in _targets(host, raw, cluster, where):
            if len(found) == MAX_TARGETS:
                raise UserError(f"{where}: more than {MAX_TARGETS} scrape targets; split the list.")
            name = f"node {target.node} of cluster {target.cluster}"
            _once(nodes, (target.cluster, target.node), number, name, where)
            _once(addresses, target.address, number, f"address {target.address}", where)
            found.append(target)
    if not found:
        raise UserError(
            f"{path}: at $.hosts: expected at least one host. If you need no target list, remove `discovery` "
            "from remediator.yml."
        )
    return tuple(found)


def document(targets: tuple[ScrapeTarget, ...]) -> bytes:
    """Return the scrape targets as the JSON document for http_sd and file_sd."""
    groups = [
        {
            "targets": [one.address],
            "labels": {"cluster": one.cluster, "node": one.node}
            | {f"{META}{name}": value for name, value in one.labels},
        }
        for one in targets
    ]
    return msgspec.json.format(msgspec.json.encode(groups), indent=1) + b"\n"


def _targets(host: Host, raw: HostsFile, cluster: str, where: str) -> Iterator[ScrapeTarget]:
    of_cluster = host.cluster or raw.cluster or cluster
    if not _NAME.fullmatch(of_cluster):
        raise UserError(
            f"{where}: invalid cluster name {of_cluster[:60]!r}; use letters, digits, . _ -."
        )
    form = host.address or raw.address
    for node in _expand(host.node, where):
        if not _NAME.fullmatch(node):
            raise UserError(
                f"{where}: invalid node name {node[:60]!r}; use letters, digits, . _ -."
            )
        address = form.replace("{node}", node)
        port = _ADDRESS.fullmatch(address)
        if port is None or not 1 <= int(port[1]) <= 65535:
            raise UserError(f"{where}: invalid address {address[:80]!r}; expected HOST:PORT.")
        yield ScrapeTarget(address, of_cluster, node, tuple(sorted(host.labels.items())))


def _expand(text: str, where: str) -> Iterator[str]:
    """Yield the host names of a range: `gpu[01-03,7]` gives gpu01, gpu02, gpu03, gpu7.

    Several brackets give every combination.
    """
    pieces = _BRACKETS.split(text)  # text, what is in brackets, text, ...
    spans = [_spans(inside, where) for inside in pieces[1::2]]
    # Count before expanding: a range may name a billion hosts.
    total = math.prod(sum(len(numbers) for numbers, _ in one) for one in spans)
    if total > MAX_TARGETS:
        raise UserError(
            f"{where}: {text[:60]!r} names {total} hosts, more than {MAX_TARGETS}; split the list."
        )
    written = (
        [f"{number:0{width}}" for numbers, width in one for number in numbers] for one in spans
    )
    for chosen in itertools.product(*written):
        yield "".join(
            itertools.chain.from_iterable(itertools.zip_longest(pieces[::2], chosen, fillvalue=""))
        )


def _spans(inside: str, where: str) -> list[tuple[range, int]]:
    """Return the ranges in a pair of brackets, each with the minimum number of digits."""
    found = []
    for part in inside.split(","):
        match = _SPAN.fullmatch(part)
        first, last = (match[1], match[2] or match[1]) if match else ("1", "0")
        if int(last) < int(first):
            raise UserError(
                f"{where}: invalid range [{inside[:60]}]; expected a range such as [001-128] or [1-4,7]."
            )
        found.append((range(int(first), int(last) + 1), len(first)))
    return found


def _once(seen: dict[K, int], key: K, number: int, what: str, where: str) -> None:
    """Record that entry `number` of the list defines `key`. Raises UserError for a duplicate."""
    if key in seen:
        raise UserError(
            f"{where}: duplicate {what}, already in hosts[{seen[key]}]; remove one of them."
        )
    seen[key] = number
