"""The parts below the pages: tables, addresses, colours, words, what has changed, and the command line."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from drse_operator.observe.console import words
from drse_operator.observe.console.address import Address
from drse_operator.observe.console.colours import COLOURS, colours
from drse_operator.observe.console.conceal import conceal
from drse_operator.observe.console.main import main
from drse_operator.observe.console.packing import pack
from drse_operator.observe.console.stage import TOPICS, Stage
from drse_operator.observe.console.tables import Column, Table, show, to_csv
from drse_operator.observe.console.watch import draw
from drse_operator.observe.views import jobs as views
from tests.console.serving import Served, surroundings
from tests.console.stagehand import NOW, Cluster

Row = tuple[str, int | None]
TABLE: Table[Row] = Table(
    name="rows",
    noun="row",
    columns=(
        Column("name", "Name", lambda r: r[0], filter=True),
        Column("size", "Size", lambda r: r[1], number=True),
        Column("more", "More", lambda r: "x", optional=True),
    ),
    key=lambda r: r[0],
    order="name",
    groups=("name",),
    search=lambda r: r[0],
    page=7,
)
rows_ = st.lists(st.tuples(st.text("abc-12", max_size=4), st.none() | st.integers(0, 9)), max_size=40)
addresses = st.builds(
    Address,
    st.just("/rows"),
    st.lists(
        st.tuples(
            st.sampled_from(["sort", "page", "q", "name", "group", "columns"]),
            st.text(max_size=6).filter(bool),
        ),
        max_size=5,
    ).map(tuple),
)


@given(rows_, st.sampled_from(["name", "-name", "size", "-size"]))
def test_pages_show_every_row_once_and_in_order(rows: list[Row], sort: str) -> None:
    address = Address("/rows", (("sort", sort),))
    first = show(TABLE, rows, address)
    told: list[str] = []
    for page in range(1, first.pages + 1):
        told += [line.key for line in show(TABLE, rows, address.with_(page=page)).lines]
    assert told == [row[0] for row in first.rows]
    assert sorted(first.rows, key=str) == sorted(rows, key=str)
    sizes = [row[1] for row in first.rows]
    known = [size for size in sizes if size is not None]
    if sort.endswith("size"):
        assert known == sorted(known, reverse=sort.startswith("-"))
        assert all(size is None for size in sizes[len(known) :])


@given(rows_, addresses)
def test_any_address_is_answered_and_survives_being_a_link(rows: list[Row], address: Address) -> None:
    path, _, query = address.href.partition("?")
    again = Address.parse(path, query)
    assert again == address
    shown = show(TABLE, rows, again)
    assert len(shown.lines) <= TABLE.page + len({line.group for line in shown.lines if line.group})
    assert len(to_csv(shown).splitlines()) == len(shown.rows) + 1


def test_numbers_inside_of_names_are_sorted_as_numbers() -> None:
    names = ("node-10", "node-2", "node-1")
    shown = show(TABLE, [(name, 0) for name in names], Address("/rows"))
    assert [row[0] for row in shown.rows] == ["node-1", "node-2", "node-10"]


def test_a_cell_is_no_formula() -> None:
    text = to_csv(show(TABLE, [("=1+1", 1), ("@x", 2)], Address("/rows")))
    assert "'=1+1" in text and "'@x" in text


@given(st.sets(st.text("abcdefgh", min_size=1, max_size=6), max_size=COLOURS))
def test_queues_have_colours_of_their_own_as_long_as_there_are_enough(names: set[str]) -> None:
    given_ = colours(names)
    assert set(given_) == names and len(set(given_.values())) == len(names)
    assert set(given_.values()) <= set(range(COLOURS))
    assert colours(sorted(names, reverse=True)) == given_


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3599, "1 h 00"),
        (11_000, "3 h 03"),
        (200_000, "2 d 7 h"),
        (None, "–"),
    ],
)
def test_spans_of_time_have_one_or_two_units(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


def test_a_range_of_times_names_the_day_once() -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    soon = words.until(now.replace(hour=14, minute=20), now.replace(hour=14, minute=55), now)
    assert str(soon.striptags()) == "14:20–14:55"
    late = words.until(now.replace(day=26, hour=1), now.replace(day=26, hour=9), now)
    assert str(late.striptags()) == "Thu 01:00–09:00"


def test_names_of_others_are_told_as_another_job() -> None:
    text = 'a/x and b/y-1, "b/z", /jobs/b/y, registry.b/y, b/w/v; 1/2 b/'
    told = 'a/x and another job, "another job", /jobs/b/y, registry.b/y, b/w/v; 1/2 b/'
    assert conceal(text, {"b"}) == told
    assert conceal(text, ()) == text


# -- what has changed --------------------------------------------------------------------------------------


def test_a_listener_hears_of_what_changed_since_it_last_heard(small: Cluster) -> None:
    served = Served(small)
    stage, token = served.stage, served.stage.token
    assert stage.since(token).topics == ()
    served.show()
    assert stage.token != token and stage.since(token).topics == ()
    job = next(j for j in small.world.all_jobs() if j.status.queue is not None)
    small.write(job, job.status)
    served.show()
    assert set(stage.since(token).topics) == {"jobs", "queues"}
    assert stage.since(stage.token).topics == ()
    assert stage.since("another-7").topics == TOPICS
    assert stage.since("").topics == ()


async def test_who_waits_for_the_next_look_is_woken(small: Cluster) -> None:
    stage = Stage()
    waiting = asyncio.create_task(stage.next())
    await asyncio.sleep(0)
    stage.show(*draw(small.world, small.picture, surroundings(small), NOW, 1))
    await asyncio.wait_for(waiting, 10)


def test_a_look_stays_as_it_is_while_the_world_goes_on() -> None:
    cluster = Cluster.small(jobs=12)
    look, _ = draw(cluster.world, cluster.picture, surroundings(cluster), NOW, 1)
    before = {job.uid: job for job in look.scene.world.all_jobs()}
    for job in list(cluster.world.all_jobs()):
        cluster.world.jobs.forget(job.key.namespace, job.key.name, job.uid)
    assert {job.uid: job for job in look.scene.world.all_jobs()} == before != {}
    assert len(look.seen_by(None).jobs.items) == len(before)


def test_rows_kept_from_look_to_look_are_those_of_a_look_without_memory() -> None:
    cluster = Cluster.small(jobs=30)
    chance = Random(5)
    rows: views.Known = {}
    for version in range(1, 8):
        jobs = sorted(cluster.world.all_jobs(), key=lambda job: job.key)
        for job in chance.sample(jobs, 3):
            status = job.status
            if status.queue is not None and chance.random() < 0.7:
                place = status.queue.model_copy(update={"position": chance.randint(1, 9)})
                cluster.write(job, status.model_copy(update={"queue": place}))
            elif chance.random() < 0.5:
                cluster.world.jobs.forget(job.key.namespace, job.key.name, job.uid)
            else:
                cluster.write(job, status.model_copy(update={"assignments": (), "queue": None}))
        now, around = NOW + 60 * version, surroundings(cluster)
        kept, _ = draw(cluster.world, cluster.picture, around, now, version, rows)
        bare, _ = draw(cluster.world, cluster.picture, around, now, version)
        assert kept.seen_by(None).jobs == bare.seen_by(None).jobs
        assert set(rows) == {job.uid for job in cluster.world.all_jobs()}
        some = frozenset({"nlp", "data"})
        apart = views.jobs(bare.scene.as_seen_by(some))
        assert kept.seen_by(some).jobs == apart and apart.hidden_jobs > 0


# -- bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "packs"),
    [("gzip, deflate, br", True), ("GZIP;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_a_body_is_packed_for_who_can_unpack_it(accepted: str, packs: bool) -> None:
    body = "äöü " * 2000
    packed, headers = pack(body, accepted)
    assert headers["Vary"] == "Accept-Encoding" and ("Content-Encoding" in headers) == packs
    assert (gzip.decompress(packed) if packs else packed).decode() == body
    assert len(packed) < 500 or not packs
    assert pack("short", accepted) == (b"short", {"Vary": "Accept-Encoding"})


# -- the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--listen", "8080"), "give host and port"),
        (("--listen", "0.0.0.0:8080", "--auth", "none-on-loopback"), "can be reached from outside"),
        (("--auth", "proxy"), "needs --proxy-secret-file"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(arguments: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and says in " ".join(result.output.split())


def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("short\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["--auth", "proxy", "--proxy-secret-file", str(file)])
    assert result.exit_code == 2 and "16 characters or more" in " ".join(result.output.split())
