"""Complete events of journals that earlier versions wrote."""

from __future__ import annotations

from typing import Any

from fleetmedic.alerting.instruments import Instrument
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


# Earlier versions did not record the instrument of an alert: they derived it from the alert's name. These are
# the alerts that justified an action. Other alerts of earlier versions count as an unknown source.
INSTRUMENTS = {
    "GpuLost": Instrument.DRIVER,
    "GpuHung": Instrument.DRIVER,
    "GpuEccUncorrectable": Instrument.DRIVER,
    "GpuRowRemapPending": Instrument.DRIVER,
    "GpuRetiredPagesPending": Instrument.DRIVER,
    "GpuRowRemapFailure": Instrument.DRIVER,
    "GpuSramEccThresholdExceeded": Instrument.DRIVER,
    "GpuThermalSlowdownHardware": Instrument.DRIVER,
    "GpuXidFatalHardware": Instrument.KERNEL_LOG,
    "GpuPeerOutlier": Instrument.PEERS,
    "NodeDown": Instrument.LIVENESS,
    "TrainingStalled": Instrument.JOB,
    "TrainingRestartLoop": Instrument.JOB,
    "InferenceQueueGrowing": Instrument.SERVICE,
    "InferenceOverProvisioned": Instrument.SERVICE,
}


def upgraded(kind: Kind, data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of an event in the present form. Raises ValueError for an unknown action."""
    if kind is Kind.STEP_PREPARED and "effect" not in data:
        return _with_effect(data)
    if kind is Kind.ALERT_ABSORBED and "instrument" not in data:
        return data | {"instrument": str(INSTRUMENTS.get(data["alertname"], ""))}
    return data


def _with_effect(data: dict[str, Any]) -> dict[str, Any]:
    try:
        return data | {"effect": str(EFFECTS[data["action"]])}
    except KeyError:
        raise ValueError(f"its action {data.get('action')!r} is unknown") from None
