"""Checks of what is measured: Prometheus, the exporters' join with GPUs, and DRSE's alerts."""

from __future__ import annotations

from drse_operator.api.words import count
from drse_operator.cli.diagnosis.finding import Case, Finding, State, finding
from drse_operator.outside import alerts
from drse_operator.outside.prometheus import Prometheus, PrometheusError, connect

_CHECKS = ("prometheus", "exporters", "alerts")
_NAMED = 3


async def measured(case: Case) -> tuple[Finding, ...]:
    """What Prometheus tells; three findings also where it tells nothing."""
    if case.prometheus is None:
        return tuple(finding(check, State.SKIP, "give --prometheus to look at it") for check in _CHECKS)
    try:
        async with connect(case.prometheus) as prometheus:
            return (await _leaders(prometheus), await _exporters(case, prometheus), await _alerts(prometheus))
    except PrometheusError as error:
        rest = (finding(check, State.SKIP, "Prometheus did not tell") for check in _CHECKS[1:])
        return (finding("prometheus", State.FAIL, str(error)), *rest)


async def _leaders(prometheus: Prometheus) -> Finding:
    """Whether it scrapes the operator, and sees one leader."""
    leaders = next((result.number for result in await prometheus.instant("sum(drse_leader)")), None)
    url = prometheus.settings.shown
    if leaders is None:
        says = f"{url} answers, and does not know the operator's metrics"
        return finding("prometheus", State.WARN, says, "have it scrape the operator (serviceMonitor.enabled)")
    if leaders > 1:
        says = f"{url} sees {leaders:.0f} leaders"
        return finding("prometheus", State.FAIL, says, "delete the pod that the Lease does not name")
    return finding("prometheus", State.OK, f"{url} answers, and knows the operator's metrics")


async def _exporters(case: Case, prometheus: Prometheus) -> Finding:
    """Whether the exporters' series can be joined by UUID with who holds what."""
    use = await prometheus.use()
    known = set(case.scene.picture.fleet.by_uuid)
    jobs = case.scene.world.all_jobs()
    held = {device.uuid for job in jobs for a in job.status.assignments for device in a.devices}
    if not known and not held:
        return finding("exporters", State.SKIP, "no GPU is published by name, so nothing can be joined")
    names = ", ".join(one.metric for one in prometheus.settings.exporters)
    if not use:
        return finding(
            "exporters", State.WARN, f"Prometheus has no series of {names}", "install a GPU exporter"
        )
    if not use.keys() & (known | held):
        says = f"{count(len(use), 'GPU')} are measured, none by a UUID that the cluster knows"
        return finding("exporters", State.WARN, says, "give the UUID label with --utilization-metric")
    for which, wanted in (("held ", held), ("", known)):
        if unmeasured := sorted(wanted - use.keys()):
            says = f"{len(unmeasured)} of {len(wanted)} {which}GPUs are not measured, such as {unmeasured[0]}"
            return finding("exporters", State.WARN, says, "see that the exporter runs there and is scraped")
    return finding("exporters", State.OK, f"all {len(known | held)} GPUs are measured by their UUIDs")


async def _alerts(prometheus: Prometheus) -> Finding:
    """Which of DRSE's alerts fire; silence means something only where the rules are loaded."""
    firing = await alerts.firing(prometheus)
    if firing:
        named = "; ".join(f"{a.name} ({a.about})" if a.about else a.name for a in firing[:_NAMED])
        more = f" and {len(firing) - _NAMED} more" if len(firing) > _NAMED else ""
        says = f"{count(len(firing), 'alert')} firing: {named}{more}"
        critical = any(alert.severity == "critical" for alert in firing)
        return finding("alerts", State.FAIL if critical else State.WARN, says, "see their runbooks")
    if not await alerts.loaded(prometheus):
        says = "DRSE's alert rules are not loaded, so none can fire"
        return finding("alerts", State.WARN, says, "set prometheusRule.enabled")
    return finding("alerts", State.OK, "none of DRSE's alerts fires")
