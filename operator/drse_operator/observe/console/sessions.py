"""Sessions of browsers: a cookie names one, the token that began it stays in this process's memory.

Tokens never stand in URLs, cookies, logs or on disk; a restart ends all sessions.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.responses import Response

COOKIE = "drse-session"
#: Seconds that a session lasts at most; its token may expire earlier.
_LASTS = 12 * 3600
_REMEMBERED = 10_000


class Sessions:
    """Begins, finds and ends sessions. ``secure`` marks the cookie for HTTPS only."""

    def __init__(self, secure: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._secure = secure
        self._clock = clock
        self._tokens: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def begin(self, response: Response, token: str) -> None:
        """A session for a token that has been accepted."""
        name = secrets.token_urlsafe(32)
        self._tokens[name] = (self._clock() + _LASTS, token)
        while len(self._tokens) > _REMEMBERED:
            self._tokens.popitem(last=False)
        response.set_cookie(
            COOKIE, name, max_age=_LASTS, httponly=True, samesite="strict", secure=self._secure, path="/"
        )

    def token(self, request: HTTPConnection) -> str | None:
        """The token of the request's session."""
        name = request.cookies.get(COOKIE, "")
        found = self._tokens.get(name)
        if found is None:
            return None
        if self._clock() > found[0]:
            del self._tokens[name]
            return None
        return found[1]

    def end(self, request: HTTPConnection, response: Response) -> None:
        """Forget the session and its token."""
        self._tokens.pop(request.cookies.get(COOKIE, ""), None)
        response.delete_cookie(COOKIE, path="/")
