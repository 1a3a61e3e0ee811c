"""Numbers and times for people. JSON and CSV never go through here."""

from __future__ import annotations

from datetime import datetime


def age(seconds: float | None) -> str:
    """A span of time in at most two units, as kubectl writes ages: ``45s``, ``12m``, ``3h5m``, ``2d4h``."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h" if hours and days < 10 else f"{days}d"


def at_most(seconds: float | None) -> str:
    """The upper bound of a span, as histograms tell it: ``<=17m``."""
    return "-" if seconds is None else f"<={age(seconds)}"


def clock(moment: datetime | None, today: datetime) -> str:
    """A time on the caller's clock: ``14:20`` today, ``Nov 25 14:20`` on another day."""
    if moment is None:
        return "-"
    here, now = moment.astimezone(), today.astimezone()
    if here.date() == now.date():
        return f"{here:%H:%M}"
    return f"{here:%b} {here.day} {here:%H:%M}"


def between(first: datetime | None, last: datetime | None, today: datetime) -> str:
    """A range of times, the day written once."""
    if first is None or last is None:
        return "-"
    start, end = clock(first, today), clock(last, today)
    if start == end:
        return start
    if first.astimezone().date() == last.astimezone().date():
        end = f"{last.astimezone():%H:%M}"
    return f"{start}..{end}"


def number(value: float | None, digits: int = 1) -> str:
    """A number without needless zeros; ``-`` where there is none."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(ratio: float | None) -> str:
    """A ratio as a percentage."""
    return "-" if ratio is None else f"{ratio * 100:.0f}%"


def hours(value: float | None) -> str:
    """GPU-hours: one decimal below 100, none above."""
    return "-" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def gib(count: int) -> str:
    """Bytes as GiB."""
    return f"{count / 2**30:.0f}Gi" if count else "-"


def short_uuid(uuid: str | None, full: bool) -> str:
    """A GPU's UUID, shortened to what tells GPUs of a node apart."""
    if not uuid:
        return "-"
    return uuid if full or len(uuid) <= 16 else f"{uuid[:12]}…"


def signed_age(seconds: float | None) -> str:
    """A shift of time: ``+12m`` is later."""
    if seconds is None:
        return "-"
    return f"{'-' if seconds < 0 else '+'}{age(abs(seconds))}"
