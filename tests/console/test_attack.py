"""What a stranger would try: markup in names, YAML that explodes, odd links, files beside, others' data."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from drse_forecaster.contract import ForecastList
from drse_operator.api import times
from drse_operator.cluster import kinds
from drse_operator.observe.console.access import Viewer
from drse_operator.observe.console.address import part
from drse_operator.observe.console.look import Source
from drse_operator.observe.console.pages import decisions
from drse_operator.observe.console.stage import TOPICS
from drse_operator.outside.alerts import Alert
from tests.console.serving import Listening, Served
from tests.console.stagehand import NOW, Cluster

EVIL = "</td><script>hacked()</script><img src=x onerror=hacked()>\"'><b>{{7*7}}"
PAGES = (
    *("/", "/jobs?view=all", "/queues", "/queues/batch", "/gpus", "/forecast", "/decisions", "/whatif"),
    *("/reports?by=user", "/reports?by=model", "/health", "/jobs/data/evil"),
)
#: Long enough for any machine, and short against what is to be kept out.
PATIENCE = 60.0


def client_of(served: Served) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(served.application())
    return httpx.AsyncClient(transport=transport, base_url="http://console", timeout=PATIENCE)


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(served) as found:
        yield found


class Elements(HTMLParser):
    """Elements and attributes of a page, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def hostile() -> Served:
    """A cluster in which whatever somebody may write says something evil."""
    cluster = Cluster.small(jobs=24)
    spec = {
        "taskType": "Batch",
        "queue": "batch",
        "resources": {"gpusPerReplica": 1},
        "runtime": {"image": "registry.example.com/engine:1", "engine": "Custom"},
    }
    failed = {"type": "Failed", "status": "True", "reason": "Failed", "message": EVIL}
    status: dict[str, Any] = {
        "phase": "Queued",
        "queuedAt": times.to_wire(NOW - 600),
        "queue": {"reason": EVIL, "message": EVIL, "position": 1},
        "conditions": [failed],
    }
    metadata = {"namespace": "data", "name": "evil", "annotations": {"drse.dev/submitted-by": EVIL}}
    cluster.put(kinds.DEEPSEEKJOB, {"metadata": metadata, "spec": spec, "status": status})
    served = Served(cluster)
    last = served.around.records[-1]
    bad = last.model_copy(
        update={"namespace": "data", "job": "evil", "by": EVIL, "effect": EVIL, "numbers": {EVIL: 1.0}}
    )
    day = next(iter(served.around.periods))
    account, tally = next(iter(served.around.periods[day].items()))
    evil = account._replace(user=EVIL, model=EVIL, queue=EVIL)
    assert served.around.forecasts is not None
    forecast = served.around.forecasts.forecasts[0].model_copy(update={"reason": EVIL, "model": EVIL})
    served.around = replace(
        served.around,
        leader=EVIL,
        alerts=(Alert(EVIL, "critical", EVIL),),
        sources=(Source("prometheus", EVIL, trouble=EVIL), Source("forecaster", EVIL, NOW)),
        records=(*served.around.records, bad),
        periods={**served.around.periods, day: {**served.around.periods[day], evil: tally}},
        forecasts=ForecastList(generated_at=served.around.forecasts.generated_at, forecasts=(forecast,)),
    )
    served.show()
    return served


async def test_markup_that_somebody_wrote_is_text_on_every_page() -> None:
    served = hostile()
    look = served.stage.look
    assert look is not None
    evil = next(row for row in look.seen_by(None).decisions.items if row.job == "evil")
    told = 0
    async with client_of(served) as client:
        for path in (
            *PAGES,
            decisions.path(evil),
            f"/gpus?q={part(EVIL)}",
            f"/jobs?user={part(EVIL)}&view=all",
        ):
            response = await client.get(path)
            assert response.status_code == 200, path
            told += response.text.count("hacked()")
            for tag, attributes in Elements(response.text).seen:
                assert tag not in ("img", "b", "iframe", "object"), f"{path}: {tag}"
                assert not [name for name in attributes if name.startswith("on")], f"{path}: {attributes}"
                assert tag != "script" or (attributes.get("src") or "").startswith("/static/"), path
            assert "49" not in re.findall(r"<b>(\d+)", response.text)
    assert told > 20  # it was there to be seen


