"""Scalar types: what they mean, and where they are stricter than Python.

Level: data only. That the API server draws the same lines is shown in ``tests/cluster``.
"""

from __future__ import annotations

import pytest

from drse_operator.api.maps import LABEL_KEY
from drse_operator.api.reasons import ConditionType, EventReason, ScalingReason, StateReason, WaitReason
from drse_operator.api.types import (
    DURATION,
    LABEL,
    PARAMETERS,
    QUANTITY,
    SUBDOMAIN,
    VARIABLE,
    Form,
    as_bytes,
    gibibytes,
    parameter_count,
    seconds,
)
from drse_operator.api.words import Word


@pytest.mark.parametrize(
    ("duration", "expected"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h1m1s", 3661), ("0s", 0), ("999999h", 3_599_996_400)],
)
def test_seconds(duration: str, expected: int) -> None:
    assert seconds(duration) == expected


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("80Gi", 80 * 2**30),
        ("192G", 192 * 10**9),
        ("1.5Ki", 1536),
        ("0.1k", 100),
        ("7", 7),
        ("1.999", 1),
        ("999999999999999.999Pi", 1125899906842623998874100093157),
    ],
)
def test_as_bytes_is_exact(quantity: str, expected: int) -> None:
    assert as_bytes(quantity) == expected


def test_as_bytes_refuses_what_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="'lots' is not a quantity: write a number with a unit"):
        as_bytes("lots")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("671B", 671_000_000_000),
        ("1.5B", 1_500_000_000),
        ("350M", 350_000_000),
        ("1.001T", 1_001_000_000_000),
    ],
)
def test_parameter_count(text: str, expected: int) -> None:
    assert parameter_count(text) == expected


@pytest.mark.parametrize(("n", "expected"), [(80 * 2**30, "80 GiB"), (1.5 * 2**30, "1.5 GiB")])
def test_gibibytes(n: float, expected: str) -> None:
    assert gibibytes(n) == expected


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (DURATION, ("1h", "1h30m", "90s"), ("1m1h", "1.5h", "h", "1 h", "1d", "-1s", "1h\n")),
        (QUANTITY, ("80Gi", "1.5T", "7"), ("80 Gi", "80GB", "-1Gi", "Gi", "1.", "80Gi\n", "1e3")),
        (PARAMETERS, ("671B", "1.5B"), ("671", "671b", "671 B", "x", "671B\n")),
        (LABEL, ("a", "a-1", "1a"), ("A", "-a", "a-", "a.b", "a_b", "", "a\n", "é")),
        (SUBDOMAIN, ("a", "a.b-c.d"), (".a", "a.", "a..b", "A.b", "a\n")),
        (VARIABLE, ("A", "_a.b-c", ".a"), ("1A", "A B", "A=B", "", "A\n")),
        (
            LABEL_KEY,
            ("team", "example.com/Team_1"),
            ("a b", "/a", "a/", "a/b/c", "-a", "x" * 64, "A.com/b", "a\n"),
        ),
    ],
    ids=["duration", "quantity", "parameters", "label", "subdomain", "variable", "label key"],
)
def test_forms(form: Form, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    assert [text for text in good if not form.fits(text)] == []
    assert [text for text in bad if form.fits(text)] == []
    assert "\\" not in form.pattern, "a backslash would mean something else in CEL"


@pytest.mark.parametrize(
    "words", [WaitReason, ScalingReason, ConditionType, StateReason, EventReason, *Word.__subclasses__()]
)
def test_every_word_has_a_meaning(words: type[Word]) -> None:
    for word in words:
        assert word.meaning.endswith("."), word
        assert words(word.value) is word
        assert f"{word}" == word.value
