"""What every API model shares: camelCase on the wire, frozen in memory, rules declared once.

A cross-field rule is written one time, as a :class:`Rule` with its CEL text (enforced by the API server)
and its Python twin (enforced here). Keeping the two side by side is what keeps the two sets of accepted
objects the same; ``tests/cluster/test_validation_agreement.py`` proves that they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

GROUP = "drse.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One cross-field rule.

    ``cel`` is evaluated by the API server with ``self`` bound to the object that declares the rule.
    ``holds`` gets the parsed model and says the same in Python; ``None`` marks a rule that reads ``oldSelf``
    or ``metadata``, which only the API server sees.
    ``message`` is what the user reads: what is wrong and what to change.
    ``field_path`` is the field that the API server names in its answer, such as ``.minReplicas``; the object
    that declares the rule when left out.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    field_path: str | None = None


class ApiModel(BaseModel):
    """Base of all spec types: unknown fields are errors, instances are immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=False,
        allow_inf_nan=False,
    )

    #: Cross-field rules, see :class:`Rule`.
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_as_the_api_server_does(cls, data: Any) -> Any:
        """Drop nulls of known fields, and take whole floats for integers.

        The API server removes an explicit null before it fills in defaults, unless the field is nullable
        (none of ours is), and JSON Schema counts 5.0 as an integer.
        """
        if not isinstance(data, dict):
            return data
        known = _wire_names(cls)
        return {
            key: int(value) if key in known and isinstance(value, float) and value.is_integer() else value
            for key, value in data.items()
            if value is not None or key not in known
        }

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in type(self).rules:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.message)
        return self

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Parse what the Kubernetes API sends; unlike ``model_validate``, only camelCase names count.

        Raises ``pydantic.ValidationError`` for exactly what the API server refuses.
        """
        return cls.model_validate(data, by_alias=True, by_name=False)

    def to_wire(self) -> dict[str, Any]:
        """The object as JSON-ready data with camelCase keys, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """Base of all status types: fields written by a newer operator are ignored, not fatal."""

    model_config = ConfigDict(extra="ignore")


@cache
def _wire_names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())
