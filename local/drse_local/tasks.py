"""Pods of a release that end by themselves, such as that of `helm test`: each is run once, as a process.

kwok calls a pod Running and leaves it so. Here its command is run then, with its service account's rights,
and how it ends becomes the pod's phase, as a kubelet would report it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from drse_local.apiclient import ApiStatusError, KubeApi, Manifest
from drse_local.cluster import LocalCluster
from drse_local.errors import LocalClusterError
from drse_local.pods import component
from drse_local.release import Release

_COMPONENT = "test"
#: Of the end of the log, as terminationMessagePolicy FallbackToLogsOnError gives.
_MESSAGE_CHARACTERS = 2048


class Tasks:
    """The pods of all releases that end by themselves, each run once."""

    def __init__(self, cluster: LocalCluster, api: KubeApi) -> None:
        self._cluster = cluster
        self._api = api
        self._runs: dict[str, asyncio.Task[None]] = {}

    def look(self, release: Release, pods: Iterable[Manifest]) -> None:
        """Start the command of each pod of the release that has just come to run."""
        for pod in pods:
            uid = pod["metadata"]["uid"]
            runs = pod.get("status", {}).get("phase") == "Running" and uid not in self._runs
            if runs and component(pod["metadata"].get("labels", {})) == _COMPONENT:
                self._runs[uid] = asyncio.create_task(self._run(release, pod))

    async def stop(self) -> None:
        """End those that still run."""
        for run in self._runs.values():
            run.cancel()
        await asyncio.gather(*self._runs.values(), return_exceptions=True)

    async def _run(self, release: Release, pod: Manifest) -> None:
        name = pod["metadata"]["name"]
        try:
            process = await self._cluster.run(await release.task(pod))
            status = await asyncio.to_thread(process.popen.wait)
            said = process.log_tail()
        except LocalClusterError as error:
            status, said = 1, str(error)
        finally:
            await self._cluster.supervisor.stop(name)
        with contextlib.suppress(ApiStatusError):  # whoever made the pod has not waited
            await self._report(pod, status, said)

    async def _report(self, pod: Manifest, status: int, said: str) -> None:
        metadata = {key: pod["metadata"][key] for key in ("namespace", "name", "uid")}
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        ended = {"exitCode": status, "reason": "Error" if status else "Completed"}
        message = {"message": said[-_MESSAGE_CHARACTERS:]} if status else {}
        (container,) = pod["status"]["containerStatuses"]
        stopped = {"ready": False, "started": False, "state": {"terminated": {**ended, **message}}}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "status": {
                "phase": "Failed" if status else "Succeeded",
                "containerStatuses": [{**container, **stopped}],
            },
        }
        await self._api.apply(path, document)
