"""The old interface as an OpenAPI document, from the endpoints' own declarations."""

from collections.abc import Sequence
from typing import Any, Final

from haechi import __version__
from haechi.interop.codes import CODES
from haechi.interop.endpoint import Endpoint
from haechi.interop.fields import Field

_CODE: Final = {"type": "string", "enum": list(CODES)}
_REPLY: Final = {
    "type": "object",
    "required": ["code"],
    "properties": {
        "code": {"anyOf": [_CODE, {"type": "integer", "const": 200}]},
        "message": {"type": "string"},
        "detail": {"type": "string"},
        "operation_id": {"type": "string"},
        "state": {"type": "string", "enum": ["done", "running", "failed"]},
        "nodes": {"type": "array", "items": {"type": "object"}},
    },
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Several endpoints of one path and method (year 2 and year 3) are one operation."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(endpoint.path, {})
        known = operations.get(endpoint.method.lower())
        if known is None:
            operations[endpoint.method.lower()] = _operation(endpoint)
        else:
            schema = known["requestBody"]["content"]["application/json"]["schema"]
            schema.setdefault("anyOf", [dict(schema)])
            schema["anyOf"].append(_body(endpoint.fields))
            for key in [key for key in schema if key != "anyOf"]:
                del schema[key]
    return {
        "openapi": "3.1.0",
        "info": {"title": "haechi interop", "version": __version__},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {"Reply": _REPLY}},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.text.en,
        "description": endpoint.text.ko,
        "tags": [f"section {endpoint.section}"],
        "responses": {
            "200": {
                "description": "The code says what became of it.",
                "content": _content(endpoint),
            },
            "404": {"description": "Not there.", "content": _json()},
            "503": {
                "description": "Too much at once.",
                "headers": {"Retry-After": {"schema": {"type": "integer"}}},
                "content": _json(),
            },
        },
    }
    if endpoint.method == "GET":
        operation["parameters"] = [
            {
                "name": item.name,
                "in": "query",
                "required": item.required,
                "description": item.text.en,
                "schema": {"type": "string"},
            }
            for item in endpoint.fields
        ]
        return operation
    content: dict[str, Any] = {"application/json": {"schema": _body(endpoint.fields)}}
    if endpoint.multipart:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "required": ["file", "version"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "version": {"type": "string"},
                    "filename": {"type": "string"},
                },
            }
        }
    operation["requestBody"] = {"required": True, "content": content}
    return operation


def _body(fields: Sequence[Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [item.name for item in fields if item.required],
        "properties": {
            item.name: {**item.kind.schema, "description": item.text.en} for item in fields
        },
    }


def _content(endpoint: Endpoint) -> dict[str, Any]:
    content = _json()
    if "(zip)" in endpoint.reply:
        content["application/zip"] = {"schema": {"type": "string", "format": "binary"}}
    if "(text)" in endpoint.reply or endpoint.twice:
        content["text/plain"] = {"schema": {"type": "string"}}
    return content


def _json() -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": "#/components/schemas/Reply"}}}
