"""Numbers and times as people read them: few digits, one unit, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from markupsafe import Markup

#: What is shown where there is nothing to show.
NOTHING = "–"


def span(seconds: float | None) -> str:
    """A length of time in one or two units: ``40 s``, ``12 min``, ``3 h 20``, ``2 d 4 h``."""
    if seconds is None:
        return NOTHING
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02}"
    return f"{hours // 24} d {hours % 24} h"


def clock(moment: datetime, now: datetime) -> str:
    """Time of day, with the day when that is another one: ``14:20``, ``Thu 14:20``, ``3 Dec 14:20``."""
    days = (moment.date() - now.date()).days
    if days == 0:
        return f"{moment:%H:%M}"
    return f"{moment:%a %H:%M}" if -6 <= days <= 6 else f"{moment.day} {moment:%b %H:%M}"


def exact(moment: datetime) -> str:
    """A time in full."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def ago(moment: datetime | None, now: datetime) -> Markup:
    """How long ago, with the exact time on hover."""
    if moment is None:
        return Markup(NOTHING)
    return stamp(moment, span((now - moment).total_seconds()))


def at(moment: datetime | None, now: datetime) -> Markup:
    """Time of day, with the exact time on hover."""
    return Markup(NOTHING) if moment is None else stamp(moment, clock(moment, now), clocked=True)


def until(first: datetime | None, last: datetime | None, now: datetime) -> Markup:
    """From the p50 to the p90 of a start: the second without its day when that is the day of the first."""
    if first is None or last is None:
        return Markup(NOTHING)
    return Markup("{}<span class=to>–</span>{}").format(
        stamp(first, clock(first, now), clocked=True, says="p50, as likely earlier as later: "),
        stamp(
            last,
            f"{last:%H:%M}" if last.date() == first.date() else clock(last, now),
            clocked=True,
            says="p90, nine in ten start before: ",
        ),
    )


def stamp(moment: datetime, text: str, clocked: bool = False, says: str = "") -> Markup:
    """A time element. ``clocked`` ones show a time of day, which scripts may turn into the reader's zone.
    ``says`` stands before the exact time on hover."""
    mark = Markup(" data-clock") if clocked else ""
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", says + exact(moment), mark, text
    )


def amount(value: float | None, digits: int = 1) -> str:
    """A number without digits that say nothing."""
    if value is None:
        return NOTHING
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def fixed(value: float | None, digits: int = 1) -> str:
    """A number with so many digits, for columns."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """A ratio as whole percent."""
    return NOTHING if value is None else f"{100 * value:.0f} %"


def many(count: int, word: str, plural: str = "") -> str:
    """``1 job``, ``2 jobs``."""
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


@lru_cache(256)
def model_of(product: str) -> str:
    """A product's name as short as people say it: ``H100 80GB``, ``MI300X``."""
    short = product.replace("_", " ").replace("-SXM4-", " ").replace("-PCIe-", " ")
    for prefix in ("NVIDIA-", "NVIDIA ", "AMD Instinct ", "Intel "):
        short = short.removeprefix(prefix)
    for suffix in (" HBM3", " OAM"):
        short = short.removesuffix(suffix)
    return short
