"""The OpenAPI description of the HTTP side, made from the documents' own models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from drse_forecaster.contract import ForecastList, JobForecast, Problem

_REFERENCE = "#/components/schemas/{model}"


def describe() -> dict[str, Any]:
    """Return the document (OpenAPI 3.1)."""
    _, schemas = models_json_schema(
        [(ForecastList, "serialization"), (JobForecast, "serialization"), (Problem, "serialization")],
        by_alias=True,
        ref_template=_REFERENCE,
    )
    tag = {"in": "header", "name": "If-None-Match", "schema": {"type": "string"}, "description": "An ETag."}
    names = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
        for name in ("namespace", "name")
    ]
    not_yet = _answer("No round has been made yet.", "Problem")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DRSE forecaster",
            "version": version("drse"),
            "description": "Loads of DeepSeekJobs in GPU-equivalents, forecast with measured accuracy.",
        },
        "paths": {
            "/v1/forecasts": {
                "get": {
                    "operationId": "listForecasts",
                    "summary": "All jobs that this replica serves, from one round.",
                    "parameters": [tag],
                    "responses": {
                        "200": _answer("Every job's forecast.", "ForecastList"),
                        "304": {"description": "Nothing has changed since that ETag."},
                        "503": not_yet,
                    },
                }
            },
            "/v1/forecasts/{namespace}/{name}": {
                "get": {
                    "operationId": "getForecast",
                    "summary": "One job.",
                    "parameters": [*names, tag],
                    "responses": {
                        "200": _answer("The job's forecast.", "JobForecast"),
                        "304": {"description": "Nothing has changed since that ETag."},
                        "404": _answer("No load of this job was seen.", "Problem"),
                        "503": not_yet,
                    },
                }
            },
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _answer(description: str, model: str) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=model)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
