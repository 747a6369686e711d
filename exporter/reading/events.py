"""The event process: waits for driver events, so that no other process blocks on them.

It may hang and may be killed. It imports few modules, because it runs all the time.

Arguments: PARENT HEARTBEAT MODULE. MODULE has `events(log)`, a generator of GpuEvent that yields
None at least once a second while there are no events.
"""

from __future__ import annotations

import importlib
import signal
import sys

from exporter.reading.heartbeat import Heartbeat
from exporter.reading.parent import die_with_parent, write_to_parent
from exporter.sources.base import GpuEvent, SourceFailed


def line(event: GpuEvent) -> bytes:
    """Format a driver event as one line of space-separated words."""
    words = (event.kind, str(event.code), event.uuid or "-", event.pci_bus_id or "-")
    return " ".join("".join(word.split()) for word in words).encode() + b"\n"


def _log(event: str, **fields: object) -> None:
    said = " ".join([event, *(f"{key}={value}" for key, value in fields.items())])
    write_to_parent(b"log " + " ".join(said.split())[:1000].encode() + b"\n")


def main(arguments: list[str]) -> int:
    """Wait for driver events until the exporter ends this process."""
    parent, descriptor, module = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    die_with_parent(int(parent))
    heartbeat = Heartbeat.shared(int(descriptor))
    heartbeat.begin(None, "open")
    try:
        for event in importlib.import_module(module).events(_log):
            heartbeat.idle()
            if event is not None:
                write_to_parent(line(event))
    except (SourceFailed, ImportError) as error:
        _log("failed", why=error)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
