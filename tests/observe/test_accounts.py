"""GPU-hours: what accounts hold adds up to what devices were held, through restarts too."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_operator.api import times
from drse_operator.api.enums import DeviceSelection
from drse_operator.api.keys import JobKey
from drse_operator.api.status import Assignment, DeepSeekJobStatus, Device
from drse_operator.observe import books
from drse_operator.observe.accounts import Accounts, Tally, day_of, hour_of, step_seconds, wait_step
from drse_operator.workloads.observed import Job
from tests.lifecycle.builders import make_spec

#: A quarter to midnight UTC, so that stays cross an hour, a day and a month.
T0 = 1_701_387_900.0


@dataclass(frozen=True)
class Held:
    """A device of a job, from and until (seconds after T0)."""

    job: str
    queue: str
    device: str
    start: int
    end: int


@st.composite
def histories(draw: st.DrawFn) -> list[Held]:
    """Devices that are held by one job after the other."""
    held = []
    for device in range(draw(st.integers(1, 5))):
        at = 0
        for i in range(draw(st.integers(0, 4))):
            start = at + draw(st.integers(0, 3000))
            at = start + draw(st.integers(1, 6000))
            job = f"job-{device}-{i}"
            held.append(Held(job, draw(st.sampled_from(["a", "b"])), f"GPU-{device}", start, at))
    return held


def job_of(held: Held) -> Job:
    assignment = Assignment(
        replica=0,
        worker=0,
        node="node-0",
        product="H100",
        device_selection=DeviceSelection.EXACT,
        count=1,
        devices=(Device(uuid=held.device),),
        since=times.to_wire(T0 + held.start),
    )
    return Job(
        key=JobKey("team", held.job),
        uid=held.job,
        resource_version="1",
        generation=1,
        created=T0,
        deleting=False,
        spec=make_spec(queue=held.queue),
        status=DeepSeekJobStatus(assignments=(assignment,)),
        user="ada",
    )


def released(job: Job) -> Job:
    return replace(job, status=DeepSeekJobStatus())


def play(history: list[Held], accounts: Accounts, breaks: set[int]) -> Accounts:
    """Tell the accounts what happened; at each break they are written down, and begun from that."""
    changes = [(h.start, 1, h) for h in history] + [(h.end, 0, h) for h in history]
    moments = sorted({*(at for at, _, _ in changes), *breaks})
    for moment in moments:
        now = T0 + moment
        for at, begins, held in sorted(changes, key=lambda c: (c[0], c[1], c[2].job)):
            if at == moment:
                job = job_of(held)
                accounts.see(job.uid, job if begins else released(job), now)
        if moment in breaks:
            accounts.settle(now)
            accounts = restarted(accounts, now)
    return accounts


def restarted(accounts: Accounts, now: float) -> Accounts:
    fresh = Accounts(lambda _: None)
    for month in sorted({period[:7] for period in accounts.periods} | {day_of(now)[:7]}):
        document = books.config_map("book", "ns", books.usage_book(accounts, month, now))
        fresh.open.clear()
        books.reopen(fresh, books.read_usage(document))
    return fresh


def days_held(book: books.UsageBook) -> float:
    return sum(t.held for p, ts in book.tallies().items() if "T" not in p for t in ts.values())


def by_queue(accounts: Accounts) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for period, tallies in accounts.periods.items():
        if "T" not in period:
            for account, tally in tallies.items():
                total[account.queue] += tally.held
    return dict(total)


@given(histories(), st.sets(st.integers(0, 20_000), max_size=4))
def test_the_sum_over_queues_is_the_sum_over_devices(history: list[Held], breaks: set[int]) -> None:
    accounts = play(history, Accounts(lambda _: None), breaks)
    devices: dict[str, float] = defaultdict(float)
    queues: dict[str, float] = defaultdict(float)
    for held in history:
        devices[held.device] += held.end - held.start
        queues[held.queue] += held.end - held.start
    assert by_queue(accounts) == pytest.approx(dict(queues))
    assert sum(by_queue(accounts).values()) == pytest.approx(sum(devices.values()))
    assert not accounts.open


@given(histories())
def test_hours_add_up_to_days(history: list[Held]) -> None:
    accounts = play(history, Accounts(lambda _: None), set())
    hours: dict[str, float] = defaultdict(float)
    days: dict[str, float] = defaultdict(float)
    for period, tallies in accounts.periods.items():
        target = hours if "T" in period else days
        target[period[:10]] += sum(t.held for t in tallies.values())
    assert dict(hours) == pytest.approx(dict(days))


def test_use_is_counted_as_far_as_the_load_is_known() -> None:
    loads: dict[str, float | None] = {"half": 0.5, "over": 1.7, "dark": None}
    accounts = Accounts(lambda key: loads[key.name])
    for name in loads:
        accounts.see(name, job_of(Held(name, "a", "GPU-" + name, 0, 100)), T0)
    accounts.settle(T0 + 100)
    tallies = accounts.periods[day_of(T0)]
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    assert (total.held, total.used, total.unmeasured, total.idle) == pytest.approx((300, 150, 100, 50))


def test_a_job_starts_once_however_often_it_is_seen() -> None:
    accounts = Accounts(lambda _: None)
    job = job_of(Held("job", "a", "GPU-0", 64, 100))
    for later in (64, 65, 80):
        accounts.see("job", job, T0 + later)
    (tally,) = accounts.periods[hour_of(T0 + 64)].values()
    assert (tally.jobs, tally.waits) == (1, {wait_step(64): 1})
    assert tally.wait(0.5) == pytest.approx(64)


def test_a_clock_that_steps_back_takes_nothing_away() -> None:
    accounts = Accounts(lambda _: None)
    accounts.see("job", job_of(Held("job", "a", "GPU-0", 0, 100)), T0)
    accounts.settle(T0 + 50)
    accounts.settle(T0 + 10)
    accounts.see("job", None, T0 + 40)
    assert by_queue(accounts) == pytest.approx({"a": 50})


def test_a_book_that_would_be_too_large_puts_small_accounts_together_and_loses_no_second() -> None:
    accounts = Accounts(lambda _: None)
    for i in range(300):
        job = replace(job_of(Held(f"job-{i}", "a", f"GPU-{i}", 0, 0)), user=f"user-{i}")
        accounts.see(job.uid, job, T0)
        accounts.see(job.uid, None, T0 + 1 + i)
    month = day_of(T0)[:7]
    whole = books.usage_book(accounts, month, T0 + 400)
    small = books.usage_book(accounts, month, T0 + 400, largest=len(books.pack(whole)) // 3)
    assert len(books.pack(small)) <= len(books.pack(whole)) // 3
    assert days_held(small) == pytest.approx(days_held(whole))
    assert any(account.user == books.OTHERS for account in small.accounts)
    assert any(account.user == "user-299" for account in small.accounts)


@pytest.mark.parametrize("seconds", [0.1, 1, 2, 59, 3600, 1e6])
def test_steps_of_waits_bound_them_from_above(seconds: float) -> None:
    bound = step_seconds(wait_step(seconds))
    assert max(1.0, seconds) <= bound * (1 + 1e-9)
    assert bound <= max(1.0, seconds) * 2**0.5 * (1 + 1e-9)


def test_what_is_no_book_is_refused_by_name() -> None:
    with pytest.raises(books.BookUnreadable, match="drse-usage-2026-11 holds no book"):
        books.read_usage({"metadata": {"name": "drse-usage-2026-11"}, "binaryData": {"book.json.gz": "QQ=="}})
