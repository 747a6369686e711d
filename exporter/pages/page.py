"""The metrics page: fragments that are rendered once and joined for each scrape.

A fragment contains the series of one collector. While they do not change, the fragment keeps its
rendered bytes in each format, compressed and uncompressed.

The compressed page is a single gzip member, because browsers and many libraries stop after the
first member. So each fragment is compressed to deflate blocks that refer to nothing outside the
fragment and end on a byte boundary. The page adds the gzip header and trailer.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from exporter.exposition import Block, openmetrics_header, text_header
from exporter.pages.openmetrics import ExpositionFormat

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # deflate, no name, no time, fastest
_LAST = b"\x03\x00"  # an empty last block
_HEADERS = {ExpositionFormat.TEXT: text_header, ExpositionFormat.OPENMETRICS: openmetrics_header}


class Fragment:
    """The series of one collector. A fragment is immutable. Each format is rendered at its first
    use."""

    __slots__ = ("_packed", "_plain", "blocks")

    def __init__(self, blocks: tuple[Block, ...] = ()) -> None:
        self.blocks = blocks
        self._plain: dict[ExpositionFormat, bytes] = {}
        self._packed: dict[ExpositionFormat, bytes] = {}

    def plain(self, form: ExpositionFormat) -> bytes:
        """Return the fragment's uncompressed bytes in this exposition format."""
        made = self._plain.get(form)
        if made is None:
            header = _HEADERS[form]
            text = "".join([header(family) + lines for family, lines in self.blocks])
            made = self._plain[form] = text.encode()
        return made

    def packed(self, form: ExpositionFormat) -> bytes:
        """Return the fragment as deflate blocks that can be joined.

        Level 1 is used because higher levels compress only slightly better.
        """
        made = self._packed.get(form)
        if made is None:
            packer = zlib.compressobj(1, zlib.DEFLATED, -15)
            made = packer.compress(self.plain(form)) + packer.flush(zlib.Z_FULL_FLUSH)
            self._packed[form] = made
        return made


class _EofFragment(Fragment):
    """The last line of an OpenMetrics page (# EOF). The text format has no such line."""

    __slots__ = ()

    def plain(self, form: ExpositionFormat) -> bytes:
        return b"# EOF\n" if form is ExpositionFormat.OPENMETRICS else b""


_END = _EofFragment()


class Page:
    """A metrics page: a list of fragments."""

    __slots__ = ("_ends", "_fragments")

    def __init__(self, fragments: Sequence[Fragment]) -> None:
        self._fragments = (*fragments, _END)
        self._ends: dict[ExpositionFormat, bytes] = {}

    def __bool__(self) -> bool:
        return any(fragment.blocks for fragment in self._fragments)

    @property
    def text(self) -> bytes:
        """Return the metrics page in the Prometheus text format."""
        return self.body(ExpositionFormat.TEXT, gzip=False)

    def body(self, form: ExpositionFormat, *, gzip: bool) -> bytes:
        """Return the bytes of the metrics page in this exposition format."""
        if not gzip:
            return b"".join([fragment.plain(form) for fragment in self._fragments])
        packed = [fragment.packed(form) for fragment in self._fragments]
        return b"".join([_HEAD, *packed, _LAST, self._gzip_trailer(form)])

    def prepare(self, form: ExpositionFormat, *, gzip: bool) -> None:
        """Render the page in advance, so that the next call of `body` is fast."""
        for fragment in self._fragments:
            fragment.plain(form)
            if gzip:
                fragment.packed(form)
        if gzip:
            self._gzip_trailer(form)

    def _gzip_trailer(self, form: ExpositionFormat) -> bytes:
        """Return the gzip trailer: checksum and length."""
        end = self._ends.get(form)
        if end is None:
            checksum, length = 0, 0
            for fragment in self._fragments:
                plain = fragment.plain(form)
                checksum, length = zlib.crc32(plain, checksum), length + len(plain)
            end = checksum.to_bytes(4, "little") + (length & 0xFFFF_FFFF).to_bytes(4, "little")
            self._ends[form] = end
        return end
