"""Reload hosts.yml when it changes, without a restart.

If the file becomes invalid, the last valid list stays in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_output
from remediator.discovery.hosts import document, read_hosts

log = structlog.get_logger("remediator")
EVERY = 2.0
FIRST = 2.0
# A file is read only when it has not changed for this long (seconds): a half-written list would end the
# monitoring of the other half.
REST = 1.0


class NoValidListError(Exception):
    """No valid list has been read yet. The message is the error of the last attempt."""


@dataclass(frozen=True, slots=True)
class LoadedTargets:
    """The last valid target list: the document for Prometheus, the number of targets, the time (Unix seconds)."""

    body: bytes
    count: int
    at: float


class Discovery:
    """Keeps the scrape targets of one hosts.yml, and writes them to `file_sd` if it is set."""

    def __init__(
        self, hosts: Path, file_sd: Path | None, cluster: str, now: Callable[[], float] = time.time
    ) -> None:
        self.known: LoadedTargets | None = None
        self.bad: str | None = None
        """The last error while reading or writing the target list, as a sentence; None without an error."""
        self._hosts = hosts
        self._file_sd = file_sd
        self._cluster = cluster
        self._now = now
        self._looked = asyncio.Event()
        self._seen: tuple[int, int, int] | None = None
        self._unread: str | None = None

    async def body(self) -> bytes:
        """Return the JSON document with the scrape targets of the last valid list. Raises
        NoValidListError if no valid list has been read yet.

        The call waits only for the first read, at most FIRST seconds, so that a hanging file system
        blocks one thread and no requests.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), FIRST)
        if self.known is None:
            raise NoValidListError(self.bad or f"{self._hosts}: the list has not been read yet.")
        return self.known.body

    async def run(self) -> None:
        """Reload the target list when its file changes, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(EVERY)

    async def refresh(self) -> None:
        """Read the target list if its file has changed, and write it to `file_sd`."""
        before = self.known
        bad = await asyncio.to_thread(lambda: self._read() or self._write())
        if self.known is not None and self.known is not before:
            log.info("host_list_read", hosts=self.known.count, path=str(self._hosts))
        if bad and bad != self.bad:
            standing = self.known.count if self.known else 0
            log.error("host_list_bad", text=bad, hosts_that_stand=standing)
        self.bad = bad
        self._looked.set()

    def _read(self) -> str | None:
        """Read the target list if its file has changed. Returns the error as a sentence, or None."""
        seen = self._signature()
        if seen is not None:
            moving = 0 <= self._now() - seen[0] / 1e9 < REST
            if seen == self._seen or (self.known is not None and moving):
                return self._unread
        try:
            targets = read_hosts(self._hosts, self._cluster)
            self.known = LoadedTargets(document(targets), len(targets), self._now())
            self._unread = None
        except UserError as error:
            self._unread = str(error)
        self._seen = seen
        return self._unread

    def _signature(self) -> tuple[int, int, int] | None:
        """Return a value that changes when hosts.yml changes; None if the file cannot be read."""
        try:
            at = self._hosts.stat()
        except OSError:
            return None
        return at.st_mtime_ns, at.st_size, at.st_ino

    def _write(self) -> str | None:
        """Update the file for file_sd; returns the error as a sentence, or None."""
        if self._file_sd is None or self.known is None:
            return None
        try:
            if not self._file_sd.exists() or self._file_sd.read_bytes() != self.known.body:
                write_output(self._file_sd, self.known.body)
        except OSError as error:
            return f"{self._file_sd}: cannot be written: {error.strerror}; fix discovery.file_sd."
        return None
