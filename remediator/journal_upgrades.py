"""Complete events of journals that earlier versions wrote."""

from __future__ import annotations

from typing import Any

from remediator.core.action import Effect
from remediator.core.events import Kind

# Earlier versions did not record the effect of an announced step. They had these actions only.
EFFECTS = {
    "notify": Effect.NOTIFIES,
    "quarantine_gpu": Effect.QUARANTINES,
    "quarantine_node": Effect.QUARANTINES,
    "signal_checkpoint": Effect.SAVES,
    "restart_jobs": Effect.MOVES_JOBS,
    "reset_gpu": Effect.REPAIRS,
    "reboot_node": Effect.REPAIRS,
    "verify": Effect.VERIFIES,
    "release": Effect.RELEASES,
    "scale": Effect.SCALES,
}


def upgraded(kind: Kind, data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of an event in the present form. Raises ValueError for an unknown action."""
    if kind is not Kind.STEP_PREPARED or "effect" in data:
        return data
    try:
        return data | {"effect": str(EFFECTS[data["action"]])}
    except KeyError:
        raise ValueError(f"its action {data.get('action')!r} is unknown") from None
