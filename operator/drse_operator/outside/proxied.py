"""The forecaster's replicas, asked through the API server's proxy with the caller's own rights.

Where the caller may list pods in DRSE's namespace and use their proxy, each replica's pod is asked. Where
not, the one Service is: it leads to any of the replicas, and each knows its own share of the jobs alone. The
answer says so when that leaves something out.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from pydantic import ValidationError

from drse_forecaster.contract import ForecastList
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError, ApiUnreachable, Document, KubeApi
from drse_operator.outside.forecaster import PATH, TIMEOUT, Answer, Reply

_SELECTOR = "app.kubernetes.io/part-of=drse,app.kubernetes.io/component=forecaster"
#: The Service's name unless the chart's names are overridden, and its port.
SERVICE = "drse-forecaster"
_PORT = "http"
#: What the API server says of a Service that is not there, and of one without pods, with status 503.
_NOBODY = "no endpoints available"


class _Refused(Exception):
    """The caller may not ask this way, for want of ``missing``."""

    def __init__(self, missing: str) -> None:
        super().__init__(missing)
        self.missing = missing


class ThroughApi:
    """Asks the pods that the chart's labels name in a namespace."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def ask(self) -> Answer:
        """Ask all replicas at once. Raises ApiUnreachable when the API server itself is gone."""
        try:
            pods = await self._pods()
            if pods:
                return Answer(tuple(await asyncio.gather(*map(self._ask_pod, pods))))
            return await self._ask_one("")
        except _Refused as refused:
            return await self._ask_one(refused.missing)
        except ApiError as error:
            return Answer(note=f"the forecaster's pods could not be listed: {_line(error.message)}")

    async def _ask_one(self, missing: str) -> Answer:
        """By the Service: for who may not ask the pods, as ``missing`` says, and where there are none."""
        try:
            reply = await self._ask_service()
        except _Refused as refused:
            may_not = f"neither {missing} nor {refused.missing}" if missing else f"not {refused.missing}"
            return Answer(
                note=f"the forecaster was not asked, for you may {may_not} in {self._namespace}: "
                "give its address with --forecaster"
            )
        if reply.said is None or reply.said.shards == 1 or not missing:
            return Answer((reply,))
        note = (
            f"one of {reply.said.shards} shards of the forecaster has answered, for you may not {missing} in "
            f"{self._namespace}: jobs of the others are left out"
        )
        return Answer((reply,), note)

    async def _pods(self) -> list[Document]:
        try:
            listing = await self._api.list(kinds.POD, self._namespace, {"labelSelector": _SELECTOR})
        except ApiError as error:
            if error.status != 403:
                raise
            raise _Refused("list pods") from error
        return [pod for pod in listing.items if not pod["metadata"].get("deletionTimestamp")]

    async def _ask_pod(self, pod: Document) -> Reply:
        name = pod["metadata"]["name"]
        conditions = (pod.get("status") or {}).get("conditions") or ()
        if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            return Reply(name, trouble=f"pod {name} of the forecaster is not ready: look at its log")
        return await self._ask("pods", f"{name}:{_port(pod)}", name)

    async def _ask_service(self) -> Reply:
        name = SERVICE
        with contextlib.suppress(ApiError):  # then by the name that it usually has
            query = {"labelSelector": _SELECTOR}
            found = (await self._api.list(kinds.SERVICE, self._namespace, query)).items
            name = next((one["metadata"]["name"] for one in found if not _headless(one)), name)
        return await self._ask("services", f"{name}:{_PORT}", f"Service {name} in {self._namespace}")

    async def _ask(self, resource: str, target: str, shown: str) -> Reply:
        path = f"/api/v1/namespaces/{self._namespace}/{resource}/http:{target}/proxy{PATH}"
        try:
            async with asyncio.timeout(TIMEOUT):
                body = await self._api.request("GET", path, limit=TIMEOUT, attempts=1)
            return Reply(shown, ForecastList.model_validate(body))
        except ApiError as error:
            if error.status == 403:
                raise _Refused(f"get {resource}/proxy") from error
            if error.not_found or _NOBODY in error.message:
                hint = "install it there, or give --drse-namespace or --forecaster"
                return Reply(shown, trouble=f"there is no forecaster behind {shown}: {hint}")
            return Reply(shown, trouble=f"the forecaster ({shown}) does not answer: {_line(error.message)}")
        except (ApiUnreachable, TimeoutError):
            says = f"the forecaster ({shown}) does not answer within {TIMEOUT:g} s: see that it runs"
            return Reply(shown, trouble=says)
        except ValidationError:
            return Reply(
                shown, trouble=f"what {shown} answers is no list of forecasts: is that the forecaster?"
            )


def _headless(service: Document) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def _port(pod: Document) -> Any:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    return next((port["containerPort"] for port in ports if port.get("name") == _PORT), 8090)


def _line(text: str) -> str:
    return text.splitlines()[0] if text else "no answer"
