"""What the chart renders, without a cluster. What a cluster makes of it: test_release.py and test_upgrade.py.

``DRSE_RENEW_GOLDEN=1 uv run pytest tests/helm/test_chart.py`` writes the golden file anew; review it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, FULL_VALUES, REPOSITORY, Document, helm, identity, of_kind, render

GOLDEN = Path(__file__).parent / "golden" / "defaults.yaml"
FULL = ("--values", str(FULL_VALUES))
EVERY_VALUES = pytest.mark.parametrize("args", [(), FULL], ids=["defaults", "full"])


@EVERY_VALUES
def test_lint_has_nothing_to_say(args: tuple[str, ...]) -> None:
    result = helm("lint", "--strict", str(CHART), *args)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("args", "kept"), [((), True), (("--set=crds.keep=false",), False)])
def test_rendered_crds_differ_from_the_repositorys_only_in_labels_and_keep(
    args: tuple[str, ...], kept: bool
) -> None:
    rendered = {crd["metadata"]["name"]: crd for crd in of_kind(render(*args), "CustomResourceDefinition")}
    for path in (REPOSITORY / "crds").glob("*.yaml"):
        expected = yaml.safe_load(path.read_text(encoding="utf-8"))
        crd = rendered.pop(expected["metadata"]["name"])
        annotations = crd["metadata"].pop("annotations", {})
        assert (annotations == {"helm.sh/resource-policy": "keep"}) is kept
        assert crd["metadata"].pop("labels")["app.kubernetes.io/instance"] == "drse"
        assert crd == expected
    assert not rendered


def test_crds_can_be_left_to_others() -> None:
    assert not of_kind(render("--set=crds.enabled=false"), "CustomResourceDefinition")


def test_defaults_render_to_the_golden_file() -> None:
    documents = render()
    roles = [d for d in documents if d["kind"] in ("ClusterRole", "Role")]
    summary = {
        "objects": sorted(identity(document) for document in documents),
        "rules": {identity(role): role["rules"] for role in sorted(roles, key=identity)},
        "programs": {identity(d): _program(d) for d in of_kind(documents, "Deployment")},
    }
    text = yaml.safe_dump(summary, sort_keys=False, width=110)
    if os.environ.get("DRSE_RENEW_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert yaml.safe_load(text) == yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))


def _program(deployment: Document) -> list[str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *container["args"]]


@EVERY_VALUES
def test_no_role_has_wildcards_or_reads_secrets(args: tuple[str, ...]) -> None:
    documents = render(*args)
    roles = of_kind(documents, "ClusterRole") + of_kind(documents, "Role")
    rules = [rule for role in roles for rule in role["rules"]]
    assert rules
    for rule in rules:
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not {"*", "secrets", "escalate", "bind", "impersonate"} & set(words), rule


def test_the_forecaster_is_in_no_binding_and_gets_no_token() -> None:
    documents = render()
    bindings = of_kind(documents, "ClusterRoleBinding") + of_kind(documents, "RoleBinding")
    subjects = {subject["name"] for binding in bindings for subject in binding["subjects"]}
    assert subjects == {"drse-operator"}
    accounts = {a["metadata"]["name"]: a for a in of_kind(documents, "ServiceAccount")}
    assert accounts["drse-forecaster"]["automountServiceAccountToken"] is False
    pods = {d["metadata"]["name"]: d["spec"]["template"]["spec"] for d in of_kind(documents, "Deployment")}
    assert pods["drse-forecaster"]["automountServiceAccountToken"] is False


@EVERY_VALUES
def test_pods_keep_to_the_restricted_standard_on_a_read_only_root(args: tuple[str, ...]) -> None:
    deployments = of_kind(render(*args), "Deployment")
    assert len(deployments) == (3 if args else 2)
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        writable = {"mountPath": "/tmp", "name": "tmp"}
        assert writable in container["volumeMounts"]
        assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@EVERY_VALUES
def test_services_budgets_and_constraints_select_the_pods_they_are_for(args: tuple[str, ...]) -> None:
    documents = render(*args)
    pods = {d["metadata"]["name"]: d["spec"]["template"] for d in of_kind(documents, "Deployment")}
    for deployment in of_kind(documents, "Deployment"):
        labels = pods[deployment["metadata"]["name"]]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for document in of_kind(documents, "Service") + of_kind(documents, "PodDisruptionBudget"):
        selector = document["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        matched = [n for n, pod in pods.items() if wanted.items() <= pod["metadata"]["labels"].items()]
        assert matched == [document["metadata"]["name"]], identity(document)
    operator = next(pod for name, pod in pods.items() if name.endswith("-operator"))
    (constraint,) = operator["spec"]["topologySpreadConstraints"]
    assert constraint["labelSelector"]["matchLabels"].items() <= operator["metadata"]["labels"].items()


def test_every_object_carries_the_common_labels() -> None:
    for document in render(*FULL):
        assert document["metadata"]["labels"]["example.com/team"] == "platform", identity(document)


def test_values_of_an_administrator_reach_the_programs() -> None:
    deployments = of_kind(render(*FULL), "Deployment")
    pods = {d["metadata"]["name"]: d["spec"]["template"]["spec"] for d in deployments}
    operator, forecaster = pods["engine-operator"], pods["engine-forecaster"]
    arguments = operator["containers"][0]["args"]
    assert "--forecaster-url=http://engine-forecaster.drse-system.svc:9090" in arguments
    assert "--image=vllm_nvidia=registry.example.com/vllm:v1" in arguments
    assert arguments[-1] == "--forecast-period=5", "extra arguments come last, so that they win"
    image = operator["containers"][0]["image"]
    assert image == "registry.example.com/drse/mirror/drse-operator:v1@sha256:" + 64 * "0"
    arguments = forecaster["containers"][0]["args"]
    assert "--prometheus-timeout=10s" in arguments


@pytest.mark.parametrize("program", ["forecaster", "console"])
def test_whoever_asks_prometheus_asks_it_in_the_same_way(program: str) -> None:
    deployments = {d["metadata"]["name"]: d for d in of_kind(render(*FULL), "Deployment")}
    pod = deployments[f"engine-{program}"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    folder = "/var/run/secrets/drse/prometheus"
    assert {
        "--prometheus-url=https://prometheus.example.com/base",
        f"--prometheus-token-file={folder}/token",
        f"--prometheus-ca-file={folder}/ca.crt",
        "--insecure-skip-tls-verify",
        "--utilization-metric=DCGM_FI_PROF_GR_ENGINE_ACTIVE:1",
    } <= set(container["args"])
    assert {"name": "prometheus", "mountPath": folder, "readOnly": True} in container["volumeMounts"]
    (projected,) = (v["projected"] for v in pod["volumes"] if v["name"] == "prometheus")
    token, certificates = projected["sources"]
    assert token["secret"]["items"] == [{"key": "bearer", "path": "token"}]
    assert certificates["configMap"]["items"] == [{"key": "service-ca.crt", "path": "ca.crt"}]


def test_values_of_a_release_that_knew_no_certificates_still_render() -> None:
    """As ``helm upgrade --reuse-values`` hands them on."""
    assert of_kind(render("--set=prometheus.ca=null"), "Deployment")


def test_without_the_forecaster_nothing_of_it_is_left() -> None:
    documents = render("--set=forecaster.enabled=false", "--set=forecaster.podDisruptionBudget.enabled=true")
    assert not [identity(d) for d in documents if "forecaster" in d["metadata"]["name"]]
    (operator,) = of_kind(documents, "Deployment")
    assert not [word for word in _program(operator) if "forecaster" in word]


def test_the_pod_monitor_names_the_job_on_each_series() -> None:
    (monitor,) = of_kind(render("--set=podMonitor.enabled=true"), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "http"
    assert endpoint["honorLabels"] is True
    targets = {each["targetLabel"]: each["sourceLabels"] for each in endpoint["relabelings"]}
    assert targets["deepseekjob"] == ["__meta_kubernetes_pod_label_drse_dev_job"]
    assert targets["deepseekjob_namespace"] == ["__meta_kubernetes_namespace"]


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ("operator.replica=3", "at '/operator': additional properties 'replica' not allowed"),
        ("oprator.replicas=3", "at '': additional properties 'oprator' not allowed"),
        ("operator.replicas=-1", "at '/operator/replicas': minimum"),
        ("operator.replicas=two", "at '/operator/replicas': got string, want integer"),
        ("operator.engineImages.trt=x", "at '/operator/engineImages': additional properties 'trt'"),
        ("forecaster.history=7 days", "at '/forecaster/history': '7 days' does not match pattern"),
        ("log.level=loud", "at '/log/level': value must be one of"),
        ("prometheus.url=prometheus:9090", "at '/prometheus/url': 'prometheus:9090' does not match"),
        ("crds.keep=maybe", "at '/crds/keep': got string, want boolean"),
        ("defaultQueue.spec.weight=0", "at '/defaultQueue/spec/weight': minimum: got 0, want 1"),
        ("operator.resources.limits.memory=lots", "at '/operator/resources/limits/memory': 'lots'"),
        ("prometheusRule.alerts.DRSENoLeader.threshold=1", "at '/prometheusRule/alerts/DRSENoLeader'"),
        ("prometheusRule.alerts.DRSENoLeader.severity=page", "at '/prometheusRule/alerts/DRSENoLeader/sev"),
    ],
)
def test_wrong_values_are_refused_with_their_place(wrong: str, place: str) -> None:
    result = helm("template", "drse", str(CHART), "--set", wrong)
    assert result.returncode != 0
    assert place in result.stderr


def test_all_keys_of_the_values_are_known_to_the_schema_and_closed() -> None:
    """Each mapping that values.yaml spells out refuses a key that it does not have."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    accepted = [path for path in _mappings(values) if not _refused(path)]
    assert not accepted


#: Mappings whose keys are not the chart's own: labels, amounts, and what Kubernetes checks itself.
OPEN = frozenset({"global", "affinity", "podSecurityContext", "securityContext", "nodeSelector"})
OPEN |= {"commonLabels", "podLabels", "labels", "podAnnotations", "annotations", "requests", "limits"}


def _mappings(values: dict[str, Any], path: str = "") -> list[str]:
    found = [path]
    for key, value in values.items():
        if isinstance(value, dict) and key not in OPEN:
            found += _mappings(value, f"{path}{key}.")
    return found


def _refused(path: str) -> bool:
    result = helm("template", "drse", str(CHART), "--set", f"{path}noSuchKey=x")
    return result.returncode != 0 and "additional properties 'noSuchKey' not allowed" in result.stderr
