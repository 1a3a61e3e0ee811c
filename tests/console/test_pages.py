"""Every page in every format, over a constructed cluster; browsers and authentication have files beside."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from drse_operator.api import times
from drse_operator.api.status import MovedEta
from drse_operator.cli.main import cli
from drse_operator.observe.console.access import Viewer
from drse_operator.observe.console.look import Surroundings
from tests.console.serving import Served
from tests.console.stagehand import NOW, Cluster

PAGES = (
    *("/now", "/jobs", "/queues", "/queues/research", "/gpus", "/forecast", "/decisions", "/whatif"),
    *("/reports", "/health"),
)
TABLES = ("/jobs", "/queues", "/queues/research", "/gpus", "/forecast", "/decisions", "/reports")
#: A job that waits for its turn, one that runs and scales, one that can never start.
JOBS = ("WaitingForTurn", None, "ExceedsQueueLimit")


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(served.application()), base_url="http://console"
    ) as found:
        yield found


async def get(client: httpx.AsyncClient, url: str, status: int = 200) -> httpx.Response:
    response = await client.get(url)
    assert response.status_code == status, f"{url}: {response.text[:500]}"
    return response


async def items(client: httpx.AsyncClient, url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await get(client, url)).json()["items"]
    return found


async def job_paths(client: httpx.AsyncClient) -> list[str]:
    rows = await items(client, "/jobs.json?view=all")
    found = [next(r for r in rows if r["reason"] == reason and (reason or r["gpus"])) for reason in JOBS]
    return [f"/jobs/{row['namespace']}/{row['job']}" for row in found]


@pytest.mark.parametrize("path", ["/", *PAGES])
async def test_a_page_is_whole_and_loads_nothing_from_elsewhere(client: httpx.AsyncClient, path: str) -> None:
    response = await get(client, path)
    text = response.text
    assert response.headers["content-type"].startswith("text/html")
    assert text.rstrip().endswith("</html>") and text.count("<h1>") == 1 and 'id="main"' in text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    # What the policy would block must not be there either: inline styles, inline handlers, inline scripts.
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|<script(?![^>]* src=)", text)
    for target in re.findall(r'(?:src|href|action)="([^"]*)"', text):
        assert target.startswith(("/", "#")) and not target.startswith("//"), target


@pytest.mark.parametrize("path", PAGES)
async def test_the_same_url_as_json(client: httpx.AsyncClient, path: str) -> None:
    response = await get(client, f"{path}.json")
    assert response.headers["content-type"] == "application/json"
    assert isinstance(json.loads(response.text), dict)


@pytest.mark.parametrize("path", TABLES)
async def test_the_same_rows_as_csv(client: httpx.AsyncClient, path: str) -> None:
    response = await get(client, f"{path}.csv")
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    document = (await get(client, f"{path}.json")).json()
    found = document["waiting"]["items"] if "waiting" in document else document["items"]
    assert len(rows) == len(found) > 0


@pytest.mark.parametrize("path", ["/health.csv", "/whatif.csv"])
async def test_a_page_without_a_table_says_so(client: httpx.AsyncClient, path: str) -> None:
    assert "has no table" in (await get(client, path, 404)).json()["message"]


async def test_the_page_of_a_job_says_what_is_known_of_it(client: httpx.AsyncClient, small: Cluster) -> None:
    for path in await job_paths(client):
        text = (await get(client, path)).text
        document = (await get(client, f"{path}.json")).json()
        why, name = document["why"], path.rsplit("/", 1)[1]
        assert why["says"].split(" ")[0] in text and f"drse why {name} -n " in text
        for gpu in document["gpus"]:
            assert (gpu["uuid"] or gpu["node"]) in text
        (written,) = re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.S)
        shown = yaml.safe_load(html.unescape(written))
        assert shown["metadata"]["name"] == name and shown["spec"] == document["spec"]


async def test_a_waiting_job_is_told_what_would_start_it(client: httpx.AsyncClient) -> None:
    waiting = (await job_paths(client))[0]
    document = (await get(client, f"{waiting}.json?suggest=yes")).json()
    text = (await get(client, f"{waiting}?suggest=yes")).text
    assert document["why"]["reason"] == "WaitingForTurn" and document["why"]["position"] >= 1
    found = document["why"]["suggestions"]
    assert ("Would start now with" in text) if found else ("No small change" in text)


async def test_a_start_that_moved_says_from_when_by_how_much_and_why() -> None:
    cluster = Cluster.small(jobs=40)
    job = next(j for j in cluster.world.all_jobs() if j.status.queue and j.status.queue.eta)
    queue = job.status.queue
    assert queue is not None and queue.eta is not None and queue.eta.p50 is not None and job.spec is not None
    was = times.to_wire(times.from_wire(queue.eta.p50) - 2100)
    moved = MovedEta(
        at=times.to_wire(NOW - 300), p50=was, p90=was, reason="JobArrivedAhead", message="nlp/x arrived ahead"
    )
    told = queue.model_copy(update={"eta": queue.eta.model_copy(update={"moved": moved})})
    cluster.world.jobs.put(cluster._document(job, job.status.model_copy(update={"queue": told})))
    moving = Served(cluster)
    transport = httpx.ASGITransport(moving.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        text = (await get(client, f"/jobs/{job.key}")).text
        assert "Was expected" in text and "35 min later" in text and "nlp/x arrived ahead" in text
        queued = (await get(client, f"/queues/{job.spec.queue}")).text
        assert "+35 min" in queued and "nlp/x arrived ahead" in queued


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/jobs/nlp/no-such-job", "/queues/none", "/jobs/a/b/c", "/static/none.js", "/jobs.xml"],
)
async def test_what_is_not_there(client: httpx.AsyncClient, path: str) -> None:
    await get(client, path, 404)


async def test_filter_sort_group_and_search_stand_in_the_url(client: httpx.AsyncClient) -> None:
    every = await items(client, "/jobs.json?view=all")
    research = await items(client, "/jobs.json?view=all&queue=research&queue=batch")
    assert {r["queue"] for r in research} == {"research", "batch"}
    assert len(research) == sum(r["queue"] in ("research", "batch") for r in every)
    gpus = [r["gpus"] for r in await items(client, "/jobs.json?view=running&sort=-gpus")]
    assert gpus == sorted(gpus, reverse=True) and gpus[0] > gpus[-1]
    some = await items(client, f"/jobs.json?view=all&q={every[3]['job']}")
    assert [r["job"] for r in some] == [every[3]["job"]]
    text = (await get(client, "/jobs?view=all&group=queue&queue=batch&columns=job,user,gpus")).text
    assert re.findall(r'<tr class="group"', text) == ['<tr class="group"'] and "queue: batch" in text
    assert re.findall(r'<th scope="col".*?<a [^>]*>([A-Za-z]+)', text) == ["Job", "User", "GPUs"]


async def test_what_cannot_be_read_in_a_url_is_left_out(client: httpx.AsyncClient) -> None:
    usual = (await get(client, "/jobs.json")).text
    odd = "/jobs.json?sort=nothing&page=-3&columns=none&group=gpus&view=unknown&q=%20"
    assert (await get(client, odd)).text == usual
    await get(client, "/jobs?page=99999999999999999999&sort=-&columns=,,&q=%00%ff%3Cscript%3E")
    assert (
        "<script>"
        not in (await get(client, "/jobs?q=%3Cscript%3Ealert(1)%3C/script%3E")).text.split("</head>")[1]
    )


async def test_who_holds_a_gpu_is_found_by_its_uuid(client: httpx.AsyncClient, small: Cluster) -> None:
    job = next(j for j in small.world.all_jobs() if any(a.devices for a in j.status.assignments))
    device = next(a for a in job.status.assignments if a.devices).devices[0]
    (row,) = await items(client, f"/gpus.json?q={device.uuid}")
    assert (row["namespace"], row["job"], row["state"]) == (job.key.namespace, job.key.name, "Held")
    assert row["uuid"] == device.uuid and row["queue"] == job.spec.queue  # type: ignore[union-attr]


async def test_every_gpu_is_in_the_grid_once(client: httpx.AsyncClient, small: Cluster) -> None:
    for colour in ("queue", "state", "use"):
        text = (await get(client, f"/gpus?colour={colour}")).text
        assert len(re.findall(r'class="gpu ', text)) == sum(g.count for g in small.picture.fleet.gpus) == 104


async def test_a_queue_has_one_colour_on_all_pages(client: httpx.AsyncClient) -> None:
    colours: dict[str, set[str]] = {}
    for path in ("/jobs?view=all", "/queues", "/gpus", "/decisions", "/reports"):
        text = (await get(client, path)).text
        for cls, name in re.findall(r'<span class="swatch (fill-\d)"></span>([a-z]+)', text):
            colours.setdefault(name, set()).add(cls)
    assert len(colours) == 5 and all(len(found) == 1 for found in colours.values())
    assert len({next(iter(found)) for found in colours.values()}) == 5


async def test_figures_agree_between_pages(client: httpx.AsyncClient) -> None:
    now = (await get(client, "/now.json")).json()["now"]
    shares = (await get(client, "/queues.json")).json()["items"]
    gpus = await items(client, "/gpus.json")
    jobs = await items(client, "/jobs.json?view=all")
    held = sum(row["count"] for row in gpus if row["state"] == "Held")
    assert now["heldGpus"] == held == sum(s["heldGpus"] for s in shares) == sum(j["gpus"] for j in jobs)
    assert now["waitingJobs"] == sum(j["reason"] is not None for j in jobs)
    told = re.findall(
        r'<span class="muted">free</span><span class="num">(\d+)</span>', (await get(client, "/queues")).text
    )
    assert told == [str(now["freeGpus"])]


async def test_what_if_answers_and_keeps_the_question(client: httpx.AsyncClient) -> None:
    document = {
        "apiVersion": "drse.dev/v1alpha1",
        "kind": "DeepSeekJob",
        "metadata": {"name": "asked", "namespace": "nlp"},
        "spec": {
            "taskType": "Batch",
            "queue": "research",
            "resources": {"gpusPerReplica": 4},
            "runtime": {"image": "a/b:1"},
        },
    }
    question = {"job": yaml.safe_dump(document), "set": "queue.research.weight=9", "without": "h100-0"}
    response = await client.get("/whatif.json", params=question)
    answer = response.json()["answer"]
    assert response.json()["trouble"] == "" and [i["job"] for i in answer["items"]] == ["asked"]
    assert answer["items"][0]["outcome"] in ("Starts", "Preempts", "Waits")
    text = (await client.get("/whatif", params=question)).text
    assert "queue.research.weight=9" in text and "name: asked" in text and "<option selected>h100-0" in text
    assert "drse whatif -f job.yaml --set queue.research.weight=9 --without h100-0" in text


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"set": "research.weight=2"}, "write queue.NAME.FIELD=VALUE"),
        ({"set": "queue.research.weight=-2"}, "would be refused"),
        ({"without": "no-node"}, "there is no node no-node"),
        ({"job": "kind: ["}, "cannot be read as YAML"),
        ({"job": "just a sentence"}, "holds something else"),
    ],
)
async def test_a_what_if_that_cannot_be_read_says_what_to_write(
    client: httpx.AsyncClient, question: dict[str, str], says: str
) -> None:
    assert says in (await client.get("/whatif.json", params=question)).json()["trouble"]
    assert (await client.get("/whatif", params=question)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *PAGES,
        "/jobs?view=waiting&queue=research",
        "/gpus?node=h100-0&state=Free&q=GPU-1",
        "/decisions?kind=Deny&queue=research&since=6h",
        "/reports?by=user&from=30d",
        "/whatif?set=queue.research.weight%3D4&without=h100-0",
    ],
)
async def test_the_command_that_asks_the_same_is_one(client: httpx.AsyncClient, path: str) -> None:
    (written,) = re.findall(r'<code id="cli">(.*?)</code>', (await get(client, path)).text)
    words = shlex.split(html.unescape(written))
    if words[0] == "drse":
        result = CliRunner().invoke(cli, [*words[1:], "--help"])
        assert result.exit_code == 0, result.output


async def test_a_link_cannot_put_a_command_of_its_own_into_the_one_to_copy(client: httpx.AsyncClient) -> None:
    text = (await client.get("/gpus", params={"node": "x; rm -rf ~"})).text
    (written,) = re.findall(r'<code id="cli">(.*?)</code>', text)
    assert shlex.split(html.unescape(written)) == ["drse", "gpus", "--node", "x; rm -rf ~"]


async def test_without_prometheus_and_forecaster_pages_say_so(small: Cluster) -> None:
    bare = Served(small)
    bare.around = Surroundings()
    bare.show()
    transport = httpx.ASGITransport(bare.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        for path in ("/", *PAGES):
            await get(client, path)
        assert "no Prometheus is configured" in (await get(client, "/")).text
        assert "no forecaster is configured" in (await get(client, "/forecast")).text
        assert (await get(client, "/now.json")).json()["now"]["heldIdleGpus"] is None


async def test_an_old_picture_says_how_old_it_is(small: Cluster) -> None:
    old = Served(small)
    transport = httpx.ASGITransport(old.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        assert "does not answer" not in (await get(client, "/jobs")).text
        old.age = 300
        text = (await get(client, "/jobs")).text
        assert "The API server does not answer" in text and "5 min old" in text


async def test_a_tenant_reads_no_name_of_others_anywhere(small: Cluster) -> None:
    tenant = Served(small, Viewer("system:serviceaccount:nlp:dev", visible := frozenset({"nlp", "assist"})))
    jobs = list(small.world.all_jobs())
    own = [j for j in jobs if j.key.namespace in visible]
    foreign = {j.key.name for j in jobs if j.key.namespace not in visible} - {j.key.name for j in own}
    users = {j.user for j in jobs} - {j.user for j in own}
    transport = httpx.ASGITransport(tenant.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        mine = [f"/jobs/{j.key.namespace}/{j.key.name}" for j in own]
        for path in (*PAGES, "/jobs?view=all", "/gpus?colour=use", *mine):
            for url in (path, path.replace("?", ".json?") if "?" in path else f"{path}.json"):
                text = (await get(client, url)).text
                told = {name for name in foreign if re.search(rf"\b{re.escape(name)}\b", text)}
                assert not told, f"{url} names {told}"
        # Sentences of the operator that would name somebody else are told without the name.
        assert "another job goes first" in (await get(client, "/jobs.json?view=all")).text
        rows = await items(client, "/jobs.json?view=all")
        assert {r["namespace"] for r in rows} == visible and len(rows) == len(own)
        document = (await get(client, "/jobs.json")).json()
        assert document["hiddenJobs"] == len(jobs) - len(own)
        report = (await get(client, "/reports.json?by=user")).text
        assert not [user for user in users if user in report]
        for job in jobs:
            if job.key.namespace not in visible:
                await get(client, f"/jobs/{job.key.namespace}/{job.key.name}", 404)
        shares = (await get(client, "/queues.json")).json()["items"]
        assert {s["queue"] for s in shares} == {"production", "research", "training", "batch", "students"}
        question = {"set": "queue.research.weight=9"}
        assert "whole cluster" in (await client.get("/whatif.json", params=question)).json()["trouble"]
