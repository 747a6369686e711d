"""The stage of an alert: what may follow from it, as its label `stage` declares. Pure."""

from __future__ import annotations

from enum import StrEnum

LABEL = "stage"


class Stage(StrEnum):
    """The valid values of the label `stage`. An alert without the label is in stage `act`."""

    SHADOW = "shadow"
    NOTIFY = "notify"
    ACT = "act"


def may_act(stage: str) -> bool:
    """Return whether more than a notification may follow from an alert in a stage.

    `stage` is the value of the label, empty without the label. An invalid stage allows notifications only.
    """
    return (stage or Stage.ACT) == Stage.ACT
