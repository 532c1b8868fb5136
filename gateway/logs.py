"""The log of a job: server-sent events that resume, or plain text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import msgspec
from starlette.responses import Response, StreamingResponse

from gateway.node_client import NodeError
from gateway.problems import HttpProblem
from gateway.routing import Call
from gateway.schemas import LogQuery
from gateway.sse import EventStream, event, paced
from protocol.errors import Unavailable

SEQUENCE_DIGITS_MAX: Final = 18


class LogLine(msgspec.Struct):
    """One line of the log."""

    sequence: int
    chunk: int = 0
    time: int = 0
    line: str = ""


async def log_lines(call: Call, after: int | None, *, follow: bool) -> AsyncGenerator[LogLine]:
    """Lines behind sequence number `after`, which the node may or may not send once more."""
    params: dict[str, object] = {"job": call.path("job"), "follow": follow}
    if after is not None:
        params["since"] = after
    async with aclosing(call.gateway.node.stream("job.logs", params)) as items:
        async for item in items:
            line = msgspec.convert(item, LogLine)
            if after is None or line.sequence > after:
                yield line


def resume_point(call: Call) -> int | None:
    """Where to go on: the header Last-Event-ID, else the query's `since`."""
    given = call.request.headers.get("last-event-id", "").strip()
    if not given:
        return call.asked(LogQuery).since
    if not given.isascii() or not given.isdigit() or len(given) > SEQUENCE_DIGITS_MAX:
        raise HttpProblem("invalid_header", f"Last-Event-ID {given[:40]!r} is no sequence number")
    return int(given)


async def show_logs(call: Call) -> Response:
    """The log, followed or as it is."""
    await call.gateway.owners.require(call.account.account, call.path("job"))
    after = resume_point(call)
    if not call.asked(LogQuery).follow:
        return StreamingResponse(_as_text(log_lines(call, after, follow=False)), media_type="text/plain; charset=utf-8")
    return EventStream(_as_events(call, log_lines(call, after, follow=True)), call.gateway.metrics)


async def _as_text(lines: AsyncGenerator[LogLine]) -> AsyncIterator[bytes]:
    async with aclosing(lines) as following:
        async for line in following:
            yield f"[{line.chunk}] {line.line}\n".encode()


async def _as_events(call: Call, lines: AsyncGenerator[LogLine]) -> AsyncGenerator[bytes]:
    """Ends with `event: end` only when the log is complete; anything else makes the reader come back and resume."""
    try:
        async with aclosing(paced(lines, call.gateway.stopping)) as steps:
            async for line in steps:
                yield (
                    b": still here\n\n"
                    if line is None
                    else event(msgspec.json.encode(line).decode(), event_id=line.sequence)
                )
    except Unavailable as error:
        yield f": {error.code}\n\n".encode()
        return
    except NodeError as error:
        yield event(msgspec.json.encode({"code": error.code, "detail": error.detail}).decode(), name="problem")
    if not call.gateway.stopping.is_set():
        yield event("", name="end")
