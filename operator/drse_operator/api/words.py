"""Closed word lists that carry their own explanation, for the API reference and for ``drse why``."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Word(StrEnum):
    """Base of a closed word list: each member is the word on the wire and what it means.

    A member is written ``NAME = ("Word", "What it means.")``. It equals its word. (The default of
    ``meaning`` is for type checkers alone, which take a look-up by word for a new member.)
    """

    _value_: str
    meaning: str

    def __new__(cls, word: str, meaning: str = "") -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member


def count(number: int, noun: str) -> str:
    """A number with its noun, e.g. ``1 GPU``, ``2 GPUs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
