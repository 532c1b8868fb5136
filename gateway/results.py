"""The files of a job's result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from gateway.answers import node_value
from gateway.problems import HttpProblem
from gateway.routing import Call, json_reply
from gateway.schemas import ResultFile, ResultList

PART_BYTES: Final = 1 << 20
"""One blob.get, 1 MiB: well below the 8 MiB frame."""

PICTURES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""Shown as pictures. Everything else that strangers computed is only downloaded; SVG too, for it can carry script."""


def picture_type(path: str) -> str | None:
    """The media type when the path names a picture that browsers show safely."""
    dot = path.rfind(".")
    return PICTURES.get(path[dot:].lower()) if dot >= 0 else None


async def result_files(call: Call) -> list[ResultFile]:
    """The files of the caller's job."""
    job = call.path("job")
    await call.gateway.owners.require(call.account.account, job)
    return node_value(await call.gateway.node.call("job.result", {"job": job}), ResultList).files


async def list_result(call: Call) -> Response:
    """Names, digests and sizes."""
    return json_reply(ResultList(await result_files(call)))


async def download_result(call: Call) -> Response:
    """One file of the result, streamed from the node."""
    path = call.path("path")
    for file in await result_files(call):
        if file.path == path:
            return await _file(call, file)
    raise HttpProblem("not_found", f"the result has no file {path[:200]!r}", fix="GET …/result lists the files.")


async def _file(call: Call, file: ResultFile) -> Response:
    tag = f'"{file.digest}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "private, immutable, max-age=31536000",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if call.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = picture_type(file.path)
    name = quote(file.path.rpartition("/")[2])
    headers["Content-Disposition"] = f"{'inline' if kind else 'attachment'}; filename*=UTF-8''{name}"
    headers["Content-Length"] = str(file.size)
    first = await _part(call, file, 0)
    return StreamingResponse(_parts(call, file, first), headers=headers, media_type=kind or "application/octet-stream")


async def _parts(call: Call, file: ResultFile, first: bytes) -> AsyncIterator[bytes]:
    yield first
    offset = len(first)
    while offset < file.size:
        part = await _part(call, file, offset)
        yield part
        offset += len(part)


async def _part(call: Call, file: ResultFile, offset: int) -> bytes:
    if file.size == 0:
        return b""
    params: dict[str, object] = {"digest": file.digest, "offset": offset, "size": min(PART_BYTES, file.size - offset)}
    data = (await call.gateway.node.call("blob.get", params)).get("data")
    if not isinstance(data, bytes) or not 0 < len(data) <= file.size - offset:
        raise HttpProblem("node_protocol", f"the node has other bytes than it listed for {file.path[:200]!r}")
    return data
