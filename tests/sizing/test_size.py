"""Sizing by example: what experienced people would pick, and what users are told when nothing fits."""

from __future__ import annotations

from typing import Any

import pytest

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.reasons import WaitReason
from drse_operator.sizing.shapes import AcceleratorKind, Shape
from drse_operator.sizing.size import size

Fleet = tuple[AcceleratorKind, ...]


def job(task: str = "Inference", **fields: Any) -> DeepSeekJobSpec:
    image = {} if task == "Inference" else {"runtime": {"image": "example.org/train:1"}}
    return DeepSeekJobSpec.model_validate({"taskType": task, **image, **fields})


def on(product: str, shapes: tuple[Shape, ...]) -> Shape | None:
    return next((shape for shape in shapes if product in shape.kind.product), None)


@pytest.mark.parametrize(
    ("model", "product", "split"),
    [
        # workers, GPUs per worker, tensor parallel, pipeline parallel
        ("DeepSeek-R1", "H200", (1, 8, 8, 1)),  # the configuration of DeepSeek's and vLLM's guides
        ("DeepSeek-R1", "H100", (2, 8, 8, 2)),  # two nodes of 8 x 80 GB
        ("DeepSeek-R1", "MI300X", (1, 4, 4, 1)),
        ("DeepSeek-R1", "A100", None),  # no FP8 there: 1342 GB in BF16 need more than 16 cards
        ("DeepSeek-R1-Distill-Llama-70B", "H200", (1, 2, 2, 1)),
        ("DeepSeek-R1-Distill-Llama-70B", "H100", (1, 2, 2, 1)),
        ("DeepSeek-R1-Distill-Qwen-32B", "H100", (1, 1, 1, 1)),
        ("DeepSeek-R1-Distill-Qwen-32B", "L40S", (1, 2, 2, 1)),
        ("DeepSeek-R1-Distill-Qwen-7B", "L40S", (1, 1, 1, 1)),
    ],
)
def test_serving_takes_the_usual_number_of_gpus(
    fleet: Fleet, model: str, product: str, split: tuple[int, int, int, int] | None
) -> None:
    shape = on(product, size(job(model={"name": model}), fleet).shapes)
    found = shape and (shape.workers, shape.gpus_per_worker, shape.tensor_parallel, shape.pipeline_parallel)
    assert found == split


def test_training_takes_more_than_serving_and_lora_less_than_all_parameters(fleet: Fleet) -> None:
    model = {"name": "DeepSeek-R1-Distill-Llama-70B"}
    gpus = {}
    for task in ("Inference", "FineTuning", "PreTraining", "Distillation"):
        shape = on("H200", size(job(task, model=model), fleet).shapes)
        assert shape is not None
        gpus[task] = shape.gpus
    assert gpus == {"Inference": 2, "FineTuning": 2, "PreTraining": 16, "Distillation": 16}


def test_accelerators_come_in_the_order_that_the_user_gives(fleet: Fleet) -> None:
    wanted = [{"vendor": "amd"}, {"vendor": "nvidia", "product": "H200"}, {"vendor": "nvidia"}]
    spec = job(model={"name": "DeepSeek-R1-Distill-Qwen-7B"}, resources={"accelerators": wanted})
    products = [shape.kind.product for shape in size(spec, fleet).shapes]
    assert products[:2] == ["AMD_Instinct_MI300X_OAM", "NVIDIA H200"]
    assert products[2:] == ["NVIDIA L40S", "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"]


def test_without_a_wish_the_least_memory_then_the_least_compute_comes_first(fleet: Fleet) -> None:
    shapes = size(job(model={"name": "DeepSeek-R1-Distill-Qwen-32B"}), fleet).shapes
    assert [shape.kind.product for shape in shapes[:2]] == ["NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"]


def test_80_gibibytes_mean_the_card_that_is_sold_with_80_gigabytes(fleet: Fleet) -> None:
    spec = job(resources={"gpusPerReplica": 1, "memoryPerGPU": "80Gi"})
    assert on("H100", size(spec, fleet).shapes) is not None
    assert on("L40S", size(spec, fleet).shapes) is None


@pytest.mark.parametrize(
    ("resources", "split"),
    [
        ({"gpusPerReplica": 8}, (1, 8)),
        ({"gpusPerReplica": 16}, (2, 8)),
        ({"gpusPerReplica": 12}, (2, 6)),
        ({"gpusPerReplica": 9}, (3, 3)),
        ({"gpusPerReplica": 13}, (13, 1)),
        ({"gpusPerReplica": 16, "workersPerReplica": 4}, (4, 4)),
    ],
)
def test_stated_gpus_become_as_few_equal_workers_as_nodes_allow(
    fleet: Fleet, resources: dict[str, int], split: tuple[int, int]
) -> None:
    shape = on("H200", size(job("PreTraining", resources=resources), fleet).shapes)
    assert shape is not None
    assert (shape.workers, shape.gpus_per_worker) == split