async def test_what_others_wrote_is_no_formula_in_any_table() -> None:
    served = hostile()
    served.around = replace(
        served.around,
        records=tuple(r.model_copy(update={"effect": "=HYPERLINK(1)"}) for r in served.around.records),
    )
    served.show()
    async with client_of(served) as client:
        for path in ("/jobs.csv?view=all", "/gpus.csv", "/decisions.csv", "/reports.csv?by=user"):
            text = (await client.get(path)).text
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert cells and not [c for c in cells if c[:1] in ("=", "@") or c.startswith(("+1", "-1 "))]


# -- YAML --------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
JOB = "apiVersion: drse.dev/v1alpha1\nkind: DeepSeekJob\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{JOB}metadata: {{name: x}}\n{LAUGHS}spec: {{taskType: *a9}}", "with its aliases written out"),
        (f"{JOB}metadata: {{name: x}}\nspec: &s {{taskType: *s}}", "holds itself"),
        ("[" * 20_000, "cannot be read as YAML|nested too deeply"),
        ("{a: " * 5_000 + "1" + "}" * 5_000, "nested too deeply"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        (f"{JOB}metadata: {{name: x}}\nspec: {{replicas: {'9' * 5000}}}", "a value that YAML cannot hold"),
        (f"{JOB}metadata: {{name: x}}\nspec: {{ttl: 2001-99-99}}", "a value that YAML cannot hold"),
        (f"{JOB}metadata: 5\n", "without metadata.name"),
        (f"{JOB}metadata: {{name: [a]}}\n", "metadata.name is no name"),
        (f"{JOB}metadata: {{name: x, namespace: {{a: b}}}}\n", "metadata.namespace is no name"),
        (f"{JOB}metadata: {{name: <img>}}\n", "metadata.name is no name"),
        (f"{JOB}metadata: {{name: x}}\nspec: 5\n", "would be refused"),
        (f"{JOB}metadata: {{name: x}}\nspec: {{taskType: Batch, replicas: 1000000}}\n", "would be refused"),
        ("? [a, {b: c}]\n: d", "a value that YAML cannot hold|cannot be read as YAML|something else"),
        ("a\0b", "cannot be read as YAML"),
    ],
    ids=lambda value: None if "apiVersion" in value or len(value) > 40 else value,
)
async def test_yaml_that_means_harm_is_refused_in_a_sentence(
    client: httpx.AsyncClient, text: str, says: str
) -> None:
    async with asyncio.timeout(PATIENCE):
        response = await client.get("/whatif.json", params={"job": text})
    assert response.status_code == 200, response.text[:300]
    assert re.search(says, response.json()["trouble"]), response.json()["trouble"][:300]
    assert len(response.json()["trouble"]) < 2000


@pytest.mark.parametrize(
    "text",
    [
        "queue.batch.weight=[",
        "queue.batch.weight=&a [*a]",
        "queue.batch.weight=1e400",
        "queue..x=1",
        "job./.a=1",
        "=",
    ],
)
async def test_a_setting_that_cannot_be_read_is_refused_in_a_sentence(
    client: httpx.AsyncClient, text: str
) -> None:
    response = await client.get("/whatif.json", params={"set": text})
    assert response.status_code == 200 and response.json()["trouble"] and not response.json()["answer"]


# -- links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "/jobs?page=" + "9" * 4000,
        "/jobs?q=" + "a+" * 20_000,
        "/jobs?columns=" + "job," * 5_000,
        "/gpus?q=%ff%fe%00&node=%00",
        "/jobs?sort=--&group=__class__&columns=__init__",
        "/reports?by=" + "queue,user,model," * 500,
        "/reports?from=99999999d",
        "/whatif?weight.batch=-1",
        "/whatif?weight.batch=%00",
        "/whatif?weight.none=2",
        "/decisions?since=1h&kind=" + "x" * 10_000,
    ],
    ids=lambda url: url[:30],
)
async def test_an_odd_link_is_answered_all_the_same(client: httpx.AsyncClient, url: str) -> None:
    assert (await client.get(url)).status_code == 200
    assert (await client.get(url.replace("?", ".json?"))).status_code == 200


