"""The parent process of one attempt of a job: `python -I -S shim.py FOLDER`.

The shim outlives the controller. In FOLDER it reads order.json, and writes, each file atomically:
  lock           created by the first shim, held while it runs; a second shim exits at once
  started.json   pid and start time of the command and of the shim
  exit.json      exit code or signal of the command
  output.log     output of the command; if it exceeds the limit, the older half is in output.log.1
The command starts only after started.json is written, so that every command is recorded.
TERM, INT, HUP and USR2 are forwarded to the command's process group. USR1 is forwarded only to the
processes that catch it, because it would end the others. The group is killed when the command exits.

Standard library only and few imports: one shim runs per job, and its start time adds to the time
between a fault and the restart of the job.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ALREADY_CLAIMED = 75
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # exit codes as of a shell
CHUNK = 65536


def start_ticks(pid: int) -> int:
    """Return the start time of a process in clock ticks since boot; 0 if it has exited or is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def host_boot() -> str:
    """Return the machine's boot id."""
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
        return file.read().strip()


def write_whole(path: str, value: object) -> None:
    """Write JSON to a file atomically."""
    beside = f"{path}.{os.getpid()}"
    with open(beside, "w") as file:  # noqa: PTH123
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)  # noqa: PTH105


def claim(folder: str) -> bool:
    """Claim FOLDER for this process. Returns False if another process has claimed FOLDER before."""
    try:
        lock = os.open(f"{folder}/lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    fcntl.flock(lock, fcntl.LOCK_EX)
    return True


def _run_command(order: dict[str, object], gate: int, output: int) -> None:
    """In the child process: wait until the parent allows the start, then execute the command."""
    os.setpgid(0, 0)
    for number in (*FORWARDED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if os.read(gate, 1) != b"g":  # the shim died before the pid was recorded
        os._exit(NOT_FOUND)
    command = order["command"]
    environment = order["env"]
    assert isinstance(command, list)  # noqa: S101 - the controller wrote it
    assert isinstance(environment, dict)  # noqa: S101
    try:
        os.chdir(str(order["cwd"]))
    except OSError as error:
        os.write(2, f"cannot use the directory {order['cwd']}: {error.strerror}\n".encode())
        os._exit(NOT_EXECUTABLE)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - without a shell
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror or error}\n".encode())
        missing = isinstance(error, FileNotFoundError) and not os.path.exists(command[0])  # noqa: PTH110
        os._exit(NOT_FOUND if missing else NOT_EXECUTABLE)


class Log:
    """Appends to a file. At half the limit, the file is renamed to FILE.1. Output is lost if the disk is full."""

    def __init__(self, path: str, bound: int) -> None:
        self._path = path
        self._half = max(CHUNK, bound // 2)
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        try:
            if self._size + len(data) > self._half:
                os.close(self._fd)
                os.replace(self._path, f"{self._path}.1")  # noqa: PTH105
                self._open()
            self._size += os.write(self._fd, data)
        except OSError:
            return


def _catches(pid: int, number: int) -> bool:
    try:
        with open(f"/proc/{pid}/status") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except OSError:
        pass
    return False


def _group(leader: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        try:
            if name.isdigit() and os.getpgid(int(name)) == leader:
                found.append(int(name))
        except OSError:
            continue
    return found


def pass_on(leader: int, number: int) -> None:
    """Send a signal to a command's process group. USR1 is sent only to the processes that catch it."""
    try:
        if number != signal.SIGUSR1:
            os.killpg(leader, number)
            return
        for pid in _group(leader):
            if _catches(pid, number):
                os.kill(pid, number)
    except OSError:
        return


def _watch(pid: int, output: int, wakeup: int, log: Log) -> int:
    """Copy output and forward signals until the command exits; returns its wait status."""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == wakeup:
                for number in os.read(wakeup, 512):
                    if number in FORWARDED:
                        pass_on(pid, number)
            elif data := os.read(output, CHUNK):
                log.write(data)
            else:
                poll.unregister(output)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status


def _drain(output: int, log: Log) -> None:
    os.set_blocking(output, False)
    try:
        while data := os.read(output, CHUNK):
            log.write(data)
    except OSError:
        return


def main(folder: str) -> int:
    """Run the command in FOLDER/order.json once. Returns 75 if FOLDER was claimed before."""
    if not claim(folder):
        return ALREADY_CLAIMED
    with open(f"{folder}/order.json") as file:  # noqa: PTH123
        order = json.load(file)
    wakeup, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    gate, opener = os.pipe2(os.O_CLOEXEC)
    output, written = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(opener)
        _run_command(order, gate, written)
    os.close(gate)
    os.close(written)
    os.setpgid(pid, pid)  # here too: a signal may be forwarded before the child has called it
    started = {
        "pid": pid,
        "start": start_ticks(pid),
        "shim_pid": os.getpid(),
        "shim_start": start_ticks(os.getpid()),
        "host_boot": host_boot(),
        "at": time.time(),
    }
    write_whole(f"{folder}/started.json", started)
    os.write(opener, b"g")
    log = Log(f"{folder}/output.log", int(order["log_bytes"]))
    status = _watch(pid, output, wakeup, log)
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # no process of the group is left
    _drain(output, log)
    code = os.waitstatus_to_exitcode(status)
    ended = {"code": code if code >= 0 else None, "signal": -code if code < 0 else None}
    write_whole(f"{folder}/exit.json", {**ended, "at": time.time()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
