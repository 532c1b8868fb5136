"""Volumes over HTTP: every `volume.*` method of the node, for the renter of the account. Guide: docs/volumes.md.

Content travels as blobs, up through `POST /v1/blobs` and down through `GET /v1/volumes/blobs/{digest}`. Whoever knows a
digest may read the blob: digests are only ever told to those who have the content or a version that holds it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response, StreamingResponse

from gateway.problems import HttpProblem
from gateway.routing import Call, Operation, json_reply
from protocol.jobspec import Name

NODE: Final = ("unavailable", "node_timeout", "node_protocol", "refused", "over_limit")
"""What any request to the node may end with."""

PART_BYTES: Final = 1 << 20
"""One blob.get, 1 MiB."""

MISSING_MAX: Final = 4_096
"""Digests in one question."""

HexDigest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Which = Annotated[str, Meta(max_length=64, pattern=r"^[a-z0-9._-]*$")]
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class VolumeName(Struct, frozen=True, forbid_unknown_fields=True):
    """Create or show."""

    name: Name


class Everything(Struct, frozen=True, forbid_unknown_fields=True):
    """All volumes."""


class MissingPieces(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of these still have to be uploaded?"""

    digests: Annotated[list[HexDigest], Meta(max_length=MISSING_MAX)]


class NewVersion(Struct, frozen=True, forbid_unknown_fields=True):
    """The list of a tree, a blob as its pieces are."""

    name: Name
    tree: HexDigest
    snapshot: Which = ""


class VersionWanted(Struct, frozen=True, forbid_unknown_fields=True):
    """A number, a snapshot's name, or empty for the newest."""

    name: Name
    version: Which = ""


class SnapshotWanted(Struct, frozen=True, forbid_unknown_fields=True):
    """A name for a version."""

    name: Name
    snapshot: Name
    version: Which = ""


class Removed(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole volume, or one snapshot's name."""

    name: Name
    snapshot: Which = ""


def _passed_on(method: str, kind: type[Struct], *, has_renter: bool = True) -> Callable[[Call], Awaitable[Response]]:
    """A handler that says to the node what it was told."""

    async def handle(call: Call) -> Response:
        params: dict[str, object] = msgspec.to_builtins(call.body(kind))
        if has_renter:
            params["renter"] = await call.gateway.owners.renter(call.account.account)
        return json_reply(await call.gateway.node.call(method, params))

    return handle


async def open_version(call: Call) -> Response:
    """Have a version's content at hand; ends when it is, and stops when the caller goes away."""
    wanted = call.body(VersionWanted)
    renter = await call.gateway.owners.renter(call.account.account)
    params: dict[str, object] = {"renter": renter, "name": wanted.name, "version": wanted.version}
    last: dict[str, object] = {}
    async for item in call.gateway.node.stream("volume.open", params):
        last = item
    if "version" not in last:
        raise HttpProblem("node_protocol", "the node opened no version")
    return json_reply(last)


async def download_blob(call: Call) -> Response:
    """A list or a piece."""
    digest = call.path("digest")
    if not _DIGEST.fullmatch(digest):
        raise HttpProblem("unknown_blob", "a digest is 64 lower-case hexadecimal digits")
    first = await call.gateway.node.call("blob.get", {"digest": digest, "offset": 0, "size": PART_BYTES})
    data, total = first.get("data"), first.get("total")
    if not isinstance(data, bytes) or not isinstance(total, int):
        raise HttpProblem("node_protocol", "the node sent no bytes")

    async def parts() -> AsyncIterator[bytes]:
        yield data
        offset = len(data)
        while offset < total:
            params: dict[str, object] = {"digest": digest, "offset": offset, "size": PART_BYTES}
            part = (await call.gateway.node.call("blob.get", params)).get("data")
            if not isinstance(part, bytes) or not part:
                raise HttpProblem("node_protocol", "the node sent no bytes")
            yield part
            offset += len(part)

    return StreamingResponse(parts(), headers={"Content-Length": str(total)}, media_type="application/octet-stream")


def _operation(verb: str, name: str, summary: str, kind: type[Struct], scope: str = "jobs") -> Operation:
    handler = _passed_on(f"volume.{verb}", kind, has_renter=verb != "missing")
    return Operation(
        "POST", f"/volumes/{verb}", name, summary, open_version if verb == "open" else handler, "volumes",
        scope=scope, body=kind, problems=NODE,
    )  # fmt: skip


VOLUME_OPERATIONS: Final[tuple[Operation, ...]] = (
    _operation("create", "createVolume", "A new, empty volume, or the one that is there", VolumeName),
    _operation("list", "listVolumes", "The account's volumes", Everything, "read"),
    _operation("show", "showVolume", "Versions, snapshots, and how safe they are", VolumeName, "read"),
    _operation("missing", "missingPieces", "Which pieces still have to be uploaded", MissingPieces),
    _operation("commit", "commitVersion", "A tree becomes the newest version", NewVersion),
    _operation("open", "openVersion", "Have a version's list and pieces ready for download", VersionWanted, "read"),
    _operation("snapshot", "snapshotVolume", "Give a version a name, which keeps it", SnapshotWanted),
    _operation("remove", "removeVolume", "Remove a volume or a snapshot", Removed),
    _operation("key", "volumeKey", "The key that recovers the account's volumes elsewhere", Everything, "money"),
    Operation(
        "GET",
        "/volumes/blobs/{digest}",
        "downloadPiece",
        "A version's list, or a piece of its content",
        download_blob,
        "volumes",
        reply_media=("application/octet-stream",),
        problems=(*NODE, "unknown_blob"),
    ),
)
