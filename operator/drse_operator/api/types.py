"""Scalar types of the API and the arithmetic on them: numbers, durations, quantities, names.

Numbers and flags are strict, because the API server does not take ``"5"`` for 5. Patterns are read by
pydantic's Rust engine, where ``$`` means the very end of the text, as in the API server's RE2 (and
not before a trailing newline, as in Python's ``re``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Count = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a text, explained by a sentence.

    Stands behind ``Field`` in ``Annotated``. In the schema it is a rule and no ``pattern``, so that what the
    user reads is ``message`` and not a regular expression. ``pattern`` is one that RE2 and Python read alike,
    from ``^`` to ``$``, without backslashes (they mean something else in CEL).
    """

    pattern: str
    message: str

    @property
    def cel(self) -> str:
        """The condition in CEL, on ``self``."""
        return f"self.matches('{self.pattern}')"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        rule = {"rule": self.cel, "message": self.message}
        return {**handler(schema), "x-kubernetes-validations": [rule]}

    def fits(self, text: str) -> bool:
        """Whether ``text`` has this form; a trailing newline does not."""
        return re.fullmatch(self.pattern.removesuffix("$"), text) is not None

    def _check(self, text: str) -> str:
        if not self.fits(text):
            raise ValueError(self.message)
        return text


DURATION = Form(
    "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$",
    "must be a duration of hours, minutes and seconds in that order, such as 1h30m or 90s",
)
QUANTITY = Form(
    "^[0-9]{1,15}([.][0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
    "must be a quantity of bytes with a unit and no space, such as 80Gi or 192G",
)
PARAMETERS = Form(
    "^[0-9]{1,6}([.][0-9]{1,3})?(M|B|T)$",
    "must be a number of parameters in millions, billions or trillions, such as 350M, 671B or 1.5B",
)
#: RFC 1123 label.
LABEL = Form(
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "must hold only lower-case letters, digits and -, and start and end with a letter or digit",
)
#: RFC 1123 subdomain.
SUBDOMAIN = Form(
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "must hold only lower-case letters, digits, - and ., each part starting and ending with a letter or "
    "digit",
)
#: What Kubernetes takes for the name of an environment variable.
VARIABLE = Form(
    "^[-._a-zA-Z][-._a-zA-Z0-9]*$",
    "must hold only letters, digits, -, _ and ., and not start with a digit",
)
#: RFC 3339 with a zone.
TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[-+][0-9]{2}:[0-9]{2})$"
)
#: Any Kubernetes quantity, as in requests and limits of a container (apimachinery ``resource.Quantity``).
RESOURCE_AMOUNT_PATTERN = (
    r"^[+]?([0-9]{1,18}(\.[0-9]{0,9})?|\.[0-9]{1,9})([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?$"
)

Duration = Annotated[str, Field(min_length=2, max_length=21), DURATION]
Quantity = Annotated[str, Field(min_length=1, max_length=24), QUANTITY]
Parameters = Annotated[str, Field(min_length=2, max_length=12), PARAMETERS]
Label = Annotated[str, Field(min_length=1, max_length=63), LABEL]
Subdomain = Annotated[str, Field(min_length=1, max_length=253), SUBDOMAIN]
Variable = Annotated[str, Field(min_length=1, max_length=253), VARIABLE]
Time = Annotated[str, Field(pattern=TIME_PATTERN, max_length=64, json_schema_extra={"format": "date-time"})]

#: Amount of a resource in a container's requests and limits: a whole number or a quantity.
ResourceAmount = Annotated[
    Annotated[int, Field(strict=True, ge=0, le=10**18)]
    | Annotated[str, Field(min_length=1, max_length=64, pattern=RESOURCE_AMOUNT_PATTERN)],
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maximum": 10**18,
            "minLength": 1,
            "maxLength": 64,
            "pattern": RESOURCE_AMOUNT_PATTERN,
        }
    ),
]


_DURATION_PART = re.compile(r"([0-9]+)([hms])")
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_BYTES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
}
_COUNT = {"M": 10**6, "B": 10**9, "T": 10**12}


def seconds(duration: str) -> int:
    """Seconds in a :data:`Duration`."""
    return sum(int(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(duration))


def as_bytes(quantity: str) -> int:
    """Bytes in a :data:`Quantity`; fractions are rounded down."""
    number = re.match(r"[0-9.]+", quantity)
    if number is None:
        raise ValueError(f"{quantity!r} is not a quantity: write a number with a unit, such as 80Gi")
    return int(Fraction(number.group()) * _BYTES[quantity[number.end() :]])


def parameter_count(text: str) -> int:
    """Number of parameters in a :data:`Parameters` such as ``671B``."""
    return int(Fraction(text[:-1]) * _COUNT[text[-1]])


def gibibytes(n: float) -> str:
    """Bytes for people, e.g. ``79.6 GiB``; used in messages."""
    return f"{n / 2**30:.1f} GiB".replace(".0 ", " ")
