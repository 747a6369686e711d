"""The page that scrapes get: made once a snapshot, compressed once a snapshot if anybody asks."""

from __future__ import annotations

import time
import zlib

STALE_SECONDS = 15.0


class Page:
    """One snapshot as bytes. Immutable but for the compressed copy."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._made = time.monotonic()
        self._gzip: bytes | None = None

    def succeed(self, before: Page) -> Page:
        """Be compressed already where the page before was asked for so; returns itself."""
        if before._gzip is not None:
            self.compressed()
        return self

    def stale(self) -> bool:
        """Whether no newer page was made for so long that this one must not be shown."""
        return time.monotonic() - self._made > STALE_SECONDS

    def compressed(self) -> bytes:
        """The text as gzip; level 1 gains nearly all there is to gain."""
        if self._gzip is None:
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            self._gzip = packer.compress(self.text) + packer.flush()
        return self._gzip
