"""The worker process. Only workers and probes read the GPUs. A worker may hang and may be killed.

It installs no Python signal handlers, because they would never run during a hung call. It ends when
its parent ends (PDEATHSIG, or the end of its input).
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from exporter.reading.heartbeat import Heartbeat
from exporter.reading.parent import die_with_parent, read_commands, write_to_parent
from exporter.reading.probe import Probe, Target, Timer
from exporter.reading.protocol import Failed, Hello, Message, Slots, encode, parse_plan
from exporter.reading.rounds import Rounds
from exporter.sources.base import READ_GROUPS, Group, Progress, Source, SourceFailed

PRESENCE_EVERY = 1.0
FLUSH_EVERY = 0.3  # the messages of a long round are sent in parts


def open_source(arguments: list[str], progress: Progress) -> Source:
    """Open the source of GPU values for these arguments: `nvml PROCFS SYSFS` or `simulated ROOT NODE`."""
    if arguments[0] == "nvml":
        from exporter.sources.nvml import NvmlSource

        return NvmlSource(Path(arguments[1]), Path(arguments[2]), progress)
    from exporter.sources.simulated import SimulatedSource

    return SimulatedSource(Path(arguments[1]), arguments[2], progress)


def parse_intervals(text: str) -> dict[Group, float]:
    """Parse intervals such as `load=5,health=10`: seconds by group."""
    given = dict(pair.split("=") for pair in text.split(",") if pair)
    return {group: float(given[group]) for group in READ_GROUPS if group in given}


class MessageBatch:
    """Collects messages to the exporter and sends them together."""

    def __init__(self) -> None:
        self._waiting: list[Message] = []
        self._sent_at = time.monotonic()

    def put(self, message: Message) -> None:
        """Add a message to the batch. Sends the batch if the last flush was a while ago."""
        self._waiting.append(message)
        if isinstance(message, Slots) or time.monotonic() - self._sent_at > FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Send the collected messages to the exporter."""
        if self._waiting:
            write_to_parent(encode(self._waiting) + b"\n")
            self._waiting = []
        self._sent_at = time.monotonic()

    def begin(self) -> None:
        """Restart the flush interval, because a new round starts."""
        self._sent_at = time.monotonic()


def repeat(rounds: Rounds, batch: MessageBatch, heartbeat: Heartbeat) -> None:
    """Run one round per second and apply commands. Raises SourceFailed."""

    def take_commands(wait: float) -> None:
        if wait:
            batch.flush()
            heartbeat.idle()
        for command in read_commands(wait):
            rounds.apply_command(command)

    rounds.take_commands = take_commands
    due = time.monotonic()
    while True:
        batch.begin()
        for message in rounds.once(time.monotonic(), time.time()):
            batch.put(message)
        heartbeat.idle()
        batch.flush()
        due = max(due + PRESENCE_EVERY, time.monotonic())
        while (left := due - time.monotonic()) > 0:
            commands = read_commands(left)
            for command in commands:
                rounds.apply_command(command)
            if commands:
                due = time.monotonic()  # apply the change immediately


def main(arguments: list[str]) -> int:
    """Run the worker with the arguments PARENT HEARTBEAT MODE PLAN COUNTS EVERY SOURCE...

    HEARTBEAT is a file descriptor. MODE is `rounds` (PLAN lists what to skip), `only:3,5` (only
    these GPUs) or `probe` (PLAN lists what to read). COUNTS are the number of GPUs for which PLAN
    is valid and the number of GPUs in the inventory. EVERY lists the groups and their intervals:
    `load=5,health=10`.
    """
    parent, descriptor, mode, plan, counts, every, *source_arguments = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    die_with_parent(int(parent))
    heartbeat, batch, timer = Heartbeat.shared(int(descriptor)), MessageBatch(), Timer()
    heartbeat.begin(None, "open")
    parsed_plan = parse_plan(plan)
    try:
        probing = mode == "probe"
        source = open_source(source_arguments, timer.progress if probing else heartbeat.progress)
        source.open()
        batch.put(Hello(source.name))
        batch.flush()
        if probing:
            heartbeat.idle()
            Probe(source, timer, targets(parsed_plan)).run(
                lambda message: write_to_parent(encode([message]) + b"\n")
            )
            return 0
        only = frozenset(map(int, mode.removeprefix("only:").split(","))) if ":" in mode else None
        count, known = map(int, counts.split(","))
        rounds = Rounds(
            source,
            parsed_plan,
            parse_intervals(every),
            only=only,
            count=count,
            known=known,
            heartbeat=heartbeat,
        )
        repeat(rounds, batch, heartbeat)
    except (SourceFailed, ImportError) as error:
        batch.put(Failed(str(error)))
        batch.flush()
    return 1


def targets(plan: Mapping[int, frozenset[Group] | None]) -> list[Target]:
    """Return the targets of a probe: whole GPUs (the group is None), and groups of a GPU's readings."""
    return [
        (slot, group)
        for slot, groups in plan.items()
        for group in (sorted(groups) if groups is not None else (None,))
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
