"""Who sees what: real tokens of service accounts, judged by the real API server, over the real console."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml
from starlette.requests import HTTPConnection

from drse_local.threaded import ThreadedCluster
from drse_operator.cluster.client import KubeApi, load_configuration
from drse_operator.observe.console.access import Denied, LoopbackGate, ProxyGate, Reviews, User
from tests.console.serving import free_port

pytestmark = pytest.mark.cluster

CRDS = Path(__file__).parents[2] / "crds"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The console over a cluster with jobs of two teams, and tokens of three people."""

    cluster: ThreadedCluster
    url: str
    admin: str = field(repr=False)
    tenant: str = field(repr=False)
    stranger: str = field(repr=False)

    def get(self, path: str, token: str = "", **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{self.url}{path}", headers=sent | headers, trust_env=False, timeout=20)


def manifests() -> str:
    documents: list[dict[str, Any]] = []
    for team in ("red", "blue"):
        documents.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"console-{team}"}})
        spec = {
            "taskType": "Batch",
            "queue": "console",
            "resources": {"gpusPerReplica": 1},
            "runtime": {"engine": "Custom", "image": "registry.example/job:1"},
        }
        metadata = {"name": f"{team}-job", "namespace": f"console-{team}"}
        kind = {"apiVersion": "drse.dev/v1alpha1", "kind": "DeepSeekJob"}
        documents.append({**kind, "metadata": metadata, "spec": spec})
    queue = {"apiVersion": "drse.dev/v1alpha1", "kind": "GPUQueue", "metadata": {"name": "console"}}
    rules = [{"apiGroups": ["drse.dev"], "resources": ["deepseekjobs"], "verbs": ["list"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    documents += [queue | {"spec": {}}, role | {"metadata": {"name": "console-jobs"}, "rules": rules}]
    for name in ("admin", "tenant", "stranger"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount"}
        documents.append({**account, "metadata": {"name": name, "namespace": "console-red"}})
    return yaml.safe_dump_all(documents)


@pytest.fixture(scope="module")
def world(local_cluster: ThreadedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    kubectl = local_cluster.kubectl
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    names = ["crd/deepseekjobs.drse.dev", "crd/gpuqueues.drse.dev"]
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    kubectl("apply", "-f", "-", stdin=manifests())
    role = "--clusterrole=console-jobs"
    kubectl("create", "clusterrolebinding", "console-admin", role, "--serviceaccount=console-red:admin")
    kubectl(
        "create", "rolebinding", "tenant", role, "--serviceaccount=console-red:tenant", "-n", "console-red"
    )
    tokens = [
        kubectl("create", "token", name, "-n", "console-red").stdout.strip()
        for name in ("admin", "tenant", "stranger")
    ]
    port, log = free_port(), tmp_path_factory.mktemp("console") / "log"
    argv = [sys.executable, "-m", "drse_operator.observe.console", "--listen", f"127.0.0.1:{port}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*argv, "--kubeconfig", str(local_cluster.kubeconfig)], stdout=out, stderr=out
        )
    found = World(local_cluster, f"http://127.0.0.1:{port}", *tokens)
    try:
        eventually(lambda: _status(found, "/readyz"), lambda status: status == 200, log)
        yield found
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0, log.read_text()[-2000:]
        kubectl("delete", "-f", "-", "--wait=false", stdin=manifests())
        kubectl("delete", "clusterrolebinding", "console-admin")
    text = log.read_text()
    assert "Traceback" not in text, text[-3000:]
    assert not [token for token in tokens if token in text]


def eventually(look: Callable[[], T], check: Callable[[T], bool], log: Path | None = None) -> T:
    deadline = time.monotonic() + 60
    while not check(seen := look()):
        said = "" if log is None else log.read_text()[-2000:]
        assert time.monotonic() < deadline, f"last seen: {seen}\n{said}"
        time.sleep(0.2)
    return seen


def _status(world: World, path: str) -> int:
    try:
        return world.get(path).status_code
    except httpx.TransportError:
        return 0


def jobs(response: httpx.Response) -> set[str]:
    assert response.status_code == 200, response.text
    return {row["job"] for row in response.json()["items"] if row["namespace"].startswith("console-")}


@pytest.mark.parametrize("path", ["/", "/jobs.json", "/gpus.csv", "/events", "/jobs/console-red/red-job"])
def test_without_a_token_there_is_nothing(world: World, path: str) -> None:
    response = world.get(path)
    assert response.status_code == 401 and "registry.example" not in response.text
    response = world.get(path, "nonsense")
    assert response.status_code == 401 and "does not accept this token" in response.text


def test_an_administrator_sees_all_jobs(world: World) -> None:
    found = eventually(lambda: jobs(world.get("/jobs.json?view=all", world.admin)), bool)
    assert found == {"red-job", "blue-job"}
    assert world.get("/jobs/console-blue/blue-job", world.admin).status_code == 200


def test_a_tenant_sees_their_own_and_counts_of_others(world: World) -> None:
    response = world.get("/jobs.json?view=all", world.tenant)
    assert jobs(response) == {"red-job"} and response.json()["hiddenJobs"] >= 1
    assert world.get("/jobs/console-red/red-job", world.tenant).status_code == 200
    for path in ("/jobs/console-blue/blue-job", "/jobs/console-blue/blue-job.json"):
        assert world.get(path, world.tenant).status_code == 404
    for path in ("/", "/jobs", "/queues/console", "/gpus", "/decisions", "/forecast", "/reports", "/health"):
        response = world.get(path, world.tenant)
        assert response.status_code == 200 and "blue-job" not in response.text


def test_who_may_list_nothing_is_told_what_to_ask_for(world: World) -> None:
    for path in ("/", "/jobs.json", "/events"):
        response = world.get(path, world.stranger)
        assert response.status_code == 403 and "may list DeepSeekJobs in no namespace" in response.text


def test_a_browser_logs_in_and_out(world: World) -> None:
    with httpx.Client(base_url=world.url, trust_env=False, timeout=20) as browser:
        page = browser.get("/jobs?queue=console")
        assert page.status_code == 401 and 'name="token"' in page.text
        bad = browser.post("/login", data={"token": "nonsense", "next": "/jobs"})
        assert bad.status_code == 401 and not browser.cookies
        good = browser.post("/login", data={"token": world.tenant, "next": "/jobs?queue=console"})
        assert (good.status_code, good.headers["location"]) == (303, "/jobs?queue=console")
        cookie = good.headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and world.tenant not in cookie
        text = browser.get("/jobs?queue=console").text
        assert "red-job" in text and "system:serviceaccount:console-red:tenant" in text
        assert browser.post("/logout").status_code == 303
        assert browser.get("/jobs").status_code == 401


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x"]
)
def test_a_login_leads_nowhere_else(world: World, target: str) -> None:
    answer = httpx.post(f"{world.url}/login", data={"token": world.admin, "next": target}, trust_env=False)
    assert answer.headers["location"] == "/"


def test_a_form_of_another_site_logs_nobody_in(world: World) -> None:
    headers = {"Origin": "https://evil.example"}
    form = {"token": world.admin, "next": "/"}
    assert httpx.post(f"{world.url}/login", data=form, headers=headers, trust_env=False).status_code == 403


def test_changes_are_told_as_they_happen_and_a_listener_resumes(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.admin}"}
    with httpx.Client(base_url=world.url, trust_env=False, timeout=60, headers=headers) as client:
        token = client.get("/jobs").text.split('data-token="')[1].split('"')[0]
        with client.stream("GET", f"/events?after={token}") as stream:
            world.cluster.kubectl("label", "dsj", "red-job", "-n", "console-red", "touched=yes")
            seen = next(event for event in events(stream) if "jobs" in event[1])
        with client.stream("GET", "/events", headers={"Last-Event-ID": token}) as stream:
            again = next(events(stream))
    assert seen[0].split("-")[0] == token.split("-")[0] and seen[0] != token
    assert "jobs" in again[1]


def events(stream: httpx.Response) -> Iterator[tuple[str, list[str]]]:
    """Ids and topics."""
    name = ""
    for line in stream.iter_lines():
        if line.startswith("id: "):
            name = line.removeprefix("id: ")
        if line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))["topics"]


def test_reviews_cost_one_for_the_cluster_and_else_one_a_namespace_with_jobs(world: World) -> None:
    async def ask() -> tuple[list[int], set[str]]:
        async with KubeApi(await load_configuration(str(world.cluster.kubeconfig))) as api:
            reviews = Reviews(
                api, lambda: ["console-red", "console-blue"], lambda: ["default", "kube-system"]
            )
            sent = []
            for token in (world.admin, world.admin, world.tenant, world.tenant):
                before = reviews.sent
                viewer = await reviews.viewer(await reviews.owner(token))
                sent.append(reviews.sent - before)
            assert viewer.visible is not None
            return sent, set(viewer.visible)

    # A TokenReview each the first time; then the whole cluster, and for the tenant two namespaces more.
    assert world.cluster.run(ask()) == ([2, 0, 4, 0], {"console-red"})


SECRET = "a-secret-that-only-the-proxy-knows"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 401),
        ({"X-Forwarded-User": "proxied"}, 401),
        ({"X-DRSE-Proxy-Secret": "guess", "X-Forwarded-User": "proxied"}, 401),
        ({"X-DRSE-Proxy-Secret": SECRET}, 401),
        ({"X-DRSE-Proxy-Secret": SECRET, "X-Forwarded-User": "system:admin"}, 403),
        ({"X-DRSE-Proxy-Secret": SECRET, "X-Forwarded-User": "nobody"}, 403),
        (
            {
                "X-DRSE-Proxy-Secret": SECRET,
                "X-Forwarded-User": "nobody",
                "X-Forwarded-Groups": "system:masters",
            },
            403,
        ),
        ({"X-DRSE-Proxy-Secret": SECRET, "X-Forwarded-User": "proxied"}, {"console-red"}),
        (
            {
                "X-DRSE-Proxy-Secret": SECRET,
                "X-Forwarded-User": "nobody",
                "X-Forwarded-Groups": "staff, red-team",
            },
            {"console-red"},
        ),
    ],
)
def test_a_proxy_says_who_asks_if_it_proves_that_it_is_the_proxy(
    world: World, proxied: None, headers: dict[str, str], expected: int | set[str]
) -> None:
    async def ask() -> int | set[str]:
        async with KubeApi(await load_configuration(str(world.cluster.kubeconfig))) as api:
            gate = ProxyGate(Reviews(api, lambda: ["console-red", "console-blue"], lambda: []), SECRET)
            raw = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
            try:
                viewer = await gate.viewer(HTTPConnection({"type": "http", "headers": raw}))
            except Denied as denied:
                return denied.status
            return set(viewer.visible or ())

    assert world.cluster.run(ask()) == expected


