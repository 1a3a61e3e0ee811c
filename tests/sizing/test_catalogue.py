"""The catalogue against figures that the models' own papers and cards state."""

from __future__ import annotations

import pytest

from drse_operator.api.deepseekjob import Model, ModelShape
from drse_operator.api.enums import Precision
from drse_operator.sizing import catalogue
from drse_operator.sizing.footprint import weight_bytes


@pytest.mark.parametrize(
    "name", ["deepseek-ai/DeepSeek-R1", "DeepSeek-R1", "deepseek-r1", " DEEPSEEK-AI/deepseek-R1"]
)
def test_names_are_found_in_any_spelling(name: str) -> None:
    facts = catalogue.lookup(name)
    assert facts is not None
    assert facts.name == "deepseek-ai/DeepSeek-R1"


def test_misspelt_names_bring_suggestions() -> None:
    assert catalogue.lookup("DeepSek-R1") is None
    assert "deepseek-ai/DeepSeek-R1" in catalogue.suggestions("DeepSek-R1")
    assert catalogue.suggestions("completely different") == ()


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        # DeepSeek-V3: 70.272 KB (arXiv:2505.09343, table 1, which also gives 516 KB for Llama-3.1 405B).
        ("DeepSeek-V3", 70_272),
        # Llama-3 70B and 8B shapes: 2 x 8 heads x 128 x 2 bytes x layers.
        ("DeepSeek-R1-Distill-Llama-70B", 327_680),
        ("DeepSeek-R1-Distill-Llama-8B", 131_072),
    ],
)
def test_cache_per_token_is_as_published(name: str, bytes_per_token: int) -> None:
    facts = catalogue.lookup(name)
    assert facts is not None
    assert facts.kv_bytes_per_token == bytes_per_token


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("DeepSeek-R1", 674),  # 688 GB on disk, of which 14 are the multi-token-prediction module
        ("DeepSeek-R1-Distill-Llama-70B", 141),
        ("DeepSeek-R1-Distill-Qwen-32B", 65.5),
        ("DeepSeek-R1-Distill-Qwen-7B", 15.2),
        ("DeepSeek-V2", 472),
    ],
)
def test_weights_come_near_the_checkpoint_on_disk(name: str, gigabytes: float) -> None:
    facts = catalogue.lookup(name)
    assert facts is not None
    assert weight_bytes(facts, facts.precision, published=True) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_quantised_weights_keep_embeddings_in_16_bits() -> None:
    facts = catalogue.lookup("DeepSeek-R1-Distill-Qwen-7B")
    assert facts is not None
    # 4-bit AWQ checkpoints of this architecture have 5.57 GB.
    assert weight_bytes(facts, Precision.INT4) / 1e9 == pytest.approx(5.57, rel=0.06)


def test_rows_are_plausible() -> None:
    for name in catalogue.names():
        facts = catalogue.lookup(name)
        assert facts is not None
        assert 0 < facts.active_parameters <= facts.parameters
        assert facts.hidden % 128 == 0
        assert facts.max_context >= 4096


def test_a_context_of_the_default_length_shrinks_to_what_the_model_reads() -> None:
    short = Model(name="deepseek-llm-7b-chat")
    assert catalogue.context_of(short, catalogue.find(short)) == 4096
    stated = Model(name="deepseek-llm-7b-chat", context_length=16_384)
    assert catalogue.context_of(stated, catalogue.find(stated)) == 16_384


def test_a_shape_wins_over_a_name() -> None:
    shape = ModelShape(parameters="70B", layers=80, hidden_size=8192)
    facts = catalogue.find(Model(name="DeepSeek-R1", shape=shape))
    assert facts is not None
    assert facts.parameters == 70 * 10**9
    assert facts.kv_bytes_per_token == 4 * 80 * 8192
