"""Pages as HTML: the templates, and what surrounds every page."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from drse_operator.observe.console import words
from drse_operator.observe.console.pages.page import Page, Visit

_HERE = Path(__file__).parent
#: The API server has been silent for so long: the picture is old, and the page says so (seconds).
_STALE = 15.0


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the navigation. ``key`` follows g on the keyboard."""

    path: str
    title: str
    key: str
    icon: str


NAVIGATION = (
    Entry("/", "Now", "n", "now"),
    Entry("/jobs", "Jobs", "j", "jobs"),
    Entry("/queues", "Queues", "q", "queues"),
    Entry("/gpus", "GPUs", "u", "gpus"),
    Entry("/forecast", "Forecast", "f", "forecast"),
    Entry("/decisions", "Decisions", "d", "decisions"),
    Entry("/whatif", "What if", "w", "whatif"),
    Entry("/reports", "Reports", "r", "reports"),
    Entry("/health", "Health", "h", "health"),
)


@dataclass(frozen=True, slots=True)
class Surface:
    """What differs between two showings of the same page.

    ``token`` names the look to resume from, ``age`` is seconds since the API server last answered, ``theme``
    is empty where the system's counts.
    """

    token: str
    age: float
    theme: str


class Renderer:
    """Fills templates. ``cluster`` is what the console calls the cluster; ``version`` is DRSE's."""

    def __init__(self, cluster: str, version: str) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals |= {
            "cluster": cluster,
            "version": version,
            "navigation": NAVIGATION,
            "asset": {path.name: _asset(path) for path in sorted((_HERE / "static").iterdir())},
            "words": words,
        }
        self._environment.filters |= {
            "span": words.span,
            "amount": words.amount,
            "fixed": words.fixed,
            "percent": words.percent,
            "product": words.model_of,
            "exact": words.exact,
        }

    def warm(self) -> None:
        """Compile all templates, so that no reader waits for it."""
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    def page(self, page: Page, visit: Visit, surface: Surface) -> str:
        """A page in full."""
        return self._environment.get_template(page.template).render(
            page=page,
            table=page.table,
            address=visit.address,
            viewer=visit.viewer,
            now=visit.now,
            stale=surface.age if surface.age > _STALE else None,
            token=surface.token,
            theme=surface.theme,
            **page.values,
        )

    def refusal(self, status: int, message: str, login: bool, target: str, theme: str) -> str:
        """Why there is no page, and how to get one."""
        titles = {401: "Log in", 403: "Not for you", 404: "Not found", 503: "Not yet"}
        return self._environment.get_template("refusal.html").render(
            status=status,
            title=titles.get(status, "Not possible"),
            message=message,
            login=login,
            target=target,
            theme=theme,
        )


def _asset(path: Path) -> str:
    """Link to a file with its content's hash, so that browsers fetch it anew when it changes."""
    return f"/static/{path.name}?{hashlib.sha256(path.read_bytes()).hexdigest()[:10]}"