def test_tensor_parallel_size_divides_the_attention_heads(fleet: Fleet) -> None:
    spec = job(model={"name": "DeepSeek-R1-Distill-Qwen-7B"}, resources={"gpusPerReplica": 8})
    shape = on("H200", size(spec, fleet).shapes)
    assert shape is not None
    assert (shape.tensor_parallel, shape.pipeline_parallel) == (4, 2)  # 28 heads


R1, SMALL = {"name": "DeepSeek-R1"}, {"name": "DeepSeek-R1-Distill-Qwen-7B"}
ONE_NODE = {"topology": {"scope": "Node", "mode": "Required"}}


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"model": {"name": "DeepSek-R1"}}, WaitReason.MODEL_UNKNOWN, ["deepseek-ai/DeepSeek-R1"]),
        (
            {"model": R1, "resources": {"gpusPerReplica": 2}},
            WaitReason.RESOURCES_CONTRADICT_MODEL,
            ["2 GPUs", "352.2 GiB", "192 GiB"],
        ),
        (
            {"model": {**SMALL, "contextLength": 200_000}},
            WaitReason.RESOURCES_CONTRADICT_MODEL,
            ["200000", "131072"],
        ),
        (
            {"model": SMALL, "resources": {"accelerators": [{"vendor": "amd", "product": "MI355X"}]}},
            WaitReason.NO_SUCH_ACCELERATOR,
            ["MI355X", "NVIDIA H200", "Gaudi3"],
        ),
        (
            {"model": SMALL, "resources": {"memoryPerGPU": "200Gi"}},
            WaitReason.INSUFFICIENT_MEMORY_PER_GPU,
            ["200 GiB", "192 GiB", "MI300X"],
        ),
        (
            {"model": SMALL, "resources": {"computePerGPU": 2000}},
            WaitReason.INSUFFICIENT_COMPUTE_PER_GPU,
            ["2000", "1678", "Gaudi3"],
        ),
        (
            {"model": SMALL, "resources": {"gpusPerReplica": 16, "workersPerReplica": 1}},
            WaitReason.TOO_MANY_GPUS_PER_NODE,
            ["16 GPUs", "at most 8"],
        ),
        (
            {"model": SMALL, "resources": {"gpusPerReplica": 16, **ONE_NODE}},
            WaitReason.TOO_MANY_GPUS_PER_NODE,
            ["16 GPUs", "at most 8"],
        ),
        (
            {
                "model": R1,
                "resources": {"accelerators": [{"vendor": "nvidia", "product": "H100"}], **ONE_NODE},
            },
            WaitReason.TOO_MANY_GPUS_PER_NODE,
            ["16 GPUs", "at most 8"],
        ),
        (
            {"resources": {"gpusPerReplica": 64, "workersPerReplica": 8}},
            WaitReason.TOO_LARGE_FOR_CLUSTER,
            ["64 GPUs", "32"],
        ),
        ({"model": R1, "replicas": 20}, WaitReason.TOO_LARGE_FOR_CLUSTER, ["20 replicas", "80 GPUs", "80"]),
        (
            {"model": {**R1, "contextLength": 163_840, "concurrency": 3000}},
            WaitReason.INSUFFICIENT_MEMORY_PER_GPU,
            ["GiB"],
        ),
        (
            {
                "model": SMALL,
                "runtime": {"engine": "SGLang"},
                "resources": {"accelerators": [{"vendor": "habana"}]},
            },
            WaitReason.NO_SUCH_ACCELERATOR,
            ["SGLang", "Gaudi3"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    fleet: Fleet, fields: dict[str, Any], reason: WaitReason, says: list[str]
) -> None:
    sizing = size(job(**fields), fleet)
    assert sizing.shapes == ()
    assert sizing.refusal is not None
    assert sizing.refusal.reason is reason, sizing.refusal.message
    for words in says:
        assert words in sizing.refusal.message


def test_an_empty_cluster_has_no_accelerator() -> None:
    refusal = size(job(model=R1), ()).refusal
    assert refusal is not None
    assert refusal.reason is WaitReason.NO_SUCH_ACCELERATOR


def test_an_unknown_model_runs_on_stated_gpus(fleet: Fleet) -> None:
    spec = job(model={"name": "my-own-model"}, resources={"gpusPerReplica": 4})
    shape = on("H200", size(spec, fleet).shapes)
    assert shape is not None
    assert (shape.gpus, shape.tensor_parallel, shape.memory_needed) == (4, 4, 0)


def test_replicas_may_be_spread_over_kinds(fleet: Fleet) -> None:
    """20 replicas of 2 GPUs fit no single kind of the fleet, but all kinds together."""
    spec = job("Batch", resources={"gpusPerReplica": 2}, replicas=20)
    assert size(spec, fleet).refusal is None
