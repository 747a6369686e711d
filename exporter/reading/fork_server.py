"""The fork server: forks workers, probes and the event process. It never calls the driver.

It imports their modules once. So a replacement process starts in milliseconds when a GPU hangs, and
the processes share most of their memory. A request on its socket contains the words of a command
line and three descriptors (input, output, heartbeat). The reply is the pid of the forked process.

Arguments: PARENT SOCKET MODULE... The first word of a request names one of the modules. The new
process runs `main(PARENT HEARTBEAT words)` of this module.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from typing import NoReturn

from exporter.reading.parent import die_with_parent, set_process_name

MAX_REQUEST = 65_536


def _become(name: str, words: list[str], descriptors: list[int], parent: int) -> NoReturn:
    """Run the module's `main` in the forked process, then exit."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        set_process_name(f"gpu-{name.rpartition('.')[2]}")
        os.dup2(descriptors[0], 0)
        os.dup2(descriptors[1], 1)
        for descriptor in descriptors[:2]:
            os.close(descriptor)
        status = importlib.import_module(name).main([str(parent), str(descriptors[2]), *words])
    except BaseException:  # noqa: BLE001 - the child must never return into the parent's loop
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main(arguments: list[str]) -> int:
    """Serve fork requests until the exporter closes the socket or ends."""
    parent, descriptor, *modules = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    die_with_parent(int(parent))
    set_process_name("gpu-forks")
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # the process that needs the module reports the error
    control = socket.socket(fileno=int(descriptor))
    gc.collect()
    gc.freeze()  # so that garbage collection does not copy shared pages
    here = os.getpid()
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST, 3)
        if not request:
            return 0
        name, *words = request.decode().split("\0")
        try:
            child = os.fork()
        except OSError:
            child = -1
        if child == 0:
            control.close()
            _become(name, words, descriptors, here)
        for received in descriptors:
            os.close(received)
        control.send(str(child).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
