"""The examples are what they say: they parse, and are sized or refused as their comments and README tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.gpuqueue import GPUQueueSpec
from drse_operator.api.reasons import WaitReason
from drse_operator.sizing.shapes import AcceleratorKind
from drse_operator.sizing.size import size
from drse_operator.workloads.templates import template_conflict

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"


def documents(pattern: str = "*.yaml") -> list[dict[str, Any]]:
    return [
        doc for path in sorted(EXAMPLES.glob(pattern)) for doc in yaml.safe_load_all(path.read_text("utf-8"))
    ]


JOBS = {doc["metadata"]["name"]: doc for doc in documents() if doc["kind"] == "DeepSeekJob"}


def spec_of(job: str) -> DeepSeekJobSpec:
    return DeepSeekJobSpec.model_validate(JOBS[job]["spec"])


@pytest.mark.parametrize(
    ("job", "gpus", "workers", "product"),
    [
        ("chat", 2, 1, "NVIDIA H100 80GB HBM3"),
        ("tune-llama-70b", 4, 1, "NVIDIA A100-SXM4-80GB"),
        ("pretrain-7b", 16, 2, "NVIDIA H200"),
        ("evaluate-math", 1, 1, "NVIDIA L40S"),
    ],
)
def test_jobs_that_run_have_the_expected_shape(
    fleet: tuple[AcceleratorKind, ...], job: str, gpus: int, workers: int, product: str
) -> None:
    sizing = size(spec_of(job), fleet)
    assert sizing.refusal is None
    best = sizing.shapes[0]
    assert (best.gpus, best.workers, best.kind.product) == (gpus, workers, product)


def test_the_job_that_can_never_fit_is_told_the_numbers(fleet: tuple[AcceleratorKind, ...]) -> None:
    refusal = size(spec_of("pretrain-v3"), fleet).refusal
    assert refusal is not None
    assert refusal.reason is WaitReason.TOO_LARGE_FOR_CLUSTER


def test_every_queue_but_the_misspelt_one_exists_and_lets_its_jobs_in() -> None:
    labels = {doc["metadata"]["name"]: doc["metadata"]["labels"] for doc in documents("namespaces.yaml")}
    queues = {
        doc["metadata"]["name"]: GPUQueueSpec.model_validate(doc["spec"]) for doc in documents("queues.yaml")
    }
    missing = [name for name in JOBS if spec_of(name).queue not in queues]
    assert missing == ["distill-7b"]
    for name in JOBS.keys() - set(missing):
        namespace, members = JOBS[name]["metadata"]["namespace"], queues[spec_of(name).queue].namespaces
        assert members is not None
        by_label = (
            members.match_labels is not None and members.match_labels.items() <= labels[namespace].items()
        )
        assert namespace in members.names or by_label


def test_no_template_contradicts_an_assignment_and_the_readme_names_every_file() -> None:
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    for path in EXAMPLES.glob("*.yaml"):
        assert f"`{path.name}`" in readme
    assert [name for name in JOBS if template_conflict(spec_of(name))] == []
