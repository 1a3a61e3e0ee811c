"""DRSE's alerts as Prometheus has them: which fire, and whether the rules are loaded at all."""

from __future__ import annotations

from dataclasses import dataclass

from drse_operator.outside.prometheus import Prometheus

FIRING = 'ALERTS{alertstate="firing",alertname=~"DRSE.*|HighInferenceLatency"}'
#: Labels that say nothing about what the alert is about.
_HIDDEN = frozenset(
    {"__name__", "alertname", "alertstate", "severity", "job", "instance", "endpoint", "service"}
)
_GRAVITY = {"critical": 0, "warning": 1}


@dataclass(frozen=True, slots=True)
class Alert:
    """A firing alert. ``about`` names the job, queue or GPU that it speaks of."""

    name: str
    severity: str
    about: str


async def firing(prometheus: Prometheus) -> tuple[Alert, ...]:
    """DRSE's firing alerts, the gravest first. Raises PrometheusError."""
    found = []
    for result in await prometheus.instant(FIRING):
        labels = result.metric
        about = ", ".join(f"{key} {value}" for key, value in sorted(labels.items()) if key not in _HIDDEN)
        found.append(Alert(labels.get("alertname", ""), labels.get("severity", ""), about))
    return tuple(sorted(found, key=lambda alert: (_GRAVITY.get(alert.severity, 2), alert.name)))


async def loaded(prometheus: Prometheus) -> bool:
    """Whether DRSE's alert rules are there to fire. Raises PrometheusError."""
    return any(name.startswith("DRSE") for name in await prometheus.rules())
