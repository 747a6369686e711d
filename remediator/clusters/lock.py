"""Who holds a cluster's lock after an installation has asked for it: for clusters with one clock."""

from __future__ import annotations

from dataclasses import replace

from remediator.clusters.base import InstanceLock


def next_lock(
    held: InstanceLock | None,
    installation: str,
    host: str,
    take_over: str,
    *,
    ttl: float,
    now: float,
) -> InstanceLock:
    """The lock at `now` (Unix seconds), after `installation` has asked for it.

    The asker gets a lock that is free, its own, or not renewed for `ttl` seconds; with the reason
    `take_over` it gets any. A renewal in the future counts as made now, so that it expires.
    """
    if held is not None and held.installation == installation:
        return replace(held, host=host, renewed=now)
    if held is None or now - held.renewed >= ttl:
        return InstanceLock(installation, host, now, now)
    if take_over:
        return InstanceLock(installation, host, now, now, take_over)
    return replace(held, renewed=min(held.renewed, now))
