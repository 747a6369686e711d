"""Ends what a supervisor left behind, jobs included.

A supervisor that stops in order does so itself. For the one that is killed there is a small process
in a session of its own, which waits for the supervisor's end and then cleans up. It runs as
`python -m fleetmedic.stack.reaper MARK STATE`, and imports little, to stay small.
"""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import sys
import time
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.stack.identity import Identity, Mark, alive, marked

GRACE_SECONDS = 4.0


def clean(state: Path, mark: Mark) -> int:
    """End what a dead supervisor left: the controller, then its jobs, then all that is marked.

    Returns how many processes there were. The jobs are noted as stopped with the cluster, so the
    next controller starts them again from their checkpoints, at no cost to them.
    """
    try:
        controller = StackFile.read(state).pids.get("localcluster")
    except UserError:
        controller = None
    if controller is not None and alive(controller):
        send(controller, signal.SIGTERM)
        if not wait_for_end(controller, 3.0):
            send(controller, signal.SIGKILL)
    return end_jobs(state) + sweep(mark)


def end_jobs(state: Path, grace: float = 2.0) -> int:
    """End the jobs and the pool of the embedded cluster, whose controller must have ended before."""
    from fleetmedic.localcluster.shutdown import shutdown

    try:
        return shutdown(state, grace)
    except (UserError, OSError, sqlite3.Error) as error:
        print(f"the jobs could not be ended in order: {error}", file=sys.stderr)
        return 0


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


def main(mark: Mark, state: Path) -> None:
    """Wait for the supervisor's end, then clean. Polite signals are ignored: the wait is the end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait_for_end(mark.supervisor)
    clean(state, mark)


if __name__ == "__main__":
    main(Mark.parse(sys.argv[1]), Path(sys.argv[2]))
