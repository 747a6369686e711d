"""Exports the kernel version and the Linux distribution of the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import read_if_there

_OS = (
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
)
_PAIR = re.compile(r"([A-Z_]{1,40})=(?:\"([^\"\n]*)\"|'([^'\n]*)'|(\S*))\s*")
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class Uname:
    """Calls uname(2), and reads the NIS domain from `procfs`, because os.uname() does not return
    it."""

    name = "uname"
    inline = False
    interval = 60.0

    def __init__(self, procfs: Path) -> None:
        self._domain = procfs / "sys/kernel/domainname"

    def collect(self, now: float) -> Iterator[Sample]:
        uname = os.uname()
        domain = read_if_there(self._domain) or "(none)"
        labels = (
            uname.sysname,
            uname.release,
            uname.version,
            uname.machine,
            uname.nodename,
            domain,
        )
        yield Sample("node_uname_info", labels, 1)


class OsRelease:
    """Reads os-release of the file system at `rootfs`. Exports nothing if the file is missing."""

    name = "os"
    inline = False
    interval = 60.0

    def __init__(self, rootfs: Path) -> None:
        self._paths = (rootfs / "etc/os-release", rootfs / "usr/lib/os-release")

    def collect(self, now: float) -> Iterator[Sample]:
        text = next((text for path in self._paths if (text := read_if_there(path))), "")
        pairs = (found for line in text.splitlines() if (found := _PAIR.fullmatch(line)))
        fields = {found[1].lower(): found[2] or found[3] or found[4] or "" for found in pairs}
        if not fields:
            return
        yield Sample("node_os_info", tuple(fields.get(name, "") for name in _OS), 1)
        if found := _VERSION.match(fields.get("version_id", "")):
            labels = tuple(fields.get(field, "") for field in ("id", "id_like", "name"))
            yield Sample("node_os_version", labels, float(found[0]))
