"""Where state lies, and how one command finds the stack that another has started.

Everything is under one folder: `FLEETMEDIC_HOME`, else `$XDG_STATE_HOME/fleetmedic`, else
`~/.local/state/fleetmedic`. A stack keeps its own state in a folder below, and describes itself in
`stack.json` there.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic

DEFAULT_PORT_BASE = 9090


def home() -> Path:
    """The folder that holds every stack's state and the unpacked parts."""
    if given := os.environ.get("FLEETMEDIC_HOME"):
        return Path(given).absolute()
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "fleetmedic"


def state_dir(given: str | Path | None = None, port_base: int = DEFAULT_PORT_BASE) -> Path:
    """The state folder of a stack: as given, else FLEETMEDIC_STATE_DIR, else below home()."""
    if given:
        return Path(given).absolute()
    if from_environment := os.environ.get("FLEETMEDIC_STATE_DIR"):
        return Path(from_environment).absolute()
    return home() / ("stack" if port_base == DEFAULT_PORT_BASE else f"stack-{port_base}")


@dataclass(frozen=True, slots=True)
class StackFile:
    """What a running stack says of itself, for the commands that talk to it.

    `urls` has the keys prometheus, alertmanager, remediator, rules, pool and one `exporter-NODE`
    each; `pids` maps a process name to [pid, start time in clock ticks since boot].
    """

    cluster: str
    port_base: int
    simulated: bool
    urls: dict[str, str]
    token_file: str
    supervisor: tuple[int, int] | None = None
    pids: dict[str, tuple[int, int]] = field(default_factory=dict)

    def save(self, state: Path) -> None:
        """Write STATE/stack.json."""
        write_atomic(state / "stack.json", json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, state: Path) -> StackFile:
        """The stack of that state folder. Raises UserError when none was ever started there."""
        path = state / "stack.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            raise UserError(
                f"no stack has been started in {state}: run `fleetmedic up`, or name its --state-dir."
            ) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise UserError(
                f"{path} is damaged: run `fleetmedic up` again to write it anew."
            ) from None
