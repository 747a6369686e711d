"""Prints what the NVML source reads of every GPU, as JSON: {slot: {group: [[name, labels, value]]}}.

Run: python dump.py [SLOT...], with LD_LIBRARY_PATH and FAKE_NVML_DIR set.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from exporter.sources.base import READ_GROUPS, SourceFailed, SourceLost
from exporter.sources.nvml import NvmlSource

source = NvmlSource(Path("/proc"), Path("/nowhere"), lambda: None)
try:
    source.open()
    found = {}
    for slot in source.slots():
        try:
            source.read(slot, "gpm", time.time())  # the first sample has none before it
            found[slot] = {
                group: [list(reading) for reading in source.read(slot, group, time.time())]
                for group in READ_GROUPS
            }
        except SourceLost:
            found[slot] = {"lost": []}
    print(json.dumps({"gpus": found, "errors": source.errors()}))
except SourceFailed as error:
    print(json.dumps({"failed": str(error)}))
