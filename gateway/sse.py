"""Server-sent events: frames, a heartbeat, and an end that is an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final, TypeVar

from starlette.responses import StreamingResponse

from gateway.metrics import Metrics

HEARTBEAT_S: Final = 15.0
"""A comment line at least this often, so that proxies keep the connection and both ends notice its loss."""

RETRY_MS: Final = 1_000
"""How soon a browser tries again."""

MEDIA_TYPE: Final = "text/event-stream"
T = TypeVar("T")


def event(data: str, *, event_id: int | None = None, name: str = "") -> bytes:
    """One event; data may have several lines."""
    lines = [f"id: {event_id}"] if event_id is not None else []
    lines += [f"event: {name}"] if name else []
    lines += [f"data: {line}" for line in data.splitlines() or [""]]
    return ("\n".join(lines) + "\n\n").encode()


def opening() -> bytes:
    """The first bytes of every stream."""
    return f"retry: {RETRY_MS}\n\n".encode()


async def paced(
    source: AsyncIterator[T], stopping: asyncio.Event, every_s: float = HEARTBEAT_S
) -> AsyncGenerator[T | None]:
    """The source's items, None when nothing came for `every_s` seconds; ends with the source or with `stopping`."""

    async def stopped() -> object:
        return await stopping.wait()

    stop: asyncio.Future[object] = asyncio.ensure_future(stopped())
    following: asyncio.Future[T] = asyncio.ensure_future(anext(source))
    try:
        while True:
            both: set[asyncio.Future[object] | asyncio.Future[T]] = {stop, following}
            done, _ = await asyncio.wait(both, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)
            if stop in done:
                return
            if not done:
                yield None
                continue
            try:
                item = following.result()
            except StopAsyncIteration:
                return
            yield item
            following = asyncio.ensure_future(anext(source))
    finally:
        stop.cancel()
        following.cancel()
        await asyncio.gather(stop, following, return_exceptions=True)


class EventStream(StreamingResponse):
    """A response that sends what the generator yields, and closes the generator when the reader leaves."""

    def __init__(self, content: AsyncGenerator[bytes], metrics: Metrics) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_counted(content, metrics), media_type=MEDIA_TYPE, headers=headers)


async def _counted(content: AsyncGenerator[bytes], metrics: Metrics) -> AsyncGenerator[bytes]:
    metrics.streams.inc()
    try:
        async with aclosing(content) as parts:
            yield opening()
            async for part in parts:
                yield part
    finally:
        metrics.streams.dec()
