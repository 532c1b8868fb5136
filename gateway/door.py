"""The one path that every request takes: who asks, how often, with which scope, query and body; then its handler.

Every expected error on that path becomes a problem here, in JSON for programs and as a page for people.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway import clock
from gateway.accounts import Caller
from gateway.idempotency import Answer, checked_key, fingerprint
from gateway.limits import Allowance
from gateway.problems import HttpProblem, problem_of
from gateway.routing import Call, Operation, decode_query
from gateway.state import Gateway
from protocol.errors import ShoalError

SESSION_COOKIE = "shoal_session"
"""HttpOnly, SameSite=Strict: no script reads it and no other site sends it."""

PROBLEM_MEDIA = "application/problem+json"


def endpoint(operation: Operation, gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """The Starlette endpoint of an operation."""

    async def answer(request: Request) -> Response:
        request.state.route = operation.path
        headers: dict[str, str] = {}
        try:
            call = await _admitted(operation, gateway, request, headers)
            response = await operation.handler(call)
        except ShoalError as error:
            response = problem_response(error, request, gateway, is_page=operation.tag == "pages")
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response

    return answer


def problem_response(error: ShoalError, request: Request, gateway: Gateway, *, is_page: bool) -> Response:
    """An error as the caller gets it."""
    problem, headers = problem_of(error, request.url.path, str(request.state.request_id))
    request.state.code = problem.code
    request.state.cause = error.detail
    if is_page:
        page = gateway.templates.get_template("problem.html").render(
            problem=problem, network=gateway.config.network, caller=None
        )
        return HTMLResponse(page, problem.status, headers)
    return Response(msgspec.json.encode(problem), problem.status, headers, media_type=PROBLEM_MEDIA)


async def _admitted(operation: Operation, gateway: Gateway, request: Request, headers: dict[str, str]) -> Call:
    call = Call(request, gateway, operation)
    call.caller = await _caller(operation, gateway, request)
    if call.caller is not None:
        request.state.account = call.caller.account
    if operation.is_limited:
        _within_rate(gateway, call, headers)
    if operation.auth == "token" and operation.scope not in call.account.scopes:
        raise HttpProblem(
            "scope_missing",
            f"the token {call.account.prefix}… has no scope `{operation.scope}`, only: {' '.join(call.account.scopes)}",
        )
    call.query = decode_query(request.query_params, operation.query)
    if operation.takes_key and checked_key(request.headers.get("idempotency-key")) is None and operation.needs_key:
        raise HttpProblem("key_missing", "this request pays or creates something")
    if operation.body is not None and not operation.is_stream_body:
        if call.media_type not in operation.body_media:
            raise HttpProblem(
                "media_type", f"{call.media_type or 'no media type'!s} is not one of {', '.join(operation.body_media)}"
            )
        call.raw = await read_body(request, gateway.config.body_bytes_max)
    return call


def address_of(request: Request) -> str:
    """The peer address of the connection; forwarded headers are not believed."""
    return request.client.host if request.client else "unknown"


def _within_rate(gateway: Gateway, call: Call, headers: dict[str, str]) -> None:
    now = clock.steady()
    allowance: Allowance
    if call.caller is not None and call.operation.auth == "token":
        allowance = gateway.by_token.take(call.caller.token, now)
    else:
        allowance = gateway.by_address.take(address_of(call.request), now)
    headers.update(allowance.headers())
    if not allowance.is_allowed:
        gateway.metrics.limited.inc()
        raise HttpProblem(
            "rate_limited", f"more than {allowance.limit} requests in a minute", headers=allowance.headers()
        )


async def _caller(operation: Operation, gateway: Gateway, request: Request) -> Caller | None:
    if operation.auth in ("session", "maybe_session"):
        secret = request.cookies.get(SESSION_COOKIE)
        caller = await gateway.accounts.by_session(secret) if secret else None
        if caller is None and operation.auth == "session":
            raise HttpProblem(
                "token_missing", "this page is for a signed-in account", fix="Sign in with a token first."
            )
        return caller
    if operation.auth == "none":
        return None
    return await by_bearer(gateway, request)


async def by_bearer(gateway: Gateway, request: Request) -> Caller:
    """The caller named by the Authorization header."""
    given = request.headers.get("authorization", "")
    scheme, _, token = given.partition(" ")
    if not given:
        raise HttpProblem("token_missing", "the Authorization header is missing")
    if not hmac.compare_digest(scheme.lower().encode(), b"bearer") or not token.strip():
        raise HttpProblem("token_invalid", "the Authorization header is not of the form `Bearer <token>`")
    return await by_token(gateway, request, token.strip())


async def by_token(gateway: Gateway, request: Request, token: str) -> Caller:
    """The holder of a token. An address that keeps sending wrong ones has to wait."""
    address, now = address_of(request), clock.steady()
    patience = gateway.failures.peek(address, now)
    if not patience.is_allowed:
        raise HttpProblem(
            "rate_limited", "too many wrong tokens from this address", headers={"Retry-After": str(patience.reset_s)}
        )
    caller = await gateway.accounts.by_token(token)
    if caller is None:
        gateway.failures.take(address, now)
        raise HttpProblem("token_invalid", "no such token, or it has expired or was revoked")
    return caller


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, refused as soon as it is larger than `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise HttpProblem("body_too_large", f"the body has more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


async def once(call: Call, work: Callable[[], Awaitable[Answer]]) -> Response:
    """Run `work` at most once for the caller's Idempotency-Key, and answer; without a key just run it."""
    key = call.request.headers.get("idempotency-key")
    if key is None:
        answer = await work()
    else:
        mark = fingerprint(
            f"{call.operation.method} {call.operation.path}", call.media_type.encode() + b"\0" + call.raw
        )
        answer = await call.gateway.requests.once(call.account.account, key, mark, work)
    headers = {"Location": answer.location} if answer.location else {}
    if answer.is_replay:
        headers["Idempotency-Replayed"] = "true"
        call.gateway.metrics.replays.inc()
    return Response(answer.body, answer.status, headers, media_type="application/json")
