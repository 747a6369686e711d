"""What a card's firmware does: writes its registers each second, for the stand-in of NVML to serve.

Run: python firmware.py HARDWARE_DIR NODE [EVERY_SECONDS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fleetmedic.hardware.sensors import sense
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic


def write(hardware: Hardware, node: str, now: float) -> None:
    """The registers of every GPU of the node at Unix time `now`."""
    for index in hardware.gpus(node):
        try:
            found = sense(hardware, node, index, now)
        except UserError:
            continue
        text = "".join(f"{key}={value}\n" for key, value in found.items())
        write_atomic(hardware.root / node / f"gpu{index}.sensors", text, sync=False)


if __name__ == "__main__":
    while True:
        write(Hardware(Path(sys.argv[1])), sys.argv[2], time.time())
        time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 1.0)
