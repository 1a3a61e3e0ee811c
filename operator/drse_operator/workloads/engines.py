"""Serving engines: image, command, arguments and probes that follow from a job and its split.

DRSE states what it sized for (parallel sizes, context, concurrency, share of memory), so that the engine
and the sizing reckon alike. ``runtime.args`` come after these, and both engines let the last of equal
options win. Only Inference jobs get any of this: other tasks run ``runtime.image`` as they please, and so
does engine Custom.

Sources: docs.vllm.ai (vllm serve, parallelism and scaling) and docs.sglang.io (server arguments,
multi-node deployment).
"""

from __future__ import annotations

from dataclasses import dataclass

from drse_operator.api.deepseekjob import DeepSeekJobSpec
from drse_operator.api.enums import Engine, Precision, Vendor
from drse_operator.sizing import catalogue
from drse_operator.sizing.footprint import SERVING_SHARE
from drse_operator.sizing.layouts import Layout
from drse_operator.workloads.names import Document
from drse_operator.workloads.services import HTTP_PORT_NAME, RENDEZVOUS_PORT

#: Weights of hundreds of GB come from slow storage; an engine may take an hour before it answers.
_STARTUP_SECONDS = 3600
#: Probes of a container by their field names.
Probes = tuple[tuple[str, Document], ...]

_VLLM = ("vllm", "serve")
_SGLANG = ("python3", "-m", "sglang.launch_server")
_DTYPES = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}


@dataclass(frozen=True, slots=True)
class EngineImages:
    """Default images, pinned by version; the administrator may set others. SGLang has none for Gaudi."""

    vllm_nvidia: str = "docker.io/vllm/vllm-openai:v0.28.0"
    vllm_amd: str = "docker.io/vllm/vllm-openai-rocm:v0.28.0"
    vllm_habana: str = "docker.io/opea/vllm-gaudi:1.22.0"
    sglang_nvidia: str = "docker.io/lmsysorg/sglang:v0.5.18"
    sglang_amd: str = "docker.io/lmsysorg/sglang:v0.5.18-rocm720-mi30x"

    def of(self, engine: Engine, vendor: Vendor) -> str:
        """The image of an engine for a vendor's accelerators; empty when there is none."""
        match engine, vendor:
            case Engine.VLLM, Vendor.NVIDIA:
                return self.vllm_nvidia
            case Engine.VLLM, Vendor.AMD:
                return self.vllm_amd
            case Engine.VLLM, Vendor.HABANA:
                return self.vllm_habana
            case Engine.SGLANG, Vendor.NVIDIA:
                return self.sglang_nvidia
            case Engine.SGLANG, Vendor.AMD:
                return self.sglang_amd
            case _:
                return ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands in its replica: the split, its index, and the address of worker 0."""

    layout: Layout
    worker: int
    master_address: str


@dataclass(frozen=True, slots=True)
class Program:
    """What the engine's container runs, before the user's own words on it."""

    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    probes: Probes = ()


def program(spec: DeepSeekJobSpec, place: Place) -> Program:
    """The program of one worker. Workers other than 0 serve no HTTP, so they have no probes."""
    if not spec.task_type.serves:
        return Program()
    answers = place.worker == 0
    match spec.runtime.engine:
        case Engine.VLLM:
            return Program(_VLLM, _vllm_args(spec, place), _engine_probes() if answers else ())
        case Engine.SGLANG:
            return Program(_SGLANG, _sglang_args(spec, place), _engine_probes() if answers else ())
        case Engine.CUSTOM:
            return Program(probes=_custom_probes() if answers else ())


def _vllm_args(spec: DeepSeekJobSpec, place: Place) -> tuple[str, ...]:
    layout = place.layout
    args = [*_model_name(spec)]
    args += ["--host", "0.0.0.0", "--port", str(spec.runtime.port)]
    args += ["--tensor-parallel-size", str(layout.tensor_parallel)]
    if layout.pipeline_parallel > 1:
        args += ["--pipeline-parallel-size", str(layout.pipeline_parallel)]
    args += ["--gpu-memory-utilization", str(SERVING_SHARE)]
    if (context := _context(spec)) is not None:
        args += ["--max-model-len", str(context), "--max-num-seqs", str(_sequences(spec))]
    args += _number_format(spec)
    if layout.workers > 1:
        # Without Ray: rank 0 serves, the others join it (multiprocessing backend over nodes).
        args += ["--distributed-executor-backend", "mp", "--nnodes", str(layout.workers)]
        args += ["--node-rank", str(place.worker)]
        args += ["--master-addr", place.master_address, "--master-port", str(RENDEZVOUS_PORT)]
        args += ["--headless"] if place.worker > 0 else []
    return tuple(args)


def _sglang_args(spec: DeepSeekJobSpec, place: Place) -> tuple[str, ...]:
    layout = place.layout
    args = [word for name in _model_name(spec) for word in ("--model-path", name)]
    args += ["--host", "0.0.0.0", "--port", str(spec.runtime.port), "--enable-metrics"]
    args += ["--tp-size", str(layout.tensor_parallel)]
    if layout.pipeline_parallel > 1:
        args += ["--pp-size", str(layout.pipeline_parallel)]
    if (context := _context(spec)) is not None:
        args += ["--context-length", str(context), "--max-running-requests", str(_sequences(spec))]
    args += _number_format(spec)
    if layout.workers > 1:
        args += ["--nnodes", str(layout.workers), "--node-rank", str(place.worker)]
        args += ["--dist-init-addr", f"{place.master_address}:{RENDEZVOUS_PORT}"]
    return tuple(args)


def _model_name(spec: DeepSeekJobSpec) -> list[str]:
    """The repository to load: spelled as published where the catalogue knows it. None for a mere shape."""
    if spec.model is None or spec.model.name is None:
        return []
    known = catalogue.lookup(spec.model.name)
    return [known.name if known is not None else spec.model.name]


def _context(spec: DeepSeekJobSpec) -> int | None:
    return None if spec.model is None else catalogue.context_of(spec.model, catalogue.find(spec.model))


def _sequences(spec: DeepSeekJobSpec) -> int:
    """Requests in one batch: short ones share the cache that full contexts were sized for."""
    assert spec.model is not None
    return max(spec.model.concurrency, spec.scaling.target_concurrency)


def _number_format(spec: DeepSeekJobSpec) -> list[str]:
    """Options for the precision asked for. INT8 and INT4 checkpoints say themselves what they are."""
    if spec.model is None or spec.model.precision is None:
        return []
    precision, known = spec.model.precision, catalogue.find(spec.model)
    if precision is Precision.FP8:
        published = known is not None and known.precision is Precision.FP8
        return [] if published else ["--quantization", "fp8"]
    return ["--dtype", _DTYPES[precision]] if precision in _DTYPES else []


def _engine_probes() -> Probes:
    return (
        ("startupProbe", _health(period=10, failures=_STARTUP_SECONDS // 10)),
        ("readinessProbe", _health(period=5, failures=3)),
        # A long prefill can hold the health endpoint up; a minute of silence is a hang.
        ("livenessProbe", _health(period=10, failures=6)),
    )


def _health(period: int, failures: int) -> Document:
    return {
        "httpGet": {"path": "/health", "port": HTTP_PORT_NAME},
        "timeoutSeconds": 5,
        "periodSeconds": period,
        "failureThreshold": failures,
    }


def _custom_probes() -> Probes:
    """Of an unknown server only the port is known."""
    return (("readinessProbe", {"tcpSocket": {"port": HTTP_PORT_NAME}, "periodSeconds": 5}),)
