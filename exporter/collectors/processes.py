"""Exports the number of processes by state, and of processes in uninterruptible sleep (D) by
command."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import integer, number

MAX_PROCESSES = 65_536
MAX_COMMANDS = 20
_STATES = "RSDZTI"
_THREADS = 17  # index of the field after the command
_OTHER = "other"


class Processes:
    """Reads the stat file of every process below `procfs`. This is expensive with thousands of
    processes."""

    name = "processes"
    inline = False
    interval = 60.0

    def __init__(self, procfs: Path) -> None:
        self._procfs = str(procfs)

    def collect(self, now: float) -> Iterator[Sample]:
        states: Counter[str] = Counter(dict.fromkeys(_STATES, 0))
        waiting: Counter[str] = Counter()
        threads = 0
        with os.scandir(self._procfs) as entries:
            pids = [entry.name for entry in entries if entry.name.isdigit()]
        for pid in pids[:MAX_PROCESSES]:
            if (found := _stat(f"{self._procfs}/{pid}/stat")) is None:
                continue
            command, state, count = found
            states[state] += 1
            threads += count
            if state == "D":
                waiting[command] += 1
        for state, count in states.items():
            yield Sample("node_processes_state", (state,), count)
        yield Sample("node_processes_pids", (), states.total())
        yield Sample("node_processes_threads", (), threads)
        for name, file in (("processes", "pid_max"), ("threads", "threads-max")):
            if (limit := number(f"{self._procfs}/sys/kernel/{file}")) is not None:
                yield Sample(f"node_processes_max_{name}", (), limit)
        for command, count in _most_common(waiting).items():
            yield Sample("node_processes_uninterruptible", (command,), count)


def _stat(path: str) -> tuple[str, str, int] | None:
    """Return command, state and number of threads of a process.

    Returns None if the process has ended or its stat file is invalid.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(file, 1024)
        finally:
            os.close(file)
    except OSError:
        return None
    begin, _, rest = text.rpartition(b")")
    fields = rest[:512].decode("ascii", "replace").split()
    if len(fields) <= _THREADS or len(fields[0]) != 1 or not fields[0].isalpha():
        return None
    command = begin.partition(b"(")[2].decode("utf-8", "replace")
    return command.partition("/")[0][:64], fields[0], integer(fields[_THREADS]) or 1


def _most_common(waiting: Counter[str]) -> dict[str, int]:
    """Return the commands with the most processes in state D. All other commands are summed as `other`."""
    shown = dict(waiting.most_common(MAX_COMMANDS))
    if rest := waiting.total() - sum(shown.values()):
        shown[_OTHER] = shown.get(_OTHER, 0) + rest
    return shown
