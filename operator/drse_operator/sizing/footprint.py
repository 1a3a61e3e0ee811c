"""How much memory one GPU of a replica needs.

Everything is counted in bytes per GPU, in four parts that add up: weights, state (what training keeps beside
the weights), cache (keys and values), and workspace (activations and what the runtime takes for itself).

Serving, also of batches, is sized for an engine such as vLLM:

* weights are split over tensor-parallel ranks and pipeline stages; the fullest stage decides;
* the cache holds ``concurrency x context`` tokens. It splits over stages, and over as many ranks as there are
  KV heads; MLA's latent is whole on every rank (see :mod:`drse_operator.sizing.catalogue`);
* an engine profiles a prefill chunk of up to 8192 tokens, at about ten hidden-size BF16 tensors a token;
* 2 GiB go to the CUDA context, NCCL buffers and captured graphs, and a tenth of the card stays unused
  (vLLM's ``gpu_memory_utilization`` of 0.9, which DRSE passes on).

Training is sized as fully sharded (ZeRO stage 3, Rajbhandari et al. 2020, arXiv:1910.02054; PyTorch FSDP):

* mixed precision with Adam keeps 18 bytes a parameter: 2 BF16 weights, 4 FP32 gradients, 4 FP32 master
  weights, 8 Adam moments (Megatron Core's distributed optimizer; ZeRO counts 16 with BF16 gradients);
* fine-tuning means LoRA (Hu et al. 2021, arXiv:2106.09685): frozen weights, and those 18 bytes for adapters
  of one per cent of the parameters. A full fine-tune states ``gpusPerReplica`` itself;
* distillation trains a student in full beside a frozen teacher in BF16 that is taken to be as large: the job
  names one model. A larger teacher needs ``gpusPerReplica`` stated;
* activations are checkpointed by layer: 2 bytes x hidden per token and layer, and 34 bytes x hidden for the
  layer that is recomputed (Korthikanti et al. 2022, arXiv:2205.05198, without the attention matrix, which
  flash attention never stores). The tokens of a step are spread evenly over the GPUs, by data parallelism or,
  for contexts longer than one GPU holds, context parallelism;
* two layers are gathered whole at a time (one computes, one is prefetched), of a mixture of experts the
  active part; the loss takes logits of 8192 tokens at a time in BF16 and FP32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drse_operator.api.enums import Precision, TaskType
from drse_operator.sizing.catalogue import ModelFacts

GIB = 2**30

#: Share of a card that serving engines fill; passed to the engine, so that both reckon alike.
SERVING_SHARE = 0.9
#: Share of a card that training fills; the rest is lost to the allocator's fragmentation.
TRAINING_SHARE = 0.95

_RUNTIME_BYTES = 2 * GIB
_BYTES_PER_WEIGHT = {
    Precision.FP32: 4.0,
    Precision.BF16: 2.0,
    Precision.FP16: 2.0,
    Precision.FP8: 1.0,
    Precision.INT8: 1.0,
    Precision.INT4: 0.53,  # groups of 128 weights carry a 16-bit scale and a zero point
}
_VOCABULARY = 131_072  # rows of the embedding; DeepSeek, Qwen and Llama have 102,400 to 152,064
_PREFILL_TOKENS = 8_192
_PREFILL_BYTES = 20  # per token and hidden number
_ADAM_BYTES = 18
_BF16_BYTES = 2
_ADAPTER_SHARE = 0.01
_RECOMPUTE_BYTES = 34
_LOGIT_BYTES = 6
_GATHERED_LAYERS = 2


@dataclass(frozen=True, slots=True)
class Work:
    """What a replica does with its model: the task, the format of its weights, and the tokens it holds.

    ``mixed`` is True when the weights are the published checkpoint, whose size may be known as such.
    """

    task: TaskType
    precision: Precision
    context: int
    concurrency: int
    mixed: bool = False

    @property
    def trains(self) -> bool:
        """True when weights change; batches are served like any other requests."""
        return self.task not in (TaskType.INFERENCE, TaskType.BATCH)

    @property
    def tokens(self) -> int:
        """Tokens held in memory at once by one replica."""
        return self.context * self.concurrency


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on the fullest GPU of a replica; ``share`` is the part of a card that may be filled."""

    weights: int
    state: int
    cache: int
    workspace: int
    share: float

    @property
    def memory_needed(self) -> int:
        """Bytes that a GPU must have to hold this."""
        return math.ceil((self.weights + self.state + self.cache + self.workspace) / self.share)


def footprint(model: ModelFacts, work: Work, tensor_parallel: int, pipeline_parallel: int) -> Footprint:
    """Memory per GPU of a replica on ``tensor_parallel x pipeline_parallel`` GPUs.

    Training shards over all of them alike, so only the product counts there.
    """
    if work.trains:
        return _training(model, work, tensor_parallel * pipeline_parallel)
    return _serving(model, work, tensor_parallel, pipeline_parallel)


def weight_bytes(model: ModelFacts, precision: Precision, published: bool = False) -> int:
    """Bytes of all weights. Below 16 bits, embedding and output head stay in BF16, as is usual."""
    if published and model.published_bytes:
        return model.published_bytes
    per_weight = _BYTES_PER_WEIGHT[precision]
    kept = min(model.parameters, 2 * _VOCABULARY * model.hidden) if per_weight < _BF16_BYTES else 0
    return math.ceil((model.parameters - kept) * per_weight + kept * _BF16_BYTES)


def _serving(model: ModelFacts, work: Work, tensor_parallel: int, pipeline_parallel: int) -> Footprint:
    fullest_stage = math.ceil(model.layers / pipeline_parallel) / model.layers
    cache_ranks = min(tensor_parallel, model.kv_shards) if model.kv_shards else tensor_parallel
    prefill = min(work.tokens, _PREFILL_TOKENS)
    return Footprint(
        weights=math.ceil(weight_bytes(model, work.precision, work.mixed) * fullest_stage / tensor_parallel),
        state=0,
        cache=math.ceil(work.tokens * model.kv_bytes_per_token * fullest_stage / cache_ranks),
        workspace=_RUNTIME_BYTES + prefill * model.hidden * _PREFILL_BYTES,
        share=SERVING_SHARE,
    )


def _training(model: ModelFacts, work: Work, gpus: int) -> Footprint:
    match work.task:
        case TaskType.FINE_TUNING:
            frozen = weight_bytes(model, work.precision)
            state = model.parameters * _ADAPTER_SHARE * _ADAM_BYTES
        case TaskType.DISTILLATION:
            frozen = model.parameters * _BF16_BYTES
            state = model.parameters * _ADAM_BYTES
        case _:
            frozen = 0
            state = model.parameters * _ADAM_BYTES
    tokens = math.ceil(work.tokens / gpus)
    kept = tokens * model.hidden * (model.layers * _BF16_BYTES + _RECOMPUTE_BYTES)
    logits = min(tokens, _PREFILL_TOKENS) * _VOCABULARY * _LOGIT_BYTES
    layer = model.active_parameters * _BF16_BYTES / model.layers
    gathered = _GATHERED_LAYERS * layer if gpus > 1 else 0
    return Footprint(
        weights=math.ceil(frozen / gpus),
        state=math.ceil(state / gpus),
        cache=0,
        workspace=_RUNTIME_BYTES + kept + logits + math.ceil(gathered),
        share=TRAINING_SHARE,
    )
