"""Models by name: the numbers that decide their memory.

Each row repeats what the model's published ``config.json`` and model card say (huggingface.co/deepseek-ai).
Key and value cache per token and layer:

* grouped-query attention keeps a key and a value for each KV head: ``2 x kv_heads x head_dim``;
* multi-head latent attention (MLA, DeepSeek-V2, arXiv:2405.04434) keeps one latent and one rotary key,
  ``kv_lora_rank + qk_rope_head_dim`` = 512 + 64, shared by all heads. Tensor parallelism cannot split it:
  each rank keeps all of it;
* DeepSeek-V3.2 adds the key of its sparse-attention indexer, 128 FP8 numbers and a 4-byte scale;
* DeepSeek-V4 compresses the cache along the sequence, so its row gives the measured bytes per token.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from drse_operator.api.deepseekjob import Model, ModelShape, active_or_all
from drse_operator.api.enums import Precision
from drse_operator.api.types import parameter_count

#: What the API fills in when the user states no context length, in tokens.
DEFAULT_CONTEXT: int = Model.model_fields["context_length"].default

_CACHE_BYTES = 2  # keys and values are kept in BF16 unless the user turns on a quantised cache
_MLA_WIDTH = 512 + 64
_V32_INDEXER_BYTES = 128 + 4


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as far as memory is concerned.

    ``name`` is the repository the weights are published under, empty for a shape. ``parameters`` and
    ``active_parameters`` count numbers; ``precision`` is the format they are published in and
    ``published_bytes`` the size of that checkpoint where it mixes formats (0: parameters x format).
    ``kv_bytes_per_token`` is for all layers together; ``kv_shards`` is into how many tensor-parallel ranks
    the cache can be split (0: any number). ``attention_heads`` must be divisible by the tensor-parallel
    size (0: unknown). ``max_context`` is in tokens (0: unknown).
    """

    name: str
    parameters: int
    active_parameters: int
    layers: int
    hidden: int
    attention_heads: int
    kv_bytes_per_token: int
    kv_shards: int
    max_context: int
    precision: Precision
    published_bytes: int = 0


def facts_of_shape(shape: ModelShape) -> ModelFacts:
    """A model described by the user. Its cache is taken to split over all ranks, as with a head per rank."""
    cache = shape.kv_cache_bytes_per_token or 2 * _CACHE_BYTES * shape.layers * shape.hidden_size
    return ModelFacts(
        name="",
        parameters=parameter_count(shape.parameters),
        active_parameters=active_or_all(shape),
        layers=shape.layers,
        hidden=shape.hidden_size,
        attention_heads=0,
        kv_bytes_per_token=cache,
        kv_shards=0,
        max_context=0,
        precision=Precision.BF16,
    )


def find(model: Model) -> ModelFacts | None:
    """The facts of a job's model: its shape where given, else the catalogue's; None when unknown."""
    if model.shape is not None:
        return facts_of_shape(model.shape)
    return lookup(model.name) if model.name is not None else None


def context_of(model: Model, facts: ModelFacts | None) -> int:
    """Tokens of context to provide for. A model that ends before the API's default gets all it has."""
    if facts is not None and 0 < facts.max_context < model.context_length == DEFAULT_CONTEXT:
        return facts.max_context
    return model.context_length


def lookup(name: str) -> ModelFacts | None:
    """The model of that name, in any case and with or without ``deepseek-ai/``; None when unknown."""
    return _BY_NAME.get(_key(name))


def suggestions(name: str) -> tuple[str, ...]:
    """Up to three names of the catalogue that look like ``name``, closest first."""
    close = difflib.get_close_matches(_key(name), _BY_NAME, n=3, cutoff=0.5)
    return tuple(_BY_NAME[key].name for key in close)


def names() -> tuple[str, ...]:
    """All names in the catalogue."""
    return tuple(facts.name for facts in _BY_NAME.values())


def _key(name: str) -> str:
    return name.strip().lower().rsplit("/", maxsplit=1)[-1]


@dataclass(frozen=True, slots=True)
class _Gqa:
    """Grouped-query attention; all of these models have heads 128 wide."""

    kv_heads: int
    head_dim: int = 128


@dataclass(frozen=True, slots=True)
class _Mla:
    """Multi-head latent attention, with bytes per token and layer that come on top of the latent."""

    extra_bytes: int = 0


def _family(
    names: str,
    parameters: str,
    active: str,
    layers: int,
    hidden: int,
    heads: int,
    attention: _Gqa | _Mla | int,
    context: int,
    precision: Precision = Precision.BF16,
    published_bytes: int = 0,
) -> tuple[ModelFacts, ...]:
    """One row for each name; ``attention`` given as a number is bytes per token over all layers."""
    match attention:
        case _Gqa(kv_heads, head_dim):
            cache, shards = 2 * kv_heads * head_dim * _CACHE_BYTES * layers, kv_heads
        case _Mla(extra):
            cache, shards = (_MLA_WIDTH * _CACHE_BYTES + extra) * layers, 1
        case int():
            cache, shards = attention, 1
    return tuple(
        ModelFacts(
            name=f"deepseek-ai/{name}",
            parameters=parameter_count(parameters),
            active_parameters=parameter_count(active),
            layers=layers,
            hidden=hidden,
            attention_heads=heads,
            kv_bytes_per_token=cache,
            kv_shards=shards,
            max_context=context,
            precision=precision,
            published_bytes=published_bytes,
        )
        for name in names.split()
    )


