"""Who is looking, and which jobs they may be shown.

The API server answers both questions: a TokenReview says who a token belongs to, SubjectAccessReviews say
whether that user may list DeepSeekJobs. One review is made for the whole cluster; only if that is refused,
one for each namespace that has jobs. Answers are kept for a minute, so a page costs no review at all, and
what was taken away from somebody is gone after a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from starlette.requests import HTTPConnection

from drse_operator.api.base import GROUP
from drse_operator.cluster.client import ApiError, ApiUnreachable, Kind, KubeApi
from drse_operator.observe.console.sessions import Sessions

TOKEN_REVIEW = Kind("/apis/authentication.k8s.io/v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEW = Kind(
    "/apis/authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
#: Seconds that an answer is kept.
_KEPT = 60.0
_REMEMBERED = 4096
#: Reviews that are under way at once for one user.
_AT_ONCE = 16

T = TypeVar("T")


class Denied(Exception):
    """The request is not answered: 401 when it is not known who asks, 403 when they may see nothing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class User:
    """As the API server knows them. ``extra`` holds (key, values)."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who looks. ``visible`` are the namespaces whose jobs may be named; None means all."""

    name: str
    visible: frozenset[str] | None
    can_log_out: bool = False


class Gate(Protocol):
    """Says who asks. Raises Denied."""

    async def viewer(self, request: HTTPConnection) -> Viewer: ...


class Cache(Generic[T]):
    """Answers by question for a while; the same question is not asked twice at once."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: OrderedDict[Hashable, tuple[float, asyncio.Future[T]]] = OrderedDict()

    async def get(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The known answer, or a new one. What raised is not kept."""
        now = self._clock()
        found = self._known.get(question)
        if found is not None and now < found[0]:
            return await asyncio.shield(found[1])
        task = asyncio.ensure_future(ask())
        self._known[question] = (now + self._seconds, task)
        self._known.move_to_end(question)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except Exception:
            if self._known.get(question, (0.0, None))[1] is task:
                del self._known[question]
            raise


class LoopbackGate:
    """Everybody who reaches a loopback address may see everything.

    The Host header is looked at, so that a page elsewhere cannot read the console by a name that it has
    pointed at the loopback address.
    """

    async def viewer(self, request: HTTPConnection) -> Viewer:
        """Whoever asks."""
        host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise Denied(403, "without authentication the console answers to 127.0.0.1 and localhost only")
        return Viewer("", None)


class TokenGate:
    """Bearer tokens, in the Authorization header or in a session that was begun with one."""

    def __init__(self, reviews: Reviews, sessions: Sessions) -> None:
        self._reviews = reviews
        self._sessions = sessions

    async def viewer(self, request: HTTPConnection) -> Viewer:
        """The owner of the token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.casefold() == "bearer" and token.strip():
            return await self._reviews.viewer(await self._reviews.owner(token.strip()))
        kept = self._sessions.token(request)
        if kept is None:
            raise Denied(401, "log in with a token, or send it as Authorization: Bearer")
        user = await self._reviews.owner(kept)
        return await self._reviews.viewer(user, can_log_out=True)


class ProxyGate:
    """A proxy in front has authenticated the user, and proves by a secret that it was the proxy."""

    SECRET = "x-drse-proxy-secret"
    USERS = ("x-forwarded-user", "x-remote-user", "x-auth-request-user")
    GROUPS = ("x-forwarded-groups", "x-remote-group", "x-auth-request-groups")

    def __init__(self, reviews: Reviews, secret: str) -> None:
        self._reviews = reviews
        self._secret = secret.encode()

    async def viewer(self, request: HTTPConnection) -> Viewer:
        """The user that the proxy names."""
        headers = request.headers
        if not hmac.compare_digest(headers.get(self.SECRET, "").encode(), self._secret):
            raise Denied(401, "this console is reached through its authenticating proxy only")
        name = next((headers[key] for key in self.USERS if headers.get(key)), "")
        if not name:
            raise Denied(401, "the proxy does not say who you are: have it send X-Forwarded-User")
        if name.startswith("system:"):
            raise Denied(
                403, "names that begin with system: are the cluster's own and cannot come from a proxy"
            )
        groups = [g.strip() for key in self.GROUPS for line in headers.getlist(key) for g in line.split(",")]
        named = tuple(g for g in groups if g and not g.startswith("system:"))
        return await self._reviews.viewer(User(name, groups=(*named, "system:authenticated")))


class Reviews:
    """Asks the API server. ``namespaces`` gives those that have jobs, ``others`` all that exist."""

    def __init__(
        self,
        api: KubeApi,
        namespaces: Callable[[], Iterable[str]],
        others: Callable[[], Iterable[str]],
        seconds: float = _KEPT,
    ) -> None:
        self._api = api
        self._namespaces = namespaces
        self._others = others
        self._owners: Cache[User] = Cache(seconds)
        self._allowed: Cache[bool] = Cache(seconds)
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        #: Reviews that were sent, for tests and metrics.
        self.sent = 0

    async def owner(self, token: str) -> User:
        """Whom a token belongs to. Raises Denied (401)."""
        digest = hashlib.sha256(token.encode()).digest()
        return await self._owners.get(digest, lambda: self._review_token(token))

    async def viewer(self, user: User, can_log_out: bool = False) -> Viewer:
        """What a user may see. Raises Denied (403) when that is nothing."""
        if await self._may_list(user, ""):
            return Viewer(user.name, None, can_log_out)
        with_jobs = sorted(self._namespaces())
        answers = await asyncio.gather(*(self._may_list(user, name) for name in with_jobs))
        visible = frozenset(name for name, allowed in zip(with_jobs, answers, strict=True) if allowed)
        if not visible and not await self._any(user, set(self._others()) - set(with_jobs)):
            raise Denied(
                403,
                f"{user.name} may list DeepSeekJobs in no namespace: ask for the role view in yours, or for "
                "drse-view in the whole cluster",
            )
        return Viewer(user.name, visible, can_log_out)

    async def _any(self, user: User, names: Iterable[str]) -> bool:
        """Whether the user may list in one of them at least; asked only of those who see no job at all."""
        for name in sorted(names):
            if await self._may_list(user, name):
                return True
        return False

    async def _may_list(self, user: User, namespace: str) -> bool:
        return await self._allowed.get((user, namespace), lambda: self._review_access(user, namespace))

    async def _review_token(self, token: str) -> User:
        status = (await self._send(TOKEN_REVIEW, {"token": token})).get("status") or {}
        if not status.get("authenticated"):
            raise Denied(401, "the API server does not accept this token: it may have expired, get a new one")
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        return User(
            name=user.get("username", ""),
            uid=user.get("uid", ""),
            groups=tuple(user.get("groups") or ()),
            extra=tuple(sorted((key, tuple(values)) for key, values in extra.items())),
        )

    async def _review_access(self, user: User, namespace: str) -> bool:
        attributes = {"group": GROUP, "resource": "deepseekjobs", "verb": "list", "namespace": namespace}
        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra},
            "resourceAttributes": attributes,
        }
        async with self._at_once:
            status = (await self._send(ACCESS_REVIEW, spec)).get("status") or {}
        return bool(status.get("allowed"))

    async def _send(self, kind: Kind, spec: dict[str, Any]) -> dict[str, Any]:
        self.sent += 1
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}
        try:
            return await self._api.request("POST", kind.path(), body=body, attempts=2)
        except (ApiError, ApiUnreachable) as error:
            raise Denied(
                503, f"the API server cannot be asked who you are ({type(error).__name__}): try again shortly"
            ) from error
