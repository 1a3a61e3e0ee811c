"""What the chart renders when asked for more: boards, network policies, the console, a test, CRDs alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from deploy.boards.all import BOARDS
from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.gpuqueue import GPUQueueSpec
from tests.helm.chart import (
    CHART,
    FULL_VALUES,
    NAMESPACE,
    REPOSITORY,
    Document,
    helm,
    identity,
    of_kind,
    render,
)

FULL = ("--values", str(FULL_VALUES))
CRDS_CHART = REPOSITORY / "helm" / "drse-crds"


# -- boards ------------------------------------------------------------------------------------------------


def boards(*args: str) -> dict[str, dict[str, Any]]:
    """The boards in ConfigMaps, by file name."""
    maps = of_kind(render("--set=dashboards.enabled=true", *args), "ConfigMap")
    return {name: json.loads(text) for each in maps for name, text in each["data"].items()}


def test_the_boards_are_those_of_the_repository() -> None:
    def committed(uid: str) -> Any:
        return json.loads((REPOSITORY / "manifests" / "grafana" / f"{uid}.json").read_text(encoding="utf-8"))

    assert boards() == {f"{board.uid}.json": committed(board.uid) for board in BOARDS}


def test_two_releases_on_one_grafana_do_not_overwrite_each_other() -> None:
    east, west = (boards(f"--set=dashboards.uidPrefix={name}") for name in ("east", "west"))
    assert not east.keys() & west.keys()
    assert not {each["uid"] for each in east.values()} & {each["uid"] for each in west.values()}
    (health,) = (each for each in west.values() if each["title"] == "Is DRSE itself well?")
    assert health["uid"] == "west-drse-health"


def test_the_sidecar_finds_the_boards() -> None:
    maps = [d for d in of_kind(render(*FULL), "ConfigMap") if not d["metadata"]["name"].endswith("-extra")]
    assert len(maps) == len(BOARDS)
    for each in maps:
        assert each["metadata"]["namespace"] == "monitoring"
        assert each["metadata"]["labels"]["grafana_dashboard"] == "yes"
        assert each["metadata"]["annotations"] == {"grafana_folder": "DRSE"}
    assert not of_kind(render(), "ConfigMap"), "off until asked for"


# -- shards ------------------------------------------------------------------------------------------------


def test_several_forecasters_share_the_jobs_and_all_of_them_are_asked() -> None:
    documents = render("--set=forecaster.replicas=3")
    (shards,) = of_kind(documents, "StatefulSet")
    assert shards["spec"]["replicas"] == 3
    (container,) = shards["spec"]["template"]["spec"]["containers"]
    assert "--shard=$(POD_NAME)/3" in container["args"]
    assert [env["name"] for env in container["env"]] == ["POD_NAME"]
    services = {d["metadata"]["name"]: d["spec"] for d in of_kind(documents, "Service")}
    headless = services[shards["spec"]["serviceName"]]
    assert headless["clusterIP"] == "None"
    assert headless["selector"].items() <= shards["spec"]["template"]["metadata"]["labels"].items()
    (operator,) = (d for d in of_kind(documents, "Deployment") if d["metadata"]["name"] == "drse-operator")
    (url,) = (a for a in operator["spec"]["template"]["spec"]["containers"][0]["args"] if "forecaster" in a)
    assert url == f"--forecaster-url=http://drse-forecaster-shards.{NAMESPACE}.svc:8090"


def test_one_forecaster_is_a_deployment_without_shards() -> None:
    documents = render()
    assert not of_kind(documents, "StatefulSet")
    assert "shard" not in json.dumps([d["spec"] for d in of_kind(documents, "Deployment")])


# -- network -----------------------------------------------------------------------------------------------


def policies(*args: str) -> dict[str, Document]:
    found = of_kind(render("--set=networkPolicy.enabled=true", *args), "NetworkPolicy")
    return {each["metadata"]["name"]: each["spec"] for each in found}


def test_each_program_has_a_policy_that_selects_its_pods() -> None:
    documents = render(*FULL)
    pods = {
        d["metadata"]["name"]: d["spec"]["template"]["metadata"] for d in of_kind(documents, "Deployment")
    }
    for policy in of_kind(documents, "NetworkPolicy"):
        wanted = policy["spec"]["podSelector"]["matchLabels"].items()
        matched = [name for name, pod in pods.items() if wanted <= pod["labels"].items()]
        assert matched == [policy["metadata"]["name"]]
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert len(of_kind(documents, "NetworkPolicy")) == len(pods)


def test_the_forecaster_reaches_prometheus_alone_and_the_operator_reaches_it() -> None:
    found = policies()
    operator, forecaster = found["drse-operator"], found["drse-forecaster"]
    assert [rule["ports"] for rule in forecaster["egress"]][1:] == [[{"port": 9090}]]
    to_forecaster = [rule for rule in operator["egress"] if rule["ports"] == [{"port": 8090}]]
    assert [
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in to_forecaster[0]["to"]
    ] == ["forecaster"]
    assert "from" not in operator["ingress"][0], (
        "whoever may be asked for metrics is not restricted unless asked"
    )


def test_who_scrapes_can_be_narrowed_without_cutting_the_operator_off() -> None:
    forecaster = policies(*FULL)["engine-forecaster"]
    peers = forecaster["ingress"][0]["from"]
    assert _components(peers) == ["operator", "console", "test"]
    assert [p["namespaceSelector"]["matchLabels"] for p in peers if "namespaceSelector" in p] == [
        {"kubernetes.io/metadata.name": "monitoring"}
    ]


def _components(peers: list[Document]) -> list[str]:
    """The programs among the peers."""
    selectors = [peer["podSelector"]["matchLabels"] for peer in peers if "podSelector" in peer]
    return [labels["app.kubernetes.io/component"] for labels in selectors]


# -- console -----------------------------------------------------------------------------------------------


def test_the_console_is_off_and_leaves_nothing_until_asked_for() -> None:
    assert not [identity(d) for d in render() if "console" in d["metadata"]["name"]]


def test_the_console_may_read_and_review_and_nothing_else() -> None:
    documents = render("--set=console.enabled=true")
    roles = {d["metadata"]["name"]: d for d in of_kind(documents, "ClusterRole") + of_kind(documents, "Role")}
    for rule in roles["drse-console"]["rules"]:
        reviews = {"tokenreviews", "subjectaccessreviews"} >= set(rule["resources"])
        allowed = {"create"} if reviews else {"get", "list", "watch"}
        assert set(rule["verbs"]) <= allowed, rule


def test_the_console_is_reached_by_its_host_over_tls() -> None:
    (ingress,) = of_kind(render(*FULL), "Ingress")
    spec = ingress["spec"]
    assert spec["tls"] == [{"hosts": ["drse.example.com"], "secretName": "drse-tls"}]
    (rule,) = spec["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    services = {d["metadata"]["name"] for d in of_kind(render(*FULL), "Service")}
    assert (rule["host"], backend["name"] in services) == ("drse.example.com", True)


def test_the_console_is_reached_through_a_gateway() -> None:
    (route,) = of_kind(render(*FULL), "HTTPRoute")
    services = {d["metadata"]["name"]: d["spec"]["ports"] for d in of_kind(render(*FULL), "Service")}
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    assert backend["port"] in [port["port"] for port in services[backend["name"]]]
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "gateways"}]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (("console.auth=proxy",), "name the Secret in console.proxySecret.name"),
        (("console.ingress.enabled=true",), "give console.ingress.host"),
        (("console.httpRoute.enabled=true",), "name the Gateway in console.httpRoute.parentRefs"),
    ],
)
def test_what_the_console_lacks_is_said(values: tuple[str, ...], sentence: str) -> None:
    args = [f"--set={value}" for value in ("console.enabled=true", *values)]
    result = helm("template", "drse", str(CHART), *args)
    assert result.returncode != 0
    assert sentence in result.stderr


def test_a_removed_value_is_refused_with_what_to_set_instead() -> None:
    value = "prometheusRule.objectives.waitSeconds.research=86400"
    result = helm("template", "drse", str(CHART), f"--set={value}")
    assert result.returncode != 0
    assert "set spec.waitTarget of each GPUQueue instead" in result.stderr


# -- everything else ---------------------------------------------------------------------------------------


def test_the_examples_of_the_catalogue_are_valid() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    queue, job = yaml.safe_load(chart["annotations"]["artifacthub.io/crdsExamples"])
    GPUQueueSpec.model_validate(queue["spec"])
    assert DeepSeekJobSpec.model_validate(job["spec"]).queue == queue["metadata"]["name"]


def test_extra_objects_are_filled_in() -> None:
    maps = {d["metadata"]["name"]: d for d in of_kind(render(*FULL), "ConfigMap")}
    assert maps["drse-extra"]["data"] == {"namespace": NAMESPACE}


def test_the_release_test_runs_with_the_operators_rights() -> None:
    (pod,) = of_kind(render(), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["serviceAccountName"] == "drse-operator"
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["drse", "doctor"]
    assert "--lease=drse-operator" in container["args"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not of_kind(render("--set=tests.enabled=false"), "Pod")


def test_the_release_test_knows_overridden_names() -> None:
    documents = render(*FULL)
    (pod,) = of_kind(documents, "Pod")
    arguments = pod["spec"]["containers"][0]["args"]
    (lease,) = (a.partition("=")[2] for a in arguments if a.startswith("--lease="))
    (url,) = (a.partition("=")[2] for a in arguments if a.startswith("--forecaster="))
    names = {d["metadata"]["name"]: d for d in of_kind(documents, "Deployment")}
    assert f"--lease={lease}" in names[lease]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--forecaster-url={url}" in names[lease]["spec"]["template"]["spec"]["containers"][0]["args"]
    without = of_kind(render(*FULL, "--set=forecaster.enabled=false"), "Pod")[0]["spec"]["containers"][0]
    assert not [argument for argument in without["args"] if "forecaster" in argument]


def test_the_crds_chart_renders_what_the_whole_chart_does() -> None:
    def crds(*args: str) -> list[Document]:
        result = helm("template", "drse", *args)
        assert result.returncode == 0, result.stderr
        return of_kind([d for d in yaml.safe_load_all(result.stdout) if d], "CustomResourceDefinition")

    def without_chart_label(documents: list[Document]) -> list[Document]:
        for document in documents:
            document["metadata"]["labels"].pop("helm.sh/chart")
        return documents

    assert without_chart_label(crds(str(CRDS_CHART))) == without_chart_label(crds(str(CHART)))
    (first, _) = crds(str(CRDS_CHART), "--set=keep=false")
    assert "annotations" not in first["metadata"]
    wrong = helm("template", "drse", str(CRDS_CHART), "--set=keeep=false")
    assert "additional properties 'keeep' not allowed" in wrong.stderr
    assert helm("lint", "--strict", str(CRDS_CHART)).returncode == 0


def test_the_packed_crds_chart_carries_the_files_that_it_links_to(tmp_path: Any) -> None:
    packed = helm("package", str(CRDS_CHART), "--destination", str(tmp_path))
    assert packed.returncode == 0, packed.stderr
    (archive,) = tmp_path.glob("*.tgz")
    rendered = helm("template", "drse", str(archive))
    assert rendered.stdout.count("\nkind: CustomResourceDefinition\n") == 2
