"""Ends what a supervisor left behind, jobs included.

A supervisor that stops in order calls `sweep` itself. For the one that is killed there is a small
process in a session of its own, which waits for the supervisor's end and then sweeps. It runs as
`python -m fleetmedic.stack.reaper MARK`; standard library only, to stay small.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from fleetmedic.stack.identity import Identity, Mark, alive, marked

GRACE_SECONDS = 4.0


def sweep(mark: Mark, *, grace: float = GRACE_SECONDS) -> int:
    """End every process that carries the mark: TERM, and KILL after `grace` seconds.

    Returns how many there were. It looks again until none is left, because a dying parent may
    start one more.
    """
    seen: set[Identity] = set()
    deadline = time.monotonic() + grace
    while left := marked(mark):
        late = time.monotonic() > deadline
        for one in left:
            if late or one not in seen:
                send(one, signal.SIGKILL if late else signal.SIGTERM)
        seen.update(left)
        if time.monotonic() > deadline + 10:
            break
        time.sleep(0.05)
    return len(seen)


def send(who: Identity, number: signal.Signals) -> None:
    """Signal that very process; one that has ended meanwhile is no error."""
    if alive(who):
        try:
            os.kill(who[0], number)
        except ProcessLookupError:
            pass


def wait_for_end(who: Identity, timeout: float | None = None) -> bool:
    """Return when that process has ended, or after `timeout` seconds; whether it has ended."""
    try:
        handle = os.pidfd_open(who[0])
    except ProcessLookupError:
        return True
    try:
        if alive(who):
            select.select([handle], [], [], timeout)
    finally:
        os.close(handle)
    return not alive(who)


def main(mark: Mark) -> None:
    """Wait for the supervisor's end, then sweep. Polite signals are ignored: the wait is the end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait_for_end(mark.supervisor)
    sweep(mark)


if __name__ == "__main__":
    main(Mark.parse(sys.argv[1]))
