"""Generate the dashboards: `python dashboards/src [FOLDER]` writes *.json to dashboards/ or FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import anomalies
import board
import fleet
import gpu
import job
import meta
import node
import remediation
import service

BOARDS = tuple(
    each.BOARD for each in (fleet, gpu, node, job, service, anomalies, remediation, meta)
)


def main(arguments: list[str]) -> None:
    """Write each dashboard to the folder."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1]
    for each in BOARDS:
        (folder / f"{each.name}.json").write_text(board.text(each, BOARDS))


if __name__ == "__main__":
    main(sys.argv[1:])
