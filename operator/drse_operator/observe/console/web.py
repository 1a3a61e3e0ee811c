"""The console over HTTP: one page under one URL, as HTML, ``.json`` and ``.csv``.

Everything is read-only but the session cookie. What the browser may load comes from here alone (strict
Content-Security-Policy), so the console works in a closed cluster and with scripts switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from drse_operator.api.keys import JobKey
from drse_operator.observe.console.access import Denied, Gate, Reviews, Viewer
from drse_operator.observe.console.address import Address, AddressError
from drse_operator.observe.console.conceal import conceal
from drse_operator.observe.console.figures import Figures
from drse_operator.observe.console.look import Look
from drse_operator.observe.console.packing import pack
from drse_operator.observe.console.pages import (
    decision,
    decisions,
    forecast,
    gpus,
    health,
    job,
    jobs,
    now,
    queues,
    reports,
    whatif,
)
from drse_operator.observe.console.pages.job import EventRow
from drse_operator.observe.console.pages.page import NotFound, Page, Visit
from drse_operator.observe.console.render import Renderer, Surface
from drse_operator.observe.console.sessions import Sessions
from drse_operator.observe.console.stage import Stage
from drse_operator.observe.console.tables import to_csv

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Seconds after which a silent stream of events says that it is still there.
_BEAT = 15.0
_LONGEST_LOGIN = 65_536
#: What-ifs and suggestions that are planned at once.
_PLANNING = 2

Simple = Callable[[Visit], Page]
Events = Callable[[JobKey], Awaitable[tuple[EventRow, ...] | None]]

PAGES: dict[str, Simple] = {
    "/": now.page,
    "/now": now.page,
    "/jobs": jobs.page,
    "/queues": queues.page,
    "/gpus": gpus.page,
    "/forecast": forecast.page,
    "/decisions": decisions.page,
    "/whatif": whatif.page,
    "/reports": reports.page,
    "/health": health.page,
}


@dataclass(frozen=True, slots=True)
class Login:
    """How browsers begin a session; without it there is no login page."""

    reviews: Reviews
    sessions: Sessions


class Web:
    """The routes. ``not_ready`` says what is missing before there is a first look."""

    def __init__(
        self,
        stage: Stage,
        gate: Gate,
        renderer: Renderer,
        figures: Figures,
        events: Events,
        not_ready: Callable[[], str | None],
        age: Callable[[], float],
        login: Login | None = None,
    ) -> None:
        self._stage = stage
        self._gate = gate
        self._renderer = renderer
        self._figures = figures
        self._events = events
        self._not_ready = not_ready
        self._age = age
        self._login = login
        self._planning = asyncio.Semaphore(_PLANNING)

    def application(self) -> Starlette:
        """All routes."""
        routes = [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/events", self._listen),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route("/theme", self._set_theme, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_STATIC), middleware=[Middleware(GZipMiddleware)]),
            Route("/{path:path}", self._page),
        ]
        return Starlette(routes=routes)

    # -- pages -----------------------------------------------------------------------------------------

    async def _page(self, request: Request) -> Response:
        path, form = _split(request.url.path)
        with self._figures.request(form):
            try:
                viewer = await self._gate.viewer(request)
                look = self._stage.look
                if look is None:
                    raise Denied(
                        503, f"the console is still reading the cluster ({self._not_ready() or 'soon'})"
                    )
                response = await self._answer(request, viewer, look, path, form)
            except Denied as denied:
                self._figures.denied(denied.status)
                response = self._refusal(request, form, denied.status, denied.message)
            except AddressError as error:
                response = self._refusal(request, form, 400, str(error))
            except NotFound as missing:
                response = self._refusal(request, form, 404, str(missing))
            response.headers.update(_HEADERS)
            return response

    async def _answer(self, request: Request, viewer: Viewer, look: Look, path: str, form: str) -> Response:
        address = Address.parse(path, request.url.query)
        make, plans = await self._maker(look, viewer, address)

        def answer() -> Response:
            visit = Visit(look, look.seen_by(viewer.visible), viewer, address)
            return self._written(make(visit), visit, form, request)

        # Made, written and packed in a thread: on a big cluster each takes a while, and others are answered.
        async with self._planning if plans else nullcontext():
            return await asyncio.to_thread(answer)

    async def _maker(self, look: Look, viewer: Viewer, address: Address) -> tuple[Simple, bool]:
        """What makes the page, and whether it may ask the planner. Raises NotFound."""
        parts = [part for part in address.path.split("/") if part]
        if len(parts) == 3 and parts[0] == "jobs":
            key = JobKey(parts[1], parts[2])
            may = viewer.visible is None or key.namespace in viewer.visible
            known = look.scene.world.jobs.get(key.namespace, key.name) is not None
            events = await self._events(key) if may and known else ()
            return lambda visit: job.page(visit, key.namespace, key.name, events), True
        if len(parts) == 2 and parts[0] == "queues":
            return lambda visit: queues.one(visit, parts[1]), False
        if len(parts) == 2 and parts[0] == "decisions":
            return lambda visit: decision.page(visit, parts[1]), False
        make = PAGES.get(address.path)
        if make is None:
            raise NotFound(f"there is no page {address.path}")
        return make, make is whatif.page

    def _written(self, page: Page, visit: Visit, form: str, request: Request) -> Response:
        """A page in the form asked for, without names that the reader may not read."""
        headers: dict[str, str] = {}
        if form == "json":
            media, body = "application/json", page.document.model_dump_json(by_alias=True)
        elif form == "csv":
            if page.table is None:
                raise NotFound(f"{visit.address.path} has no table: ask for {visit.address.path}.json")
            media, body = "text/csv; charset=utf-8", to_csv(page.table)
            headers["Content-Disposition"] = f'attachment; filename="drse-{page.table.table.name}.csv"'
        else:
            media = "text/html; charset=utf-8"
            surface = Surface(self._stage.token, self._age(), _theme(request))
            body = self._renderer.page(page, visit, surface)
        body = conceal(body, _hidden(visit.look, visit.viewer))
        packed, coding = pack(body, request.headers.get("accept-encoding", ""))
        return Response(packed, media_type=media, headers=headers | coding)

    def _refusal(self, request: Request, form: str, status: int, message: str) -> Response:
        if form != "html":
            return Response(
                json.dumps({"message": message}), status_code=status, media_type="application/json"
            )
        login = self._login is not None and status == 401
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        html = self._renderer.refusal(status, message, login, target, _theme(request))
        return HTMLResponse(html, status_code=status)

    # -- what has changed ------------------------------------------------------------------------------

    async def _listen(self, request: Request) -> Response:
        try:
            viewer = await self._gate.viewer(request)
        except Denied as denied:
            self._figures.denied(denied.status)
            return PlainTextResponse(denied.message, status_code=denied.status, headers=_HEADERS)
        token = request.headers.get("last-event-id") or request.query_params.get("after", "")
        headers = {**_HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._stream(request, viewer, token), media_type="text/event-stream", headers=headers
        )

    async def _stream(self, request: Request, viewer: Viewer, token: str) -> AsyncIterator[str]:
        """One event for each change, and a beat without any; ends when the reader may no longer look."""
        self._stage.listeners += 1
        reviewed = time.monotonic()
        yield "retry: 2000\n\n"
        try:
            while True:
                change = self._stage.since(token)
                fresh = token != change.token
                token = change.token
                data = {"topics": change.topics, "age": round(self._age())}
                if change.topics or not fresh:
                    yield f"id: {change.token}\nevent: changed\ndata: {json.dumps(data)}\n\n"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BEAT):
                        await self._stage.next()
                # However busy the cluster, rights are looked at again and again.
                if time.monotonic() - reviewed >= _BEAT:
                    if (await self._gate.viewer(request)).visible != viewer.visible:
                        return
                    reviewed = time.monotonic()
        except Denied:
            return
        finally:
            self._stage.listeners -= 1

    # -- sessions --------------------------------------------------------------------------------------

    async def _log_in(self, request: Request) -> Response:
        form = await _form(request)
        target = _local(form.get("next", "/"))
        try:
            if self._login is None or not _same_origin(request):
                raise Denied(403, "log in from the console's own page")
            token = form.get("token", "").strip().removeprefix("Bearer ").strip()
            if not token:
                raise Denied(401, "paste a token: kubectl create token NAME prints one")
            await self._login.reviews.viewer(await self._login.reviews.owner(token))
        except Denied as denied:
            self._figures.denied(denied.status)
            html = self._renderer.refusal(
                denied.status, denied.message, self._login is not None, target, _theme(request)
            )
            return HTMLResponse(html, status_code=denied.status, headers=_HEADERS)
        response = RedirectResponse(target, status_code=303, headers=_HEADERS)
        self._login.sessions.begin(response, token)
        return response

    async def _log_out(self, request: Request) -> Response:
        response = RedirectResponse("/", status_code=303, headers=_HEADERS)
        if self._login is not None and _same_origin(request):
            self._login.sessions.end(request, response)
        return response

    async def _set_theme(self, request: Request) -> Response:
        form = await _form(request)
        response = RedirectResponse(_local(form.get("next", "/")), status_code=303, headers=_HEADERS)
        if form.get("theme") in ("dark", "light"):
            response.set_cookie("drse-theme", form["theme"], max_age=365 * 86_400, samesite="strict")
        else:
            response.delete_cookie("drse-theme")
        return response

    # -- probes ----------------------------------------------------------------------------------------

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _: Request) -> Response:
        trouble = (
            None if self._stage.look is not None else self._not_ready() or "the first look is being made"
        )
        return PlainTextResponse(trouble or "ok", status_code=503 if trouble else 200)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self._figures.registry), media_type=CONTENT_TYPE_LATEST)


def _hidden(look: Look, viewer: Viewer) -> frozenset[str]:
    """Namespaces whose jobs the reader may not name."""
    if viewer.visible is None:
        return frozenset()
    known = {item.name for item in look.scene.world.namespaces.values()}
    return frozenset(known | look.namespaces) - viewer.visible


def _split(path: str) -> tuple[str, str]:
    """The path and the format that its suffix asks for."""
    for form in ("json", "csv"):
        if path.endswith(f".{form}"):
            return path.removesuffix(f".{form}"), form
    return (path.rstrip("/") or "/"), "html"


def _theme(request: Request) -> str:
    theme = request.cookies.get("drse-theme", "")
    return theme if theme in ("dark", "light") else ""


def _local(target: str) -> str:
    """A target within the console; anything else leads to its front page."""
    parts = urlsplit(target)
    fine = (
        target.startswith("/")
        and not target.startswith(("//", "/\\"))
        and not parts.netloc
        and not parts.scheme
    )
    return target if fine and "\n" not in target and "\r" not in target else "/"


def _same_origin(request: Request) -> bool:
    """Whether a form was sent by a page of the console itself."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def _form(request: Request) -> dict[str, str]:
    """A small urlencoded form. Larger bodies count as empty."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_LOGIN:
            return {}
    return {key: values[-1] for key, values in parse_qs(body.decode(errors="replace")).items()}
