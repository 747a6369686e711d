"""Locate the state of stacks, so that commands can find a running stack.

All state is in one directory: `FLEETMEDIC_HOME` if it is set, otherwise
`$XDG_STATE_HOME/fleetmedic`, otherwise `~/.local/state/fleetmedic`. Each stack has its own state
directory there, with its description in `stack.json`.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic

DEFAULT_PORT_BASE = 9090


def home() -> Path:
    """Return the directory with the state of all stacks and the unpacked packages."""
    if given := os.environ.get("FLEETMEDIC_HOME"):
        return Path(given).absolute()
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "fleetmedic"


def state_dir(given: str | Path | None = None, port_base: int = DEFAULT_PORT_BASE) -> Path:
    """Return the state directory of a stack: `given`, otherwise FLEETMEDIC_STATE_DIR, otherwise a
    directory in home()."""
    if given:
        return Path(given).absolute()
    if from_environment := os.environ.get("FLEETMEDIC_STATE_DIR"):
        return Path(from_environment).absolute()
    return home() / ("stack" if port_base == DEFAULT_PORT_BASE else f"stack-{port_base}")


def stack_options(state: Path, port_base: int = 0) -> str:
    """Return the options that select the stack in `state`, each after a space. Only `up` needs `port_base`."""
    number = state.name.removeprefix("stack-") if state.parent == home() else ""
    base = port_base or (int(number) if number.isdecimal() else DEFAULT_PORT_BASE)
    where = "" if state == state_dir(port_base=base) else f" --state-dir {shlex.quote(str(state))}"
    return where if base == DEFAULT_PORT_BASE else f"{where} --port-base {base}"


@dataclass(frozen=True, slots=True)
class StackFile:
    """The description of a running stack, for commands that use it.

    `urls` contains the keys prometheus, alertmanager, remediator, rules, pool and `exporter-NODE`
    for each node. `pids` maps a process name to [pid, start time in clock ticks since boot].
    """

    cluster: str
    port_base: int
    simulated: bool
    urls: dict[str, str]
    token_file: str
    supervisor: tuple[int, int] | None = None
    pids: dict[str, tuple[int, int]] = field(default_factory=dict)

    def save(self, state: Path) -> None:
        """Write the description of the stack to stack.json in its state directory."""
        write_atomic(state / "stack.json", json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, state: Path, port_base: int = 0) -> StackFile:
        """Read the stack.json of a state directory. Raises UserError (with `port_base`) if there is none."""
        up = f"`fleetmedic up{stack_options(state, port_base)}`"
        path = state / "stack.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            raise UserError(
                f"no stack was started in {state}, or it is still starting. Run {up}, or select another "
                "stack with --state-dir or --port-base."
            ) from None
        except NotADirectoryError:
            raise UserError(
                f"the state directory {state} is not a directory. Select another one with --state-dir or "
                "FLEETMEDIC_STATE_DIR."
            ) from None
        except OSError as error:
            said = f"cannot use {path}: {error.strerror}. Run the command as the user of the stack."
            raise UserError(said) from None
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise UserError(f"{path} is damaged. Run {up} to rewrite it.") from None
