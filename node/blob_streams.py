"""Blobs between peers: ask for a digest from an offset, get the total and then raw bytes, trust only the hash.

A transfer goes on at the byte where the last source stopped. A source whose bytes alone do not hash to the digest is
reported and not asked again. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio
from libp2p.abc import INetStream

from node.dialer import Dialer
from node.blob_transfer import REQUEST_BYTES_MAX, STALL_S, BlobAnswer, Transfer, no_longer_than, request_decoder
from node.blobs import BlobStore
from node.libp2p_rim import remote_of, rim
from node.streams import READ_BYTES, FrameReader, frame, reset, write_all
from protocol import wire
from protocol.completions import Fetched
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.jobspec import Manifest
from protocol.units import MIB, Digest, PeerId

SERVED_MAX: Final = 32
"""Transfers served at a time; the others wait their turn."""

FETCHED_MAX: Final = 4
"""Files of one manifest fetched at a time: one link is full with two."""

MANIFEST_BYTES_MAX: Final = 2 * MIB
"""2048 files with paths of 512 characters fit."""

log: Final = logging.getLogger("shoal.blobs")


_manifest: Final = wire.decoder(Manifest)


class BlobStreams:
    """Serves the store to peers, and fetches from them."""

    def __init__(
        self,
        network: str,
        store: BlobStore,
        dialer: Dialer,
        punish: Callable[[RemoteViolation], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self.protocol = f"/shoal/{network}/blob/1"
        self._store = store
        self._dialer = dialer
        self._punish = punish
        self._counts = counts
        self._slots = trio.Semaphore(SERVED_MAX)
        self._running: dict[Digest, trio.Event] = {}

    async def serve(self, stream: INetStream) -> None:
        """Answer one request on an inbound stream."""
        try:
            peer = remote_of(stream)
            if self._dialer.book.is_forbidden(peer):
                raise Refused("a peer that is shut out gets no blobs", code="forbidden")
            async with self._slots:
                await self._answer_one(stream, peer)
            with rim("close"):
                await stream.close()
        except RemoteViolation as violation:
            await reset(stream)
            await self._punish(violation)
        except (Unavailable, Refused) as error:
            log.debug("a blob stream ended: %s", error.detail)
            await reset(stream)

    async def fetch(self, digest: Digest, size_max: int, sources: Sequence[PeerId], is_output: bool) -> Fetched:
        """Have a blob, or for `is_output` a manifest and every file in it (`size_max` then bounds their sum).

        Raises Unavailable or Refused, the latter where no other source could help."""
        if not is_output:
            return Fetched(digest, await self._have(digest, size_max, sources))
        await self._have(digest, MANIFEST_BYTES_MAX, sources)
        manifest = self._manifest(digest, size_max)
        sizes = {Digest(file.digest): file.size for file in manifest.files}
        limit = trio.Semaphore(FETCHED_MAX)
        failures: list[Refused | Unavailable] = []
        async with trio.open_nursery() as nursery:

            async def bring(name: Digest, size: int) -> None:
                async with limit:
                    try:
                        found = await self._have(name, size, sources)
                    except (Refused, Unavailable) as error:
                        failures.append(error)
                        nursery.cancel_scope.cancel()
                        return
                if found != size:
                    detail = f"{name.hex()} has {found} bytes, its manifest says {size}"
                    failures.append(Refused(detail, code="bad_output"))

            for name, size in sizes.items():
                nursery.start_soon(bring, name, size)
        if failures:
            raise failures[0]
        return Fetched(digest, manifest.size)

    def _manifest(self, digest: Digest, size_max: int) -> Manifest:
        """The manifest of an output. It is what its maker sealed: a bad one is the maker's fault, not the source's."""
        try:
            manifest = wire.decode(
                self._store.read(digest, MANIFEST_BYTES_MAX), _manifest, PeerId(bytes(32)), MANIFEST_BYTES_MAX
            )
        except RemoteViolation as violation:
            raise Refused(f"{digest.hex()} is no output manifest: {violation.rule}", code="bad_output") from violation
        if manifest.size > size_max:
            raise Refused(
                f"the output has {manifest.size} bytes, {size_max} are allowed",
                code="output_too_large",
                numbers={"size": manifest.size, "size_max": size_max},
            )
        return manifest

    async def _have(self, digest: Digest, size_max: int, sources: Sequence[PeerId]) -> int:
        """The size of a blob that is here afterwards. Two callers for one digest share one transfer."""
        while not self._store.has(digest):
            running = self._running.get(digest)
            if running is not None:
                await running.wait()
                continue
            done = self._running[digest] = trio.Event()
            try:
                await Transfer(self._store, digest, size_max, self._open, self._counts, self._punish).run(sources)
            finally:
                del self._running[digest]
                done.set()
        return self._store.size(digest)

    async def _open(self, source: PeerId) -> INetStream:
        return await self._dialer.open_stream(source, self.protocol)

    async def _answer_one(self, stream: INetStream, peer: PeerId) -> None:
        reader = FrameReader(stream, peer, REQUEST_BYTES_MAX)
        with no_longer_than(STALL_S, peer):
            body = await reader.read()
        if body is None:
            return
        request = wire.decode(body, request_decoder, peer, REQUEST_BYTES_MAX)
        digest = Digest(request.digest)
        is_here = self._store.has(digest)
        total = self._store.size(digest) if is_here else 0
        await write_all(stream, frame(wire.encode(BlobAnswer(is_here, total))))
        if not is_here:
            return
        with self._store.path(digest).open("rb") as file:
            file.seek(request.offset)
            while piece := file.read(READ_BYTES):
                await write_all(stream, piece)
                self._counts["blob_bytes_sent"] += len(piece)
        self._counts["blobs_served"] += 1
