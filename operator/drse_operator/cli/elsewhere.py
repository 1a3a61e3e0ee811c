"""In which other namespaces the caller may look at jobs, for who has named none and may not in the usual one.

Nobody can ask the API server for the namespaces in which they have rights. So those are tried that the caller
is likely to mean: of the kubeconfig's contexts, of the caller's own service account, and of the cluster where
namespaces may be listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from drse_operator.cli.connect import Session
from drse_operator.cluster import kinds
from drse_operator.cluster.client import ApiError

#: Namespaces that are tried at most.
_TRIED = 50
_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def readable(session: Session) -> list[str]:
    """Namespaces whose DeepSeekJobs the caller may list, as far as that can be found out."""
    try:
        likely = [name async for name in _likely(session)]
        tried = list(dict.fromkeys(likely))[:_TRIED]
        allowed = await asyncio.gather(*(_may_list(session, name) for name in tried))
    except ApiError:
        return []
    return sorted(name for name, may in zip(tried, allowed, strict=True) if may)


async def _likely(session: Session) -> AsyncIterator[str]:
    for name in session.contexts:
        yield name
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await session.api.request("POST", _REVIEWS, body=review)
    user = answer["status"]["userInfo"].get("username", "")
    if user.startswith("system:serviceaccount:"):
        yield user.split(":")[2]
    try:
        for item in (await session.api.list(kinds.NAMESPACE)).items:
            yield item["metadata"]["name"]
    except ApiError as error:
        if error.status != 403:
            raise


async def _may_list(session: Session, namespace: str) -> bool:
    wish = {"group": "drse.dev", "resource": "deepseekjobs", "verb": "list", "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wish},
    }
    answer = await session.api.request("POST", _ACCESS, body=review)
    return bool(answer["status"].get("allowed"))
