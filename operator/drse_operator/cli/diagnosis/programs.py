"""Checks of DRSE's own programs: somebody leads and plans, and the forecaster answers."""

from __future__ import annotations

import re
import time

from drse_operator.api import times
from drse_operator.api.words import count
from drse_operator.cli.diagnosis.finding import Case, Finding, State, finding
from drse_operator.cli.forecaster import ask_replicas
from drse_operator.cli.wording import age
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, Document
from drse_operator.outside.prometheus import PrometheusError, connect

#: A forecaster's round older than this is late, and a plan of the leader (seconds); passes come every 30 s.
_STALE_ROUND = 300.0
_STALE_PLAN = 120.0
#: Seconds that the leader's pod has for its metrics.
_TIMEOUT = 5.0
_LAST_PLAN = re.compile(r"^drse_last_plan_timestamp_seconds (\S+)$", re.MULTILINE)
_LAST_PLAN_AGE = "time() - max(drse_last_plan_timestamp_seconds)"


async def operator(case: Case) -> tuple[Finding, Finding]:
    """Whether somebody leads, and when they last planned."""
    leader, holder = await _leader(case)
    return leader, await _plan(case, holder)


async def _leader(case: Case) -> tuple[Finding, str | None]:
    """The finding, and who leads."""
    where = case.drse_namespace

    def found(state: State, says: str, do: str = "") -> tuple[Finding, None]:
        return finding("leader", state, says, do), None

    try:
        lease = await case.session.api.get(kinds.LEASE, case.lease, where)
    except ApiError as error:
        if error.status == 403:
            return found(State.SKIP, f"you may not read Lease {case.lease} in {where}")
        if not error.not_found:
            raise
        says = f"there is no Lease {case.lease} in {where}"
        return found(
            State.FAIL, says, "install DRSE there, or give --drse-namespace, or --lease for another name"
        )
    spec = lease["spec"]
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        return found(State.FAIL, "nobody leads", "look at the operator's pods")
    late = time.time() - times.from_wire(renewed)
    if late > 2 * spec.get("leaseDurationSeconds", 15):
        says = f"{holder} has not renewed its lead for {age(late)}"
        return found(State.FAIL, says, "look at the operator's pods")
    return finding("leader", State.OK, f"{holder} leads"), holder


async def _plan(case: Case, holder: str | None) -> Finding:
    """How old the leader's last plan is: by Prometheus, else by the metrics of the leader's pod."""
    if holder is None:
        return finding("plan", State.SKIP, "it is not known who would plan")
    old, unknown = await (
        _plan_by_pod(case, holder) if case.prometheus is None else _plan_by_prometheus(case)
    )
    if old is None:
        return finding("plan", State.SKIP, unknown)
    if old > _STALE_PLAN:
        return finding("plan", State.FAIL, f"the last plan is {age(old)} old", "look at the leader's log")
    return finding("plan", State.OK, f"the last plan is {age(old)} old")


async def _plan_by_prometheus(case: Case) -> tuple[float | None, str]:
    assert case.prometheus is not None
    try:
        async with connect(case.prometheus) as prometheus:
            results = await prometheus.instant(_LAST_PLAN_AGE)
    except PrometheusError:  # which a check of its own tells
        return None, "Prometheus did not tell when it was made"
    return next((result.number for result in results), None), "Prometheus does not know of any plan"


async def _plan_by_pod(case: Case, holder: str) -> tuple[float | None, str]:
    api, where = case.session.api, case.drse_namespace
    try:
        pod = await api.get(kinds.POD, holder, where)
        path = f"/api/v1/namespaces/{where}/pods/http:{holder}:{_port(pod)}/proxy/metrics"
        text = await api.text(path, _TIMEOUT)
    except (ApiError, ApiUnreachable) as error:
        refused = isinstance(error, ApiError) and error.status == 403
        why = "you may not ask the leader's pod" if refused else "the leader's pod could not be asked"
        return None, f"{why} when it was made; --prometheus tells, too"
    stamp = _LAST_PLAN.search(text)
    if stamp is None:
        return None, f"pod {holder} does not tell when it was made"
    return max(0.0, time.time() - float(stamp[1])), ""


def _port(pod: Document) -> int:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    return next((int(port["containerPort"]) for port in ports if port.get("name") == "http"), 8080)


async def forecaster(case: Case) -> Finding:
    """Whether all shards answer, and how old their forecasts are."""
    answer = await ask_replicas(case.session, case.drse_namespace, case.forecaster)
    scaled = any(
        j.spec is not None and j.spec.scaling.mode.value != "Off" for j in case.scene.world.all_jobs()
    )
    documents = answer.documents
    if not documents:
        troubles = "; ".join(answer.troubles)
        if scaled:
            return finding("forecaster", State.WARN, troubles, "until then scaling on forecast stands still")
        return finding("forecaster", State.SKIP, troubles)
    forecasts = [forecast for document in documents for forecast in document.forecasts]
    oldest = time.time() - min(document.generated_at.timestamp() for document in documents)
    ready = sum(forecast.ready for forecast in forecasts)
    shards = documents[0].shards
    of = f" of {shards}" if shards > 1 else ""
    known = f"{ready} of {count(len(forecasts), 'forecast')} ready" if forecasts else "no job has a load yet"
    says = f"{count(len(documents), 'replica')}{of} answered, {known}, the oldest round {age(oldest)} old"
    if oldest > _STALE_ROUND:
        return finding("forecaster", State.WARN, says, "look at the forecaster's log")
    if answer.troubles:
        return finding("forecaster", State.WARN, f"{says}; {'; '.join(answer.troubles)}")
    return finding("forecaster", State.OK, says)
