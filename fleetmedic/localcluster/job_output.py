"""Read and follow the output of a job's attempts."""

from __future__ import annotations

import codecs
import os
import time
from collections import deque
from pathlib import Path

import click

from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobState
from fleetmedic.terminal.stack_option import suggested

CHUNK = 1_000_000
POLL_SECONDS = 0.2
_decoder = codecs.getincrementaldecoder("utf-8")


class JobOutput:
    """The output of a job from one attempt on. Each byte is returned once."""

    def __init__(self, cluster: LocalCluster, job_id: str, attempt: int) -> None:
        self.cluster = cluster
        self.job_id = job_id
        self._start(attempt)

    @property
    def path(self) -> Path:
        """Return the output file of the current attempt. It may not exist yet."""
        return self.cluster.output(self.job_id, self.attempt)

    def next_attempt(self) -> None:
        """Continue with the output of the next attempt."""
        self._start(self.attempt + 1)

    def last_lines(self, count: int) -> str:
        """Return the last `count` lines of the current attempt's output."""
        try:
            with self.path.open("rb") as file:
                lines = deque(file, count)
                self._offset = file.tell()
        except OSError:
            return ""
        return self._decoder.decode(b"".join(lines))

    def read(self) -> str:
        """Return output of the current attempt that has not been returned yet; "" if there is none."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0  # the file was rotated
                file.seek(self._offset)
                data = file.read(CHUNK)
                self._offset = file.tell()
        except OSError:
            return ""
        return self._decoder.decode(data)

    def _start(self, attempt: int) -> None:
        self.attempt = attempt
        self._offset = 0
        self._decoder = _decoder("replace")


def follow_output(output: JobOutput) -> int:
    """Print the output of this attempt and all later ones until the job ends; returns the exit code.

    Ctrl-C ends only this command, not the job.
    """
    job_id = output.job_id
    try:
        while True:
            job = output.cluster.job(job_id)
            while output.attempt < job.latest_attempt:
                _print(output)  # all of it: an attempt starts after the previous one has ended
                output.next_attempt()
                click.echo(f"{job_id}: output of attempt {output.attempt}:", err=True)
            _print(output)
            if job.state.ended:
                click.echo(f"{job_id} {job.state}: {job.text}", err=True)
                return 0 if job.state is JobState.COMPLETED else 1
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(
            f"\n{job_id} keeps running. To cancel it, run {suggested(f'jobs cancel {job_id}')}.",
            err=True,
        )
        return 130


def _print(output: JobOutput) -> None:
    while text := output.read():
        click.echo(text, nl=False)
