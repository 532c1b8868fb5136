"""The OpenAPI 3.1 document, made from the same operations as the routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from gateway.problems import PROBLEMS, Problem
from gateway.routing import Operation, problem_codes
from gateway.schemas import Nothing
from protocol.jobspec import JobSpec

Plain = dict[str, object]

JOB_ID_PATTERN: Final = "^job_[0-9a-f]{32}$"
_PARAMETER: Final = re.compile(r"{([a-z]+)(:path)?}")
_REF: Final = "#/components/schemas/{name}"

DESCRIPTION: Final = """The API is answered under `/v1` and without it. Times are integer microseconds since 1970 UTC,
spans integer microseconds, money integers in the smallest unit (1 credit = 1 000 000). Errors are problems
(RFC 9457): `code` is stable, `type` leads to its explanation."""

PARAMETERS: Final[dict[str, Plain]] = {
    "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "job": {"type": "string", "pattern": JOB_ID_PATTERN},
    "path": {"type": "string", "minLength": 1, "maxLength": 600},
    "name": {"type": "string", "minLength": 1, "maxLength": 100},
}

_KEY: Final[Plain] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "1 to 255 visible ASCII characters. The same key with the same body gets the first answer again,"
    " for 24 h at least.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def document(operations: Sequence[Operation], network: str, version: str) -> Plain:
    """The whole document as plain values."""
    paths: dict[str, Plain] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Shoal gateway to {network}",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "this gateway; the API also under /v1"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "shoal_session"},
            },
        },
    }


def _operation(operation: Operation) -> Plain:
    result: Plain = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation),
    }
    parameters = _parameters(operation)
    if parameters:
        result["parameters"] = parameters
    if operation.body is not None:
        result["requestBody"] = {
            "required": True,
            "content": {media: {"schema": _body_schema(operation, media)} for media in operation.body_media},
        }
    if operation.auth == "token":
        result["security"] = [{"token": []}]
        result["description"] = f"Needs a token with the scope `{operation.scope}`."
    if operation.auth == "session":
        result["security"] = [{"session": []}]
    return result


def _body_schema(operation: Operation, media: str) -> Plain:
    if media in ("application/yaml", "application/octet-stream"):
        return {"type": "string"}
    assert operation.body is not None
    return {"$ref": _REF.format(name=operation.body.__name__)}


def _parameters(operation: Operation) -> list[Plain]:
    found: list[Plain] = [
        {"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]}
        for name, _ in _PARAMETER.findall(operation.path)
    ]
    if operation.query is not Nothing:
        found += _query_parameters(operation.query)
    if operation.takes_key:
        found.append(_KEY | {"required": operation.needs_key})
    if "text/event-stream" in operation.reply_media:
        found.append(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "description": "Go on after this event.",
                "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
            }
        )
    return found


def _query_parameters(kind: type[Struct]) -> list[Plain]:
    schema = msgspec.json.schema(kind)
    properties = schema["$defs"][kind.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": value} for name, value in properties.items()]


def _responses(operation: Operation) -> Plain:
    success: Plain = {"description": "OK"}
    if operation.status != 303:
        success["content"] = {media: {"schema": _reply_schema(operation, media)} for media in operation.reply_media}
    result: Plain = {str(operation.status): success}
    by_status: dict[int, list[str]] = {}
    for code in problem_codes(operation):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        media = "application/problem+json" if operation.is_api or operation.tag != "pages" else "text/html"
        schema: Plain = {"$ref": _REF.format(name="Problem")} if media.endswith("json") else {"type": "string"}
        if str(status) not in result:
            result[str(status)] = {
                "description": " · ".join(f"{code}: {PROBLEMS[code].title}" for code in codes),
                "content": {media: {"schema": schema}},
            }
    return result


def _reply_schema(operation: Operation, media: str) -> Plain:
    if media != "application/json":
        return {"type": "string"}
    if operation.reply is None:
        return {"type": "object"}
    return {"$ref": _REF.format(name=operation.reply.__name__)}


def _schemas(operations: Sequence[Operation]) -> Plain:
    kinds = [Problem, JobSpec]
    for operation in operations:
        kinds += [kind for kind in (operation.body, operation.reply) if kind is not None]
    _, components = msgspec.json.schema_components(kinds, schema_hook=_any, ref_template="#/components/schemas/{name}")
    return {name: _with_hex(schema) for name, schema in components.items()}


def _any(_: type) -> Plain:
    """The schema of a value that may be anything."""
    return {"description": "any JSON value"}


def _with_hex(schema: object) -> object:
    """Digests travel as hexadecimal text (protocol.jobcodec), which msgspec's schema of `bytes` cannot know."""
    if isinstance(schema, dict):
        if schema.get("contentEncoding") == "base64":
            return {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        return {key: _with_hex(value) for key, value in schema.items()}
    return [_with_hex(item) for item in schema] if isinstance(schema, list | tuple) else schema
