"""What sizing must never do, over random jobs and clusters."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from drse_operator.api.deepseekjob import DeepSeekJobSpec, Model, Resources
from drse_operator.api.enums import Precision, TaskType, Vendor
from drse_operator.api.runtime import Runtime
from drse_operator.sizing import accelerators, catalogue
from drse_operator.sizing.layouts import fewest_workers, serving_layout
from drse_operator.sizing.shapes import AcceleratorKind, Shape
from drse_operator.sizing.size import size

PRODUCTS = {
    "NVIDIA H200": 143_771,
    "NVIDIA H100 80GB HBM3": 81_559,
    "NVIDIA A100-SXM4-80GB": 81_920,
    "NVIDIA L40S": 46_068,
    "NVIDIA L4": 23_034,
    "AMD_Instinct_MI300X_OAM": 196_592,
    "Gaudi3": 131_072,
    "a card nobody knows": 50_000,
}


@st.composite
def kinds(draw: st.DrawFn) -> AcceleratorKind:
    product = draw(st.sampled_from(sorted(PRODUCTS)))
    facts = accelerators.lookup(product)
    per_node = draw(st.integers(1, 16))
    return AcceleratorKind(
        vendor=facts.vendor if facts else Vendor.NVIDIA,
        product=product,
        memory=PRODUCTS[product] * 2**20,
        tflops=facts.tflops if facts else 0,
        max_per_node=per_node,
        total=per_node * draw(st.integers(1, 40)),
    )


MODELS = st.builds(
    Model,
    name=st.sampled_from(sorted(catalogue.names())),
    precision=st.none() | st.sampled_from(Precision),
    context_length=st.integers(1, 200_000),
    concurrency=st.integers(1, 512),
)


@st.composite
def specs(draw: st.DrawFn) -> DeepSeekJobSpec:
    workers = draw(st.none() | st.integers(1, 8))
    gpus = draw(st.integers(1, 64)) if workers is None else workers * draw(st.integers(1, 16))
    stated = workers is not None or draw(st.booleans())
    return DeepSeekJobSpec(
        task_type=draw(st.sampled_from(TaskType)),
        model=draw(MODELS) if not stated else draw(st.none() | MODELS),
        resources=Resources(
            gpus_per_replica=gpus if stated else None,
            workers_per_replica=workers,
            memory_per_gpu=draw(st.none() | st.sampled_from(["20Gi", "80Gi", "80G", "300Gi"])),
            compute_per_gpu=draw(st.none() | st.integers(1, 2000)),
        ),
        runtime=Runtime(image="example.org/image:1"),
        replicas=draw(st.integers(0, 20)),
    )


def needed_by_hand(spec: DeepSeekJobSpec, shape: Shape) -> float:
    """A lower bound that no engine can beat: the weights alone, split over all GPUs of the replica."""
    facts = catalogue.find(spec.model) if spec.model else None
    return 0.0 if facts is None else facts.parameters * 0.53 / shape.gpus


@given(spec=specs(), cluster=st.lists(kinds(), max_size=6))
def test_a_shape_holds_the_model_and_fits_a_node(
    spec: DeepSeekJobSpec, cluster: list[AcceleratorKind]
) -> None:
    for shape in size(spec, cluster).shapes:
        assert shape.kind in cluster
        assert shape.gpus_per_worker <= shape.kind.max_per_node
        assert shape.gpus <= shape.kind.total
        assert shape.tensor_parallel * shape.pipeline_parallel == shape.gpus
        assert shape.memory_needed <= shape.kind.memory
        assert needed_by_hand(spec, shape) <= shape.kind.memory
        if spec.resources.gpus_per_replica is not None:
            assert shape.gpus == spec.resources.gpus_per_replica
        if spec.resources.workers_per_replica is not None:
            assert shape.workers == spec.resources.workers_per_replica


@given(spec=specs(), cluster=st.lists(kinds(), max_size=6))
def test_there_are_shapes_or_a_refusal_with_numbers(
    spec: DeepSeekJobSpec, cluster: list[AcceleratorKind]
) -> None:
    sizing = size(spec, cluster)
    assert bool(sizing.shapes) != (sizing.refusal is not None)
    if sizing.refusal is not None:
        assert sizing.refusal.reason.user_must_act
        assert re.search(r"[0-9]", sizing.refusal.message)
        assert sizing.refusal.message.endswith(".")


@given(spec=specs(), cluster=st.lists(kinds(), max_size=6), data=st.data())
def test_the_order_of_kinds_does_not_matter(
    spec: DeepSeekJobSpec, cluster: list[AcceleratorKind], data: st.DataObject
) -> None:
    assert size(spec, cluster) == size(spec, data.draw(st.permutations(cluster)))


@given(
    task=st.sampled_from(TaskType),
    model=MODELS,
    more_context=st.integers(0, 200_000),
    more_concurrency=st.integers(0, 256),
    kind=kinds(),
)
def test_more_tokens_never_take_fewer_gpus(
    task: TaskType, model: Model, more_context: int, more_concurrency: int, kind: AcceleratorKind
) -> None:
    larger = model.model_copy(
        update={
            "context_length": model.context_length + more_context,
            "concurrency": model.concurrency + more_concurrency,
        }
    )
    runtime = Runtime(image="example.org/image:1")
    few = size(DeepSeekJobSpec(task_type=task, model=model, runtime=runtime), [kind])
    many = size(DeepSeekJobSpec(task_type=task, model=larger, runtime=runtime), [kind])
    if many.shapes and model.context_length != catalogue.DEFAULT_CONTEXT:
        assert few.shapes
        assert few.shapes[0].gpus <= many.shapes[0].gpus


@given(spec=specs(), kind=kinds())
def test_the_split_of_a_service_follows_from_its_size(spec: DeepSeekJobSpec, kind: AcceleratorKind) -> None:
    """After a restart only the numbers of workers and GPUs are known; engines must be told the same."""
    for shape in size(spec, [kind]).shapes:
        if spec.task_type.serves:
            facts = catalogue.find(spec.model) if spec.model else None
            again = serving_layout(shape.gpus, shape.workers, facts)
            assert (again.tensor_parallel, again.pipeline_parallel) == (
                shape.tensor_parallel,
                shape.pipeline_parallel,
            )


@given(gpus=st.integers(1, 4096), most=st.integers(1, 32))
def test_workers_are_equal_and_as_few_as_can_be(gpus: int, most: int) -> None:
    workers = fewest_workers(gpus, most)
    assert gpus % workers == 0
    assert gpus // workers <= most
    assert not any(gpus % fewer == 0 and gpus // fewer <= most for fewer in range(1, workers))