_FP8 = Precision.FP8
_MLA, _DSA = _Mla(), _Mla(_V32_INDEXER_BYTES)
_ROWS: tuple[tuple[ModelFacts, ...], ...] = (
    # V4 (model cards of April 2026): experts in FP4, the rest in FP8, so the checkpoint size is stated.
    # Pro takes 9.62 GiB of cache for 2^20 tokens in BF16; Flash has 43 such layers in place of 61.
    _family("DeepSeek-V4-Pro", "1600B", "49B", 61, 7168, 128, 9_851, 1_048_576, _FP8, 865 * 10**9),
    _family("DeepSeek-V4-Pro-Base", "1600B", "49B", 61, 7168, 128, 9_851, 1_048_576, _FP8),
    _family("DeepSeek-V4-Flash", "284B", "13B", 43, 4096, 64, 6_945, 1_048_576, _FP8, 160 * 10**9),
    _family("DeepSeek-V4-Flash-Base", "284B", "13B", 43, 4096, 64, 6_945, 1_048_576, _FP8),
    _family(
        "DeepSeek-V3.2 DeepSeek-V3.2-Exp DeepSeek-V3.2-Exp-Base DeepSeek-V3.2-Speciale",
        "671B", "37B", 61, 7168, 128, _DSA, 163_840, _FP8,
    ),
    _family(
        "DeepSeek-R1 DeepSeek-R1-0528 DeepSeek-R1-Zero DeepSeek-V3 DeepSeek-V3-0324 DeepSeek-V3-Base "
        "DeepSeek-V3.1 DeepSeek-V3.1-Base DeepSeek-V3.1-Terminus",
        "671B", "37B", 61, 7168, 128, _MLA, 163_840, _FP8,
    ),
    _family(
        "DeepSeek-V2 DeepSeek-V2-Chat DeepSeek-V2-Chat-0628 DeepSeek-V2.5 DeepSeek-V2.5-1210 "
        "DeepSeek-Coder-V2-Base DeepSeek-Coder-V2-Instruct DeepSeek-Coder-V2-Instruct-0724",
        "236B", "21B", 60, 5120, 128, _MLA, 163_840,
    ),
    _family(
        "DeepSeek-V2-Lite DeepSeek-V2-Lite-Chat DeepSeek-Coder-V2-Lite-Base DeepSeek-Coder-V2-Lite-Instruct",
        "15.7B", "2.4B", 27, 2048, 16, _MLA, 163_840,
    ),
    _family("DeepSeek-R1-Distill-Qwen-1.5B", "1.78B", "1.78B", 28, 1536, 12, _Gqa(2), 131_072),
    _family("DeepSeek-R1-Distill-Qwen-7B", "7.62B", "7.62B", 28, 3584, 28, _Gqa(4), 131_072),
    _family("DeepSeek-R1-Distill-Qwen-14B", "14.8B", "14.8B", 48, 5120, 40, _Gqa(8), 131_072),
    _family("DeepSeek-R1-Distill-Qwen-32B", "32.8B", "32.8B", 64, 5120, 40, _Gqa(8), 131_072),
    _family("DeepSeek-R1-Distill-Llama-8B", "8.03B", "8.03B", 32, 4096, 32, _Gqa(8), 131_072),
    _family("DeepSeek-R1-Distill-Llama-70B", "70.6B", "70.6B", 80, 8192, 64, _Gqa(8), 131_072),
    _family("DeepSeek-R1-0528-Qwen3-8B", "8.19B", "8.19B", 36, 4096, 32, _Gqa(8), 131_072),
    _family("deepseek-llm-67b-base deepseek-llm-67b-chat", "67.4B", "67.4B", 95, 8192, 64, _Gqa(8), 4_096),
    _family(
        "deepseek-llm-7b-base deepseek-llm-7b-chat deepseek-math-7b-base deepseek-math-7b-instruct "
        "deepseek-math-7b-rl deepseek-coder-7b-base-v1.5 deepseek-coder-7b-instruct-v1.5",
        "6.91B", "6.91B", 30, 4096, 32, _Gqa(32), 4_096,
    ),
    _family("deepseek-moe-16b-base deepseek-moe-16b-chat", "16.4B", "2.8B", 28, 2048, 16, _Gqa(16), 4_096),
    _family(
        "deepseek-coder-1.3b-base deepseek-coder-1.3b-instruct",
        "1.35B", "1.35B", 24, 2048, 16, _Gqa(16), 16_384,
    ),
    _family(
        "deepseek-coder-6.7b-base deepseek-coder-6.7b-instruct",
        "6.74B", "6.74B", 32, 4096, 32, _Gqa(32), 16_384,
    ),
    _family(
        "deepseek-coder-33b-base deepseek-coder-33b-instruct",
        "33.3B", "33.3B", 62, 7168, 56, _Gqa(8), 16_384,
    ),
)  # fmt: skip

_BY_NAME: dict[str, ModelFacts] = {_key(facts.name): facts for row in _ROWS for facts in row}
