"""What is closed while jobs wait for it is told on the pages, with the command that opens it again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import httpx
import pytest

from drse_local.fleet import load_fleet
from drse_local.nodes import node_manifest, node_status
from drse_operator.api.enums import Phase
from drse_operator.api.memory import ToldStarts
from drse_operator.cluster import kinds
from drse_operator.observe.accounts import UNKNOWN, Account, Tally, day_of
from drse_operator.observe.console.access import Viewer
from drse_operator.observe.console.pages.forecast import verdict
from tests.console.serving import Served
from tests.console.stagehand import NOW, QUEUES, Cluster

NODE = "h200-0"


@pytest.fixture(scope="module")
def closed() -> Cluster:
    """A queue with waiting jobs is cordoned, and so is a node with a GPU that is free."""
    cluster = Cluster.small()
    cluster.put(
        kinds.GPUQUEUE, {"metadata": {"name": "training"}, "spec": {**QUEUES["training"], "cordoned": True}}
    )
    node = next(node for node in load_fleet("default").nodes if node.name == NODE)
    document = {**node_manifest(node), "status": node_status(node)["status"]}
    document["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    document["spec"] = {**document.get("spec", {}), "unschedulable": True}
    cluster.put(kinds.NODE, document)
    cluster.settle()
    return cluster


async def seen(served: Served, *paths: str) -> list[httpx.Response]:
    """The pages at these paths."""
    transport = httpx.ASGITransport(served.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        return [await client.get(path) for path in paths]


def rows_of(response: httpx.Response) -> dict[tuple[str, str], Any]:
    return {(row["what"], row["name"]): row for row in response.json()["closed"]}


async def test_a_cordoned_node_that_jobs_could_use_needs_a_person(closed: Cluster) -> None:
    now, page, gpus, health = await seen(Served(closed), "/now.json", "/", "/gpus", "/health")
    row = rows_of(now)["Node", NODE]
    assert row["gpus"] >= 1 and row["waitingJobs"] >= 1 and row["remedy"] == f"kubectl uncordon {NODE}"
    assert row["says"].startswith(f"{NODE} is cordoned: {row['gpus']} GPU")
    for response in (page, gpus, health):
        assert row["says"] in response.text and row["remedy"] in response.text
    assert f"GPUs out of service ({row['gpus']})" in now.json()["verdict"]


async def test_a_node_that_nobody_waits_for_needs_nobody(closed: Cluster) -> None:
    # Its GPUs are all held: to open it again would give nobody any.
    (now,) = await seen(Served(closed), "/now.json")
    held = load_fleet("default").nodes[9].name
    assert ("Node", held) not in rows_of(now)


async def test_a_cordoned_queue_is_marked_wherever_it_stands(closed: Cluster) -> None:
    waits = [job for job in closed.world.all_jobs() if job.status.queue is not None]
    stopped = next(j for j in waits if j.status.queue and j.status.queue.reason == "QueueCordoned")
    now, queues, queue, job = await seen(
        Served(closed), "/now.json", "/queues", "/queues/training", f"/jobs/{stopped.key}"
    )
    assert rows_of(now)["Queue", "training"]["remedy"] == "drse uncordon training"
    assert len(re.findall(r'<span class="tag">cordoned', queues.text)) == 2  # in the picture and in the table
    assert "Cordoned: none of its" in queue.text and "drse uncordon training" in queue.text
    assert "not while queue training is cordoned" in job.text


async def test_that_all_starts_were_on_time_is_no_fault(closed: Cluster) -> None:
    for judged, kept, state in ((5, 1, "Unknown"), (40, 40, "Good"), (40, 20, "Watch")):
        cluster = Cluster.small(jobs=10)
        queue = next(q for q in cluster.world.queues.values() if q.name == "batch")
        assert queue.spec is not None
        status = queue.status.model_copy(update={"told": ToldStarts(judged=judged, kept=kept)})
        cluster.put(
            kinds.GPUQUEUE,
            {"metadata": {"name": "batch"}, "spec": queue.spec.to_wire(), "status": status.to_wire()},
        )
        (health,) = await seen(Served(cluster), "/health.json")
        checks = {check["name"]: check["state"] for check in health.json()["checks"]}
        assert checks["Starts as told"] == state


async def test_a_report_says_why_users_are_not_known_and_what_to_set(closed: Cluster) -> None:
    served = Served(closed)
    before, by_queue = await seen(served, "/reports?by=user", "/reports")
    assert "stampSubmitter" not in before.text + by_queue.text
    account = Account("research", "nlp", UNKNOWN, "", "Batch", "H200")
    tallies = {**served.around.periods[day_of(NOW)], account: Tally(held=4e7)}
    served.around = replace(served.around, periods={**served.around.periods, day_of(NOW): tallies})
    served.show()
    after, by_queue = await seen(served, "/reports?by=user", "/reports")
    assert "accounting.stampSubmitter=true" in after.text and "stampSubmitter" not in by_queue.text


async def test_seven_days_are_those_of_the_command(closed: Cluster) -> None:
    served = Served(closed)
    (report,) = await seen(served, "/reports.json?from=7d")
    document = report.json()
    assert (document["firstDay"], document["lastDay"]) == (day_of(NOW - 7 * 86_400), day_of(NOW))


async def test_a_tenant_is_told_what_works_for_them(closed: Cluster) -> None:
    served = Served(closed, Viewer("ann", frozenset({"nlp"})))
    paths = ("/", "/jobs", "/queues", "/gpus", "/forecast", "/decisions", "/reports", "/health")
    for page in await seen(served, *paths):
        (written,) = re.findall(r'<code id="cli">(.*?)</code>', page.text)
        assert " -n nlp" in written and " -A" not in written
    whatif, gpus = await seen(served, "/whatif", "/gpus")
    assert "<textarea" not in whatif.text and "ClusterRoleBinding" in whatif.text
    assert "held by others" in gpus.text and "gpu gpu-others" in gpus.text


async def test_what_could_not_start_without_its_nodes_never_does(closed: Cluster) -> None:
    names = sorted(node.name for node in load_fleet("default").nodes)
    query = "&".join(f"without={name}" for name in names)
    answer, page = await seen(Served(closed), f"/whatif.json?{query}", f"/whatif?{query}")
    never = [shift["job"] for shift in answer.json()["answer"]["shifts"] if shift["neverThen"]]
    assert never and '<td class="num">never</td>' in page.text


async def test_the_forecast_counts_jobs_that_scale_and_none_that_have_ended() -> None:
    cluster = Cluster.small(jobs=40)
    served = Served(cluster)
    (before,) = await seen(served, "/forecast.json")
    gone = before.json()["items"][0]
    job = cluster.world.jobs.get(gone["namespace"], gone["job"])
    assert job is not None
    cluster.world.jobs.put(cluster._document(job, job.status.model_copy(update={"phase": Phase.SUCCEEDED})))
    served.show()
    (after,) = await seen(served, "/forecast.json")
    names = {(row["namespace"], row["job"]) for row in after.json()["items"]}
    assert (gone["namespace"], gone["job"]) not in names and names
    assert verdict((), "Answered").startswith("No job scales")
