"""HTTP to a gateway: requests, retries that cannot happen twice, problems as typed errors, server-sent events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import msgspec
from msgspec import Struct

from protocol.errors import Refused, ShoalError, Unavailable

if TYPE_CHECKING:
    import httpx2

DEADLINE_S: Final = 30.0
"""Seconds without a byte before a request is given up; the gateway itself gives up on its node at 15."""

STREAM_SILENCE_S: Final = 45.0
"""Seconds of silence after which a stream is lost: the gateway sends a comment every 15."""

TRIES: Final = 4
"""Of a request that is safe to repeat, when the gateway is away or asks to wait: a restart takes about 2 s."""

PAUSE_FIRST_S: Final = 0.25
PAUSE_MAX_S: Final = 5.0

T = TypeVar("T")


class ServerFault(ShoalError):
    """The gateway or the network behind it is at fault, not the request."""


class Problem(Struct):
    """An RFC 9457 body, as far as it matters here."""

    title: str = ""
    detail: str = ""
    code: str = ""
    fix: str = ""
    retryable: bool = False
    numbers: dict[str, int | str] = {}
    errors: list[dict[str, object]] = []


class Event(Struct, frozen=True):
    """One server-sent event."""

    name: str
    data: str
    id: str


class Session:
    """A connection pool to one gateway, for one token. Use it as a context manager, or call `close`."""

    def __init__(self, url: str, token: str = "", deadline_s: float = DEADLINE_S) -> None:
        import httpx2

        self.url = url.rstrip("/")
        self.token = token
        if not self.url.startswith(("http://", "https://")):
            raise Refused(f"{url!r} is no gateway address", code="bad_url", fix="Write it like http://127.0.0.1:8080.")
        headers = {"Accept": "application/json"}
        if token:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise Refused(
                    "the token has characters that no token has",
                    code="bad_token",
                    fix="Copy the token again, without line breaks.",
                )
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=deadline_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: object = None,
        key: str = "",
        query: Mapping[str, str | int] | None = None,
    ) -> T:
        """One request and its JSON answer as `kind`. GETs and requests with an Idempotency-Key are tried again when the
        gateway is away. Raises Refused, Unavailable or ServerFault."""
        headers = {"Idempotency-Key": key} if key else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(body)
        return self._decoded(kind, self._send(method, path, headers, content, dict(query or {}), bool(key)))

    def put_blob(self, kind: type[T], data: bytes) -> T:
        """Upload one file. Safe to repeat: content is its own name."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._decoded(kind, self._send("POST", "/v1/blobs", headers, data, {}, can_repeat=True))

    @contextmanager
    def opened(
        self, path: str, query: Mapping[str, str | int] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx2.Response]:
        """A response whose body is read piece by piece. Raises like `ask`."""
        import httpx2

        timeout = httpx2.Timeout(DEADLINE_S, read=STREAM_SILENCE_S)
        try:
            with self._http.stream(
                "GET", path, params=dict(query or {}), headers=dict(headers or {}), timeout=timeout
            ) as response:
                if response.status_code >= 400:
                    response.read()
                    raise problem_error(response.status_code, response.content)
                yield response
        except httpx2.HTTPError as error:
            raise self._away(error) from error

    def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        content: bytes | None,
        query: dict[str, str | int],
        can_repeat: bool,
    ) -> httpx2.Response:
        import httpx2

        tries = TRIES if can_repeat or method == "GET" else 1
        pause = PAUSE_FIRST_S
        for left in range(tries - 1, -1, -1):
            try:
                response = self._http.request(method, path, headers=headers, content=content, params=query)
            except httpx2.HTTPError as error:
                if not left:
                    raise self._away(error) from error
            else:
                if response.status_code < 400:
                    return response
                if not left or response.status_code not in (429, 503, 504):
                    raise problem_error(response.status_code, response.content)
                pause = max(pause, _retry_after(response.headers.get("retry-after", "")))
            time.sleep(min(pause, PAUSE_MAX_S))
            pause *= 2
        raise Unavailable("unreachable", code="unavailable")

    def _decoded(self, kind: type[T], response: httpx2.Response) -> T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ServerFault(
                f"{self.url} answered in a way that this version does not understand: {error}", code="bad_answer",
                fix="Is this the address of a Shoal gateway? If so, use the same version on both sides.",
            ) from error  # fmt: skip

    def _away(self, error: httpx2.HTTPError) -> Unavailable:
        return Unavailable(
            f"no gateway answers at {self.url}: {str(error) or type(error).__name__}", code="gateway_unreachable",
            fix="Check --gateway; `shoal devnet status` shows whether a local network runs.",
        )  # fmt: skip


def problem_error(status: int, body: bytes) -> ShoalError:
    """The exception for an error answer."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, msgspec.ValidationError):
        problem = Problem(title=f"HTTP status {status} without an explanation")
    places = "; ".join(f"{item.get('pointer', '?')}: {item.get('detail', '')}" for item in problem.errors[:5])
    detail = (problem.detail or problem.title) + (f" ({places})" if places else "")
    code = problem.code or f"http_{status}"
    if status in (429, 503, 504, 507):
        return Unavailable(detail, code=code, fix=problem.fix)
    if status >= 500:
        return ServerFault(detail, code=code, fix=problem.fix)
    return Refused(detail, code=code, fix=problem.fix, numbers=problem.numbers)


def events(lines: Iterator[str]) -> Iterator[Event]:
    """The events of a stream (WHATWG HTML, 9.2). The last id stays until another comes; comments are skipped."""
    name, last_id = "", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data or name:
                yield Event(name or "message", "\n".join(data), last_id)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value


def _retry_after(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0
