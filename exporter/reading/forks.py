"""The process that workers, probes and the event process are forked from. It never asks the driver.

It imports once what they need, so that another one is there in milliseconds when a GPU hangs, and most
of their memory is shared. For each request on its socket (the words of a command line, and three
descriptors: input, output, heartbeat) it forks, and answers with the new process's id.

Arguments: PARENT SOCKET MODULE...; the first word of a request is one of the modules, whose
`main(PARENT HEARTBEAT words)` is run.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from typing import NoReturn

from exporter.reading.parent import be_called, die_with_parent

MAX_REQUEST = 65_536


def _become(name: str, words: list[str], descriptors: list[int], parent: int) -> NoReturn:
    """Be the new process."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        be_called(f"gpu-{name.rpartition('.')[2]}")
        os.dup2(descriptors[0], 0)
        os.dup2(descriptors[1], 1)
        for descriptor in descriptors[:2]:
            os.close(descriptor)
        status = importlib.import_module(name).main([str(parent), str(descriptors[2]), *words])
    except BaseException:  # noqa: BLE001 - whatever it was, it must not go on as its parent
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main(arguments: list[str]) -> int:
    """Fork until the exporter closes the socket or ends."""
    parent, descriptor, *modules = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    die_with_parent(int(parent))
    be_called("gpu-forks")
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # who needs it will say so
    control = socket.socket(fileno=int(descriptor))
    gc.collect()
    gc.freeze()  # what is shared is not touched by the collector
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
