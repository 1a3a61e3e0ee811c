"""Everything that a reader has chosen stands in the URL, so that a link shows the same to everybody.

An address is a path and its parameters. Pages make links by changing single parameters of the address that
they were asked for; a parameter with its default value is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, urlencode

#: Parameters of a link.
_FIELDS = 200


class AddressError(Exception):
    """A link that is not answered; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Address:
    """A path without its format suffix, and parameters in their order."""

    path: str
    params: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, path: str, query: str) -> Address:
        """From a request's path and raw query string. Empty parameters say nothing and are dropped.

        Raises AddressError for a link with more parameters than any page has.
        """
        try:
            return cls(path, tuple((k, v) for k, v in parse_qsl(query, max_num_fields=_FIELDS) if v))
        except ValueError as error:
            raise AddressError(f"a link may have at most {_FIELDS} parameters: leave some out") from error

    def get(self, name: str, otherwise: str = "") -> str:
        """Value of a parameter; the last one counts."""
        return next((v for k, v in reversed(self.params) if k == name), otherwise)

    def all(self, name: str) -> tuple[str, ...]:
        """Values of a parameter that may be given several times."""
        return tuple(v for k, v in self.params if k == name)

    def number(self, name: str, otherwise: int, least: int = 0, most: int = 1_000_000) -> int:
        """A whole number; what is none, or out of range, counts as not given."""
        text = self.get(name)
        return int(text) if text.isdecimal() and least <= int(text[:9]) <= most else otherwise

    def with_(self, **changes: str | int | None) -> Address:
        """With some parameters changed; None and "" take one away. The page number starts anew."""
        gone = {*changes, "page"} if "page" not in changes else set(changes)
        kept = [(k, v) for k, v in self.params if k not in gone]
        added = [(k, str(v)) for k, v in changes.items() if v not in (None, "")]
        return replace(self, params=(*kept, *added))

    def without(self, name: str, value: str) -> Address:
        """Without one value of a parameter."""
        return replace(
            self, params=tuple(p for p in self.params if p not in ((name, value),) and p[0] != "page")
        )

    def plus(self, name: str, value: str) -> Address:
        """With one more value of a parameter."""
        return replace(self.without(name, value), params=(*self.without(name, value).params, (name, value)))

    def rest(self, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Parameters other than these and the page number: hidden fields of a form that sets them."""
        gone = {*names, "page"}
        return tuple((k, v) for k, v in self.params if k not in gone)

    @property
    def href(self) -> str:
        """The link."""
        return self.path + (f"?{urlencode(self.params)}" if self.params else "")

    def as_(self, suffix: str) -> str:
        """The link to the same as ``json`` or ``csv``."""
        path = "/now" if self.path == "/" else self.path
        return f"{path}.{suffix}" + (f"?{urlencode(self.params)}" if self.params else "")


def link(path: str, params: Mapping[str, str] | None = None) -> str:
    """A link to another page; parts of the path are to be quoted already (see ``part``)."""
    return Address(path, tuple((params or {}).items())).href


def part(text: str) -> str:
    """Text as one part of a path."""
    return quote(text, safe="")


def job_path(namespace: str, job: str) -> str:
    """Link to a job's page."""
    return f"/jobs/{part(namespace)}/{part(job)}"
