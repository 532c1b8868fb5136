"""Around every request: its id, the Host check, security headers, one log line, one measurement."""

from __future__ import annotations

import ipaddress
import json
import logging
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from gateway import clock
from gateway.metrics import Metrics
from gateway.problems import HttpProblem, problem_of
from node import entropy

log = logging.getLogger("gateway.access")

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Everything from this gateway, nothing inline, nothing from anywhere else."""

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

REQUEST_ID_CHARS_MAX: Final = 64


class Rim:
    """The outermost ASGI layer."""

    def __init__(self, app: Starlette, metrics: Metrics, names: tuple[str, ...]) -> None:
        self.app = app
        self._metrics = metrics
        self._names = frozenset(("localhost", *(name.lower() for name in names)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(headers.get("x-request-id", ""))
        started = clock.steady()

        async def answering(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._finish(MutableHeaders(scope=message), scope, int(message["status"]), clock.steady() - started)
            await send(message)

        if not self._is_ours(headers.get("host", "")):
            await _refuse_host(headers.get("host", ""), scope, answering)
            return
        await self.app(scope, receive, answering)

    def _is_ours(self, host: str) -> bool:
        """A site that rebinds its name to this address still sends that name, so only own names and addresses pass."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _finish(self, headers: MutableHeaders, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        headers["X-Request-Id"] = state["request_id"]
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        route = state.get("route", "none")
        self._metrics.requests.labels(scope["method"] if route != "none" else "other", route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.ERROR if status == 500 else logging.INFO
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        optional = {name: state[name] for name in ("account", "code", "cause") if state.get(name)}
        log.log(level, "request", extra={"fields": {"request_id": state["request_id"], **fields, **optional}})


def request_id(given: str) -> str:
    """The caller's own id where it is harmless, else a new one."""
    if 0 < len(given) <= REQUEST_ID_CHARS_MAX and given.isascii() and given.replace("-", "").replace("_", "").isalnum():
        return given
    return f"req_{entropy.salt()[:12].hex()}"


async def _refuse_host(host: str, scope: Scope, send: Send) -> None:
    problem, _ = problem_of(
        HttpProblem("bad_host", f"this gateway does not answer for {host[:100]!r}"),
        scope["path"],
        scope["state"]["request_id"],
    )
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(problem)})


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, event and the fields that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": clock.rfc3339(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry.update(fields)
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
