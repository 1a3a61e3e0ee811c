"""Rules that every built document keeps, whatever the user's template says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes import client

from drse_operator.api.enums import Engine, Vendor
from drse_operator.workloads import names
from drse_operator.workloads.claims import build_claim
from drse_operator.workloads.engines import EngineImages
from drse_operator.workloads.pods import TOLERATED_TAINTS, build_pod
from drse_operator.workloads.services import build_service, build_services, build_workers_service

Make = Callable[..., Any]
CLAIM_TYPE = next(name for name in ("ResourceV1ResourceClaim", "V1ResourceClaim") if hasattr(client, name))
MODEL = {"name": "DeepSeek-R1-Distill-Qwen-7B"}


def engine_of(pod: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in pod["spec"]["containers"] if c["name"] == "engine")


def env_of(pod: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in engine_of(pod)["env"]}


def unknown_fields(value: Any, type_name: str, path: str = "") -> Iterator[str]:
    """Fields that the published API type does not have, by the client generated from its OpenAPI schema."""
    if listed := re.fullmatch(r"[Ll]ist\[(.+)\]", type_name):
        for i, element in enumerate(value):
            yield from unknown_fields(element, listed.group(1), f"{path}[{i}]")
    elif (model := getattr(client, type_name, None)) is not None and isinstance(value, dict):
        by_wire_name = {wire: attribute for attribute, wire in model.attribute_map.items()}
        for key, inner in value.items():
            if key not in by_wire_name:
                yield f"{path}.{key}"
            else:
                yield from unknown_fields(inner, model.openapi_types[by_wire_name[key]], f"{path}.{key}")


# -- structure -----------------------------------------------------------------------------------------


def test_the_lint_itself_finds_unknown_fields() -> None:
    pod = {"spec": {"containers": [{"name": "a", "imagePolicy": "Always"}], "nodename": "x"}}
    assert set(unknown_fields(pod, "V1Pod")) == {".spec.containers[0].imagePolicy", ".spec.nodename"}
    assert list(unknown_fields({"spec": {"devices": {"request": []}}}, CLAIM_TYPE)) == [
        ".spec.devices.request"
    ]


@pytest.mark.parametrize("engine", ["vLLM", "SGLang"])
def test_documents_have_only_fields_of_the_api(make_job: Make, exact: Make, engine: str) -> None:
    job = make_job(model=MODEL, runtime={"engine": engine})
    worker = exact(worker=1)
    assert list(unknown_fields(build_pod(job, worker, None), "V1Pod")) == []
    assert list(unknown_fields(build_claim(job, worker), CLAIM_TYPE)) == []
    for service in build_services(job, gang=True):
        assert list(unknown_fields(service, "V1Service")) == []


# -- placement and GPUs --------------------------------------------------------------------------------


def test_a_pod_may_only_run_on_the_assigned_node(make_job: Make, exact: Make) -> None:
    theirs: dict[str, Any] = {
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
    }
    template = {"spec": {"affinity": theirs}}
    affinity = build_pod(make_job(model=MODEL, runtime={"podTemplate": template}), exact(node="n3"), None)[
        "spec"
    ]["affinity"]
    required = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required == {
        "nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]},
        ]
    }
    assert "podAntiAffinity" in affinity
    assert "preferredDuringSchedulingIgnoredDuringExecution" in affinity["nodeAffinity"]


def test_exact_gpus_come_by_claim_and_counted_ones_by_limit(
    make_job: Make, exact: Make, counted: Make
) -> None:
    job = make_job(model=MODEL)
    named, plugin = build_pod(job, exact(), None), build_pod(job, counted(), None)
    assert engine_of(named)["resources"] == {"claims": [{"name": "gpus"}]}
    assert named["spec"]["resourceClaims"] == [{"name": "gpus", "resourceClaimName": "chat-0-0"}]
    assert engine_of(plugin)["resources"] == {"limits": {"amd.com/gpu": "8"}}
    assert "resourceClaims" not in plugin["spec"]


def test_a_claim_pins_the_promised_devices(make_job: Make, exact: Make) -> None:
    request = build_claim(make_job(model=MODEL), exact(count=3))["spec"]["devices"]["requests"][0]["exactly"]
    assert (request["count"], request["allocationMode"]) == (3, "ExactCount")
    expression = request["selectors"][0]["cel"]["expression"]
    assert re.findall(r"GPU-node-7-\d", expression) == ["GPU-node-7-0", "GPU-node-7-1", "GPU-node-7-2"]
    assert expression.index('"uuid" in device.attributes["gpu.nvidia.com"]') < expression.index(".uuid in [")


@pytest.mark.parametrize("spoilt", [{"devices": ()}, {"count": 5}])
def test_a_claim_without_all_its_devices_is_not_built(
    make_job: Make, exact: Make, spoilt: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="promises"):
        build_claim(make_job(model=MODEL), exact().model_copy(update=spoilt))


KEYS = st.sampled_from(["cpu", "memory", "nvidia.com/hostdev", "ephemeral-storage"])
CONTAINERS: dict[str, st.SearchStrategy[Any]] = {
    "image": st.just("example.org/own:1"),
    "args": st.lists(st.sampled_from(["--a", "--b"]), max_size=2),
    "env": st.just([{"name": "DRSE_WORKER", "value": "99"}, {"name": "OWN", "value": "1"}]),
    "resources": st.fixed_dictionaries(
        {}, optional={"limits": st.dictionaries(KEYS, st.just("1")), "requests": st.just({"cpu": 1})}
    ),
    "livenessProbe": st.just({"tcpSocket": {"port": 1}}),
}
POD_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "containers": st.lists(st.sampled_from(["engine", "sidecar", "proxy"]), max_size=3, unique=True).flatmap(
        lambda called: st.tuples(
            *(st.fixed_dictionaries({"name": st.just(name)}, optional=CONTAINERS) for name in called)
        )
    ),
    "tolerations": st.just([{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    "serviceAccountName": st.just("runner"),
    "schedulerName": st.just("other"),
    "volumes": st.just([{"name": "data", "emptyDir": {}}]),
    "resourceClaims": st.just([{"name": "nic", "resourceClaimTemplateName": "nic"}]),
}
TEMPLATES = st.fixed_dictionaries({}, optional=POD_FIELDS)


@given(template=TEMPLATES, replica=st.integers(0, 999), worker=st.integers(0, 511), named=st.booleans())
def test_the_template_never_reaches_gpus_node_or_identity(
    make_job: Make,
    exact: Make,
    counted: Make,
    template: dict[str, Any],
    replica: int,
    worker: int,
    named: bool,
) -> None:
    job = make_job(model=MODEL, runtime={"podTemplate": {"spec": template}})
    assignment = (exact if named else counted)(replica=replica, worker=worker)
    pod = build_pod(job, assignment, None)
    assert pod == build_pod(job, assignment, None)
    assert list(unknown_fields(pod, "V1Pod")) == []

    containers = pod["spec"]["containers"]
    assert [c["name"] for c in containers].count("engine") == 1
    holders = [
        c["name"]
        for c in containers
        if {"name": "gpus"} in c.get("resources", {}).get("claims", ())
        or "amd.com/gpu" in c.get("resources", {}).get("limits", {})
    ]
    assert holders == ["engine"]
    assert env_of(pod)["DRSE_WORKER"] == str(worker)
    assert len(env_of(pod)) == len(engine_of(pod)["env"])
    tolerated = [t["key"] for t in pod["spec"]["tolerations"]]
    assert sorted(tolerated) == sorted(TOLERATED_TAINTS)

    labels = pod["metadata"]["labels"]
    assert names.selected("chat").items() <= labels.items()
    assert build_workers_service(job)["spec"]["selector"].items() <= labels.items()
    reached = build_service(job)["spec"]["selector"].items() <= labels.items()
    assert reached == (worker == 0)
    assert len(pod["metadata"]["name"]) <= 63


def test_names_of_different_workers_never_meet() -> None:
    made = [
        names.pod_name(job, replica, worker)
        for job in ("a", "a-0", "a-0-1", "a-1")
        for replica in range(12)
        for worker in range(12)
    ]
    assert len(made) == len(set(made))


# -- the engine ----------------------------------------------------------------------------------------


def test_arguments_of_the_user_come_last(make_job: Make, exact: Make) -> None:
    runtime = {"args": ["--max-model-len", "4096"]}
    args = engine_of(build_pod(make_job(model=MODEL, runtime=runtime), exact(), None))["args"]
    assert args[0] == "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    assert args[-2:] == ["--max-model-len", "4096"]
    assert args.index("--max-model-len") < len(args) - 2


def test_other_tasks_and_custom_engines_run_untouched(make_job: Make, exact: Make) -> None:
    runtime = {"image": "example.org/own:1", "args": ["--go"]}
    batch = engine_of(build_pod(make_job(taskType="Batch", model=MODEL, runtime=runtime), exact(), None))
    custom = {**runtime, "engine": "Custom"}
    own = engine_of(build_pod(make_job(model=MODEL, runtime=custom), exact(), None))
    for container in (batch, own):
        assert (container["image"], container["args"]) == ("example.org/own:1", ["--go"])
        assert "command" not in container
        assert "livenessProbe" not in container


@pytest.mark.parametrize(
    ("task", "policy"),
    [
        ("Inference", "Always"),
        ("Batch", "Never"),
        ("FineTuning", "Never"),
        ("PreTraining", "Never"),
        ("Distillation", "Never"),
    ],
)
def test_only_services_restart_in_place(make_job: Make, exact: Make, task: str, policy: str) -> None:
    job = make_job(taskType=task, model=MODEL, runtime={"image": "example.org/own:1"})
    assert build_pod(job, exact(), None)["spec"]["restartPolicy"] == policy


def test_workers_of_a_gang_find_worker_0(make_job: Make, exact: Make) -> None:
    job = make_job("train", "research", taskType="PreTraining", model=MODEL, runtime={"image": "x"})
    pod = build_pod(job, exact(replica=1, worker=3, count=8), None)
    env = env_of(pod)
    assert env["MASTER_ADDR"] == "train-1-0.train-workers.research.svc"
    assert (env["RANK"], env["WORLD_SIZE"], env["PET_NPROC_PER_NODE"]) == ("3", "4", "8")
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("train-1-3", "train-workers")
    assert build_workers_service(job)["spec"]["publishNotReadyAddresses"] is True


def test_a_single_worker_needs_no_name_in_dns(make_job: Make, exact: Make) -> None:
    job = make_job(taskType="FineTuning", model=MODEL, runtime={"image": "x"})
    pod = build_pod(job, exact(), None)
    assert env_of(pod)["MASTER_ADDR"] == "localhost"
    assert "subdomain" not in pod["spec"]


def test_followers_serve_nothing_and_are_not_probed(make_job: Make, exact: Make) -> None:
    job = make_job(model={"name": "DeepSeek-R1"})
    leader, follower = (engine_of(build_pod(job, exact(worker=w, count=8), None)) for w in (0, 1))
    assert "--headless" in follower["args"]
    assert "readinessProbe" not in follower
    # A leader alone in view: the second worker is counted only when shape or status tell of it.
    assert "--headless" not in leader["args"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(leader)


@pytest.mark.parametrize(
    ("precision", "model", "options"),
    [
        (None, "DeepSeek-R1", []),
        ("FP8", "DeepSeek-R1", []),
        ("FP8", "DeepSeek-R1-Distill-Qwen-7B", ["--quantization", "fp8"]),
        ("BF16", "DeepSeek-R1-Distill-Qwen-7B", ["--dtype", "bfloat16"]),
        ("INT4", "DeepSeek-R1-Distill-Qwen-7B", []),
    ],
)
def test_precision_becomes_an_option(
    make_job: Make, exact: Make, precision: str | None, model: str, options: list[str]
) -> None:
    job = make_job(model={"name": model, "precision": precision})
    args = engine_of(build_pod(job, exact(), None))["args"]
    said = [args[i : i + 2] for i, word in enumerate(args) if word in ("--quantization", "--dtype")]
    assert said == ([options] if options else [])


def test_the_administrator_chooses_default_images(make_job: Make, exact: Make, counted: Make) -> None:
    images = EngineImages(vllm_nvidia="mirror/vllm:1", vllm_amd="mirror/rocm:1")
    job = make_job(model=MODEL)
    assert engine_of(build_pod(job, exact(), None, images))["image"] == "mirror/vllm:1"
    assert engine_of(build_pod(job, counted(), None, images))["image"] == "mirror/rocm:1"
    own = make_job(model=MODEL, runtime={"image": "example.org/own:1"})
    assert engine_of(build_pod(own, exact(), None, images))["image"] == "example.org/own:1"


def test_default_images_are_pinned() -> None:
    for engine in (Engine.VLLM, Engine.SGLANG):
        for vendor in Vendor:
            image = EngineImages().of(engine, vendor)
            assert not image or re.search(r":v?[0-9]", image)


def test_a_missing_image_is_said(make_job: Make, counted: Make) -> None:
    job = make_job(model=MODEL, runtime={"engine": "SGLang"})
    with pytest.raises(ValueError, match=r"set runtime\.image"):
        build_pod(job, counted(resource="habana.ai/gaudi", product="Gaudi3"), None)