@pytest.fixture(scope="module")
def proxied(world: World) -> Iterator[None]:
    """A user and a group without accounts in the cluster, who may list the jobs of one namespace."""
    binding = ("rolebinding", "proxied", "-n", "console-red")
    world.cluster.kubectl(
        "create", *binding, "--clusterrole=console-jobs", "--user=proxied", "--group=red-team"
    )
    yield
    world.cluster.kubectl("delete", *binding)


@pytest.mark.parametrize(
    ("host", "fine"), [("127.0.0.1:8080", True), ("localhost", True), ("evil.example", False)]
)
async def test_without_authentication_only_this_machine_is_answered(host: str, fine: bool) -> None:
    request = HTTPConnection({"type": "http", "headers": [(b"host", host.encode())]})
    if fine:
        assert (await LoopbackGate().viewer(request)).visible is None
    else:
        with pytest.raises(Denied, match="localhost only"):
            await LoopbackGate().viewer(request)


def test_what_is_taken_away_is_gone_when_the_answer_is_too_old(world: World) -> None:
    async def ask(reviews: Reviews) -> bool:
        try:
            await reviews.viewer(User("somebody"))
        except Denied as denied:
            assert denied.status == 403
            return False
        return True

    async def connect() -> tuple[KubeApi, Reviews]:
        api = KubeApi(await load_configuration(str(world.cluster.kubeconfig)))
        return api, Reviews(api, lambda: ["console-red"], lambda: [], seconds=0.1)

    api, reviews = world.cluster.run(connect())
    binding = ("rolebinding", "somebody", "-n", "console-red")
    try:
        assert not world.cluster.run(ask(reviews))
        world.cluster.kubectl("create", *binding, "--clusterrole=console-jobs", "--user=somebody")
        eventually(lambda: world.cluster.run(ask(reviews)), bool)
        world.cluster.kubectl("delete", *binding)
        eventually(lambda: world.cluster.run(ask(reviews)), lambda may: not may)
    finally:
        world.cluster.run(api.__aexit__(None, None, None))
