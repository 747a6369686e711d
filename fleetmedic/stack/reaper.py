"""End the processes that a killed supervisor left behind, jobs included.

A supervisor that stops normally ends its processes itself. The reaper is a small process in its own
session. It waits until the supervisor exits and then cleans up. It runs as `python -m
fleetmedic.stack.reaper IDENTIFIER STATE`, and imports little to use little memory.
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
from fleetmedic.stack.identity import Identity, Mark, alive, marked_processes

GRACE_SECONDS = 4.0


def clean(state: Path, mark: Mark) -> int:
    """End all processes of a dead supervisor: the controller, then its jobs, then all other
    processes of the stack.

    Returns the number of processes that were ended. When the controller starts again, it restarts the jobs
    from their checkpoints. The stop does not count as a failure of the job.
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
    """End the jobs and the pool of the embedded cluster; returns their number. The controller must have exited."""
    from fleetmedic.localcluster.shutdown import shutdown

    try:
        return shutdown(state, grace)
    except (UserError, OSError, sqlite3.Error) as error:
        print(f"clean shutdown of the jobs failed: {error}", file=sys.stderr)
        return 0


def sweep(mark: Mark, *, grace: float = GRACE_SECONDS) -> int:
    """End every process of the stack with this identifier: TERM first, KILL after `grace` seconds.

    Returns their number. The search is repeated until none is left, because a process that is
    ending may start another.
    """
    seen: set[Identity] = set()
    deadline = time.monotonic() + grace
    while left := marked_processes(mark):
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
    """Send a signal to exactly this process. It is not an error if the process has exited."""
    if alive(who):
        try:
            os.kill(who[0], number)
        except ProcessLookupError:
            pass


def wait_for_end(who: Identity, timeout: float | None = None) -> bool:
    """Wait until the process exits, at most `timeout` seconds; returns whether it has exited."""
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
    """Wait until the supervisor exits, then clean up. INT, TERM and HUP are ignored until then."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait_for_end(mark.supervisor)
    clean(state, mark)


if __name__ == "__main__":
    main(Mark.parse(sys.argv[1]), Path(sys.argv[2]))