async def test_a_link_with_too_many_parameters_is_told_so(client: httpx.AsyncClient) -> None:
    response = await client.get("/jobs?" + "&".join(f"queue=q{n}" for n in range(500)))
    assert response.status_code == 400 and "at most 200 parameters" in response.text


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../web.py", "/static/%2e%2e/web.py", "/static/..%2fweb.py", "/static/%2e%2e%2fweb.py"),
        *(
            "/static//etc/passwd",
            "/static/%2fetc%2fpasswd",
            "/static/..%5cweb.py",
            "/static/console.css%00.js",
        ),
        *(
            "/jobs/%2e%2e/%2e%2e",
            "/jobs/..%2f..%2f/x",
            "/queues/%2e%2e",
            "/decisions/%2e%2e%2f",
            "/jobs/%ff/%00",
        ),
    ],
)
async def test_there_is_no_way_to_files_beside_the_pages(served: Served, path: str) -> None:
    """As it comes over the wire: clients would tidy such a path up before they send it."""
    response = await raw(served, path)
    assert response["status"] in (400, 404), response
    assert b"Starlette" not in response["body"] and b"root:" not in response["body"]


async def raw(served: Served, path: str) -> dict[str, Any]:
    """One GET with exactly this path, percent-decoded as servers do."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"console")],
        "scheme": "http",
        "server": ("console", 80),
        "http_version": "1.1",
        "root_path": "",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await served.application()(scope, receive, send)
    body = b"".join(m.get("body", b"") for m in sent)
    return {"status": sent[0]["status"], "body": body}


@pytest.mark.parametrize("path", ["/jobs", "/whatif", "/jobs.json", "/events", "/"])
async def test_nothing_is_written_by_any_method(client: httpx.AsyncClient, path: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await client.request(method, path, content=b"x" * 100)).status_code == 405


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\t/evil.example", "/\\evil.example", "https:evil.example"]
)
async def test_changing_the_theme_leads_nowhere_else(client: httpx.AsyncClient, target: str) -> None:
    response = await client.post("/theme", data={"theme": "dark", "next": target})
    assert (response.status_code, response.headers["location"]) == (303, "/")


# -- others' data ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tenant(small: Cluster) -> Served:
    return Served(small, Viewer("system:serviceaccount:nlp:dev", frozenset({"nlp"})))


async def test_tables_and_decisions_name_no_job_of_others(small: Cluster, tenant: Served) -> None:
    own = {j.key.name for j in small.world.all_jobs() if j.key.namespace == "nlp"}
    foreign = {j.key.name for j in small.world.all_jobs()} - own
    look = tenant.stage.look
    assert look is not None
    every = look.seen_by(None).decisions.items
    mine = [d for d in every if d.namespace == "nlp"]
    theirs = [d for d in every if d.namespace != "nlp"]
    async with client_of(tenant) as client:
        urls = ["/jobs.csv?view=all", "/gpus.csv", "/decisions.csv", "/forecast.csv", "/reports.csv?by=user"]
        urls += ["/queues.csv", *(f"/queues/{q}.csv" for q in ("research", "production", "training"))]
        urls += [decisions.path(d) + suffix for d in mine for suffix in ("", ".json")]
        for url in urls:
            response = await client.get(url)
            assert response.status_code == 200, url
            told = {name for name in foreign if re.search(rf"\b{re.escape(name)}\b", response.text)}
            assert not told, f"{url} names {told}"
        for decision in theirs:
            assert (await client.get(decisions.path(decision))).status_code == 404
    assert mine and theirs


async def test_a_what_if_tells_a_tenant_nothing_of_what_there_is(small: Cluster, tenant: Served) -> None:
    job = next(j for j in small.world.all_jobs() if j.key.namespace == "foundation")
    asked = [f"job.{job.key}.replicas=2", "job.foundation/no-such.replicas=2", f"job.{job.key}.replicas=x"]
    asked += ["queue.research.weight=9", "queue.none.weight=9"]
    async with client_of(tenant) as client:
        answers = {(await client.get("/whatif.json", params={"set": text})).text for text in asked}
        answers.add((await client.get("/whatif.json", params={"without": "no-such-node"})).text)
        answers.add((await client.get("/whatif.json", params={"weight.research": "9"})).text)
    assert len(answers) == 1 and "whole cluster" in answers.pop()


def test_the_stream_of_changes_names_nothing(tenant: Served) -> None:
    with (
        Listening(tenant.application()) as listening,
        httpx.Client(trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", f"{listening.url}/events?after=another-1") as stream,
    ):
        line = next(line for line in stream.iter_lines() if line.startswith("data: "))
    data = json.loads(line.removeprefix("data: "))
    assert set(data) == {"topics", "age"} and set(data["topics"]) == set(TOPICS)
