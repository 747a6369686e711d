"""What an alert declares about itself, in one place: its labels, its playbook and its runbook. Pure.

A static alert declares it in its rule file, a learned alert in its detector. Other code reads the declaration
and keeps no tables of alert names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleetmedic.alerting import instruments, reports, stages
from fleetmedic.alerting.reports import AlertReport
from fleetmedic.kernel import labels as words
from rules.links import Links
from rules.rule_model import Rule

STATIC = "static"
DETECTOR = "detector"
NOTIFY_ONLY = "notify-only"


@dataclass(frozen=True, slots=True)
class Declaration:
    """The declaration of one alert. Each value is constant, because a changed label is a new alert.

    `instrument` is what the alert observes, `reports` what it reports, and `stage` what may follow from it:
    see `fleetmedic/alerting`. The alert has no label `stage` if the stage is empty, and no label `reports` if it
    reports a condition.
    """

    name: str
    severity: str
    category: str
    instrument: str
    source: str = STATIC
    playbook: str = NOTIFY_ONLY
    reports: str = AlertReport.CONDITION
    stage: str = ""

    @classmethod
    def of(cls, rule: Rule) -> Declaration:
        """Return the declaration of an alert that passes the linter."""
        given = rule.labels
        return cls(
            name=rule.name,
            severity=given[words.SEVERITY],
            category=given[words.CATEGORY],
            instrument=given[instruments.LABEL],
            source=given[words.SOURCE],
            playbook=rule.annotations[words.PLAYBOOK],
            reports=given.get(reports.LABEL, AlertReport.CONDITION),
            stage=given.get(stages.LABEL, ""),
        )

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that the alert's rule sets."""
        optional = {
            reports.LABEL: "" if self.reports == AlertReport.CONDITION else str(self.reports),
            stages.LABEL: str(self.stage),
        }
        return {
            words.SEVERITY: self.severity,
            words.CATEGORY: self.category,
            words.SOURCE: self.source,
            instruments.LABEL: str(self.instrument),
        } | {name: value for name, value in optional.items() if value}

    def rule(
        self,
        expr: str,
        wait: str,
        texts: dict[str, str],
        links: Links,
        dashboard: tuple[str, Iterable[str]],
    ) -> Rule:
        """Return the alert's rule. `texts` are the annotations `summary` and `description`.

        `dashboard` is the linked dashboard, and the labels that set its variables.
        """
        annotations = {
            **texts,
            **links.annotations(self.name, *dashboard),
            words.PLAYBOOK: self.playbook,
        }
        return Rule(self.name, expr, True, wait, labels=self.labels, annotations=annotations)
