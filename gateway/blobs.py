"""Input files on their way to the node: streamed, bounded, never held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response

from gateway.answers import node_value
from gateway.problems import HttpProblem
from gateway.routing import Call, json_reply
from gateway.schemas import BlobStored

PART_BYTES: Final = 1 << 20
"""One blob.part, 1 MiB: small against the 8 MiB frame, large against its overhead."""


async def upload_blob(call: Call) -> Response:
    """Store one file; answers its digest. Uploading the same bytes twice stores them once."""
    size = _declared(call)
    upload = (await call.gateway.node.call("blob.begin", {"size": size})).get("upload")
    offset = 0
    async for part in _parts(call, size):
        await call.gateway.node.call("blob.part", {"upload": upload, "offset": offset, "data": part})
        offset += len(part)
        call.gateway.metrics.uploaded.inc(len(part))
    if offset != size:
        raise HttpProblem("malformed_body", f"Content-Length says {size} bytes, {offset} came")
    return json_reply(node_value(await call.gateway.node.call("blob.end", {"upload": upload}), BlobStored), 201)


def _declared(call: Call) -> int:
    if call.media_type != "application/octet-stream":
        raise HttpProblem("media_type", f"{call.media_type or 'no media type'} is not application/octet-stream")
    given = call.request.headers.get("content-length", "")
    if not given.isascii() or not given.isdigit():
        raise HttpProblem("length_required", "the request does not say how long the file is")
    size, limit = int(given), call.gateway.config.blob_bytes_max
    if size > limit:
        raise HttpProblem("body_too_large", f"the file has {size} bytes, this gateway takes {limit}")
    return size


async def _parts(call: Call, size: int) -> AsyncIterator[bytes]:
    held = bytearray()
    total = 0
    async for piece in call.request.stream():
        total += len(piece)
        if total > size:
            raise HttpProblem("body_too_large", f"more than the {size} bytes of Content-Length came")
        held += piece
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)
