"""`blob.*` of the control socket: bytes in and out, piece by piece. Spec: specs/16-control.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node import entropy
from node.control_methods import BlobBeginParams, BlobEndParams, BlobGetParams, BlobPartParams
from node.parts import Parts
from node.views import Plain
from protocol.errors import Refused
from protocol.units import Digest

UPLOADS_MAX: Final = 64
"""Uploads under way at the same time; the oldest is forgotten when another begins."""


@dataclass(slots=True)
class Upload:
    """Bytes that are not yet a blob."""

    path: Path
    size: int
    offset: int = 0


class BlobApi:
    """Uploads become blobs when they are complete; anything else is forgotten at the next start."""

    def __init__(self, parts: Parts, folder: Path) -> None:
        self._parts = parts
        self._folder = folder
        self._uploads: dict[str, Upload] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()

    async def begin(self, params: BlobBeginParams) -> Plain:
        """A place for `size` bytes, refused at once when there is no room for them."""
        with self._parts.blobs.space(params.size):
            pass
        if len(self._uploads) >= UPLOADS_MAX:
            self._uploads.pop(next(iter(self._uploads))).path.unlink(missing_ok=True)
        name = entropy.token()
        upload = Upload(self._folder / name, params.size)
        upload.path.touch()
        self._uploads[name] = upload
        return {"upload": name}

    async def part(self, params: BlobPartParams) -> Plain:
        """The next bytes."""
        upload = self._upload(params.upload)
        if params.offset != upload.offset or upload.offset + len(params.data) > upload.size:
            raise Refused(
                f"the upload of {upload.size} bytes stands at {upload.offset}, "
                f"the part has {len(params.data)} bytes at {params.offset}",
                code="bad_offset",
                fix="Send the parts in order, each where the last ended.",
                numbers={"expected": upload.offset, "got": params.offset},
            )
        with upload.path.open("ab") as file:
            file.write(params.data)
        upload.offset += len(params.data)
        return {"offset": upload.offset}

    async def end(self, params: BlobEndParams) -> Plain:
        """Hash it and keep it."""
        upload = self._upload(params.upload)
        if upload.offset != upload.size:
            raise Refused(
                f"the upload has {upload.offset} of {upload.size} bytes",
                code="incomplete",
                fix="Send the rest first.",
                numbers={"expected": upload.size, "got": upload.offset},
            )
        digest, size = await self._parts.blobs.put_file(upload.path)
        upload.path.unlink(missing_ok=True)
        del self._uploads[params.upload]
        return {"digest": digest.hex(), "size": size}

    async def get(self, params: BlobGetParams) -> Plain:
        """A piece of a blob, and how long the whole is."""
        path = self._parts.blobs.path(Digest(bytes.fromhex(params.digest)))
        with path.open("rb") as file:
            file.seek(params.offset)
            return {"data": file.read(params.size), "total": path.stat().st_size}

    def _upload(self, name: str) -> Upload:
        upload = self._uploads.get(name)
        if upload is None:
            raise Refused(
                "no such upload",
                code="no_such_upload",
                fix="Begin again: the node was restarted, or the upload was given up.",
            )
        return upload
