"""An operation of the HTTP API: its route, its documentation and its rules in one value.

The application's routes and the OpenAPI document are both made from the same list, so a route without documentation
cannot exist. `gateway.door.endpoint` is the one path that every request takes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import Caller
from gateway.problems import FieldError, HttpProblem
from gateway.schemas import Nothing
from gateway.state import Gateway

T = TypeVar("T")
Auth = Literal["none", "token", "session", "maybe_session"]

_PATH: re.Pattern[str] = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_UNKNOWN: re.Pattern[str] = re.compile(r"unknown field `([^`]*)`")


@dataclass(slots=True)
class Call:
    """One request on its way through a handler."""

    request: Request
    gateway: Gateway
    operation: Operation
    caller: Caller | None = None
    query: msgspec.Struct = field(default_factory=Nothing)
    raw: bytes = b""
    """The body's bytes where the operation declares a body."""

    @property
    def account(self) -> Caller:
        """The caller; only operations that require one ask."""
        if self.caller is None:
            raise HttpProblem("token_missing", "this request needs a token")
        return self.caller

    def path(self, name: str) -> str:
        """A path parameter."""
        return str(self.request.path_params[name])

    def asked(self, kind: type[T]) -> T:
        """The query, as the struct that the operation declares."""
        assert isinstance(self.query, kind)
        return self.query

    def body(self, kind: type[T]) -> T:
        """The JSON body as `kind`."""
        return decode_body(self.raw, kind)

    @property
    def media_type(self) -> str:
        """The body's media type without its parameters."""
        return self.request.headers.get("content-type", "").partition(";")[0].strip().lower()


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    method: Literal["GET", "POST"]
    path: str
    name: str
    """The operationId: a verb and its object."""
    summary: str
    handler: Handler
    tag: str
    auth: Auth = "token"
    scope: str = "read"
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] | None = None
    body_media: tuple[str, ...] = ("application/json",)
    is_stream_body: bool = False
    """True: the handler reads the body itself, piece by piece."""
    needs_key: bool = False
    takes_key: bool = False
    reply: type[msgspec.Struct] | None = None
    reply_media: tuple[str, ...] = ("application/json",)
    status: int = 200
    problems: tuple[str, ...] = ()
    """Codes beyond those that its authentication, query and body bring along."""
    is_api: bool = True
    """True: also answered under /v1."""
    is_limited: bool = True


def problem_codes(operation: Operation) -> tuple[str, ...]:
    """Every problem that the operation can answer with."""
    codes = ["bad_host", "invalid_query", "internal"]
    codes += ["rate_limited"] if operation.is_limited else []
    codes += ["token_missing", "token_invalid", "scope_missing"] if operation.auth == "token" else []
    codes += ["token_missing"] if operation.auth == "session" else []
    if operation.body is not None:
        codes += ["malformed_body", "invalid_body", "media_type", "body_too_large"]
    codes += ["key_missing"] if operation.needs_key else []
    codes += ["key_malformed", "key_reused", "key_in_progress"] if operation.takes_key else []
    return tuple(dict.fromkeys((*codes, *operation.problems)))


def decode_body(raw: bytes, kind: type[T]) -> T:
    """Strict JSON; raises the problem with the pointer of the place that is wrong."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise HttpProblem("invalid_body", str(error), errors=(field_error(str(error)),)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpProblem("malformed_body", f"the body is no JSON: {error}") from error


def decode_query(params: QueryParams, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The query string as the operation's struct; a name given twice or unknown is a problem."""
    names = [name for name, _ in params.multi_items()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HttpProblem(
            "invalid_query",
            f"given more than once: {', '.join(twice)}",
            errors=(FieldError(twice[0], "given more than once"),),
        )
    try:
        return msgspec.convert(dict(params), kind, strict=False)
    except msgspec.ValidationError as error:
        wrong = field_error(str(error))
        raise HttpProblem(
            "invalid_query", str(error), errors=(FieldError(wrong.pointer.lstrip("/"), wrong.detail),)
        ) from error


def field_error(message: str) -> FieldError:
    """msgspec's message as a JSON pointer and a sentence.

    >>> field_error("Expected `int`, got `str` - at `$.a[0].b`").pointer
    '/a/0/b'
    """
    found = _PATH.search(message)
    detail = message[: found.start()] if found else message
    parts = re.findall(r"\.([^.\[\]]+)|\[([^\]]+)\]", found.group(1)) if found else []
    pointer = "".join("/" + (name or index).replace("~", "~0").replace("/", "~1") for name, index in parts)
    unknown = _UNKNOWN.search(detail)
    return FieldError(f"{pointer}/{unknown.group(1)}" if unknown else pointer, detail)


def json_reply(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
