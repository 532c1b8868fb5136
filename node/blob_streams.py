"""Blobs between peers: ask for a digest from an offset, get the total and then raw bytes, trust only the hash.

A transfer goes on at the byte where the last source stopped. A source whose bytes alone do not hash to the digest is
reported and not asked again. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio
from libp2p.abc import INetStream
from msgspec import Struct

from node.addresses import Dialer
from node.blobs import BlobStore, Incoming
from node.libp2p_rim import remote_of, rim
from node.streams import READ_BYTES, FrameReader, frame, read_some, reset, write_all
from protocol import wire
from protocol.completions import Fetched, FetchFailed
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.jobspec import Bytes32, Manifest, NonNegative
from protocol.units import KIB, MIB, Digest, PeerId

STALL_S: Final = 10.0
"""Seconds without a byte after which the next source is asked."""

SERVED_MAX: Final = 32
"""Transfers served at a time; the others wait their turn."""

FETCHED_MAX: Final = 4
"""Files of one manifest fetched at a time: one link is full with two."""

ROUNDS: Final = 3
"""How often all sources are asked before a fetch fails."""

MANIFEST_BYTES_MAX: Final = 2 * MIB
"""2048 files with paths of 512 characters fit."""

REQUEST_BYTES_MAX: Final = 1 * KIB
"""A request or an answer has about 60 bytes."""

log: Final = logging.getLogger("shoal.blobs")


class BlobRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="blob_request"):
    """Send this blob from this byte on."""

    digest: Bytes32
    offset: NonNegative


class BlobAnswer(Struct, frozen=True, forbid_unknown_fields=True, tag="blob_answer"):
    """Its size in bytes, then the bytes from the offset on; `is_here` False: ask somebody else."""

    is_here: bool
    total: NonNegative


_request: Final = wire.decoder(BlobRequest)
_answer: Final = wire.decoder(BlobAnswer)
_manifest: Final = wire.decoder(Manifest)


@contextmanager
def _no_longer_than(seconds: float, peer: PeerId) -> Iterator[None]:
    """Unavailable when the block takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise Unavailable(f"{peer_text(peer)} sent nothing for {seconds:g} s", code="stalled") from None


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

    async def fetch(
        self, digest: Digest, size_max: int, sources: Sequence[PeerId], is_output: bool
    ) -> Fetched | FetchFailed:
        """Have a blob, or for `is_output` a manifest and every file in it (`size_max` then bounds their sum)."""
        try:
            if not is_output:
                return Fetched(digest, await self._have(digest, size_max, sources))
            await self._have(digest, MANIFEST_BYTES_MAX, sources)
            manifest = self._manifest(digest, size_max)
            limit = trio.Semaphore(FETCHED_MAX)
            failures: list[Refused | Unavailable] = []
            async with trio.open_nursery() as nursery:
                for name, size in {Digest(file.digest): file.size for file in manifest.files}.items():
                    nursery.start_soon(self._have_one, name, size, sources, limit, failures)
            if failures:
                raise failures[0]
            return Fetched(digest, manifest.size)
        except (Refused, Unavailable) as error:
            return FetchFailed(digest, error.detail)

    async def _have_one(
        self,
        digest: Digest,
        size: int,
        sources: Sequence[PeerId],
        limit: trio.Semaphore,
        failures: list[Refused | Unavailable],
    ) -> None:
        async with limit:
            if failures:
                return
            try:
                found = await self._have(digest, size, sources)
            except (Refused, Unavailable) as error:
                failures.append(error)
                return
            if found != size:
                failures.append(
                    Refused(f"{digest.hex()} has {found} bytes, its manifest says {size}", code="bad_output")
                )

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
            incoming = self._store.incoming(digest)
            try:
                await self._ask_all(incoming, digest, size_max, sources)
            finally:
                incoming.close()
                del self._running[digest]
                done.set()
        return self._store.size(digest)

    async def _ask_all(self, incoming: Incoming, digest: Digest, size_max: int, sources: Sequence[PeerId]) -> None:
        liars: set[PeerId] = set()
        reasons: dict[PeerId, str] = {}
        fresh = False
        for _ in range(ROUNDS):
            for source in sources:
                if source in liars:
                    continue
                try:
                    started = await self._ask(incoming, digest, size_max, source)
                except Unavailable as error:
                    reasons[source] = error.detail
                    continue
                except RemoteViolation as violation:
                    liars.add(source)
                    reasons[source] = violation.rule
                    await self._punish(violation)
                    continue
                if await incoming.finish():
                    self._counts["blobs_fetched"] += 1
                    return
                fresh = True
                reasons[source] = "the bytes do not hash to the digest"
                if started == 0:
                    liars.add(source)
                    await self._punish(
                        RemoteViolation(source, f"wrong bytes for blob {digest.hex()}", code="wrong_blob")
                    )
        said = "; ".join(f"{peer_text(peer)}: {reason}" for peer, reason in reasons.items()) or "there is no source"
        hint = " (sources contradict each other)" if fresh and len(reasons) > 1 else ""
        raise Unavailable(f"blob {digest.hex()} could not be fetched{hint}: {said}", code="no_source")

    async def _ask(self, incoming: Incoming, digest: Digest, size_max: int, source: PeerId) -> int:
        """Take what one source has, to the end of the blob; the offset at which it started."""
        stream = await self._dialer.open_stream(source, self.protocol)
        try:
            if incoming.offset == 0:
                await incoming.resume(size_max)
            started = incoming.offset
            await write_all(stream, frame(wire.encode(BlobRequest(digest, started))))
            reader = FrameReader(stream, source, REQUEST_BYTES_MAX)
            with _no_longer_than(STALL_S, source):
                head = await reader.read()
            if head is None:
                raise Unavailable("it closed the stream instead of answering", code="no_blob")
            answer = wire.decode(head, _answer, source, REQUEST_BYTES_MAX)
            if not answer.is_here:
                raise Unavailable("it does not have the blob", code="no_blob")
            if answer.total > size_max:
                raise Refused(
                    f"blob {digest.hex()} has {answer.total} bytes, {size_max} are allowed",
                    code="blob_too_large",
                    numbers={"size": answer.total, "size_max": size_max},
                )
            with self._store.space(max(0, answer.total - started)):
                await self._take(incoming, stream, reader.rest(), answer.total, source)
            return started
        finally:
            await reset(stream)

    async def _take(self, incoming: Incoming, stream: INetStream, piece: bytes, total: int, source: PeerId) -> None:
        while True:
            if incoming.offset + len(piece) > total:
                raise RemoteViolation(source, f"more bytes than the {total} it announced", code="wrong_blob")
            incoming.write(piece)
            self._counts["blob_bytes_received"] += len(piece)
            if incoming.offset == total:
                return
            with _no_longer_than(STALL_S, source):
                piece = await read_some(stream)
            if not piece:
                raise Unavailable(f"it stopped at {incoming.offset} of {total} bytes", code="interrupted")

    async def _answer_one(self, stream: INetStream, peer: PeerId) -> None:
        reader = FrameReader(stream, peer, REQUEST_BYTES_MAX)
        with _no_longer_than(STALL_S, peer):
            body = await reader.read()
        if body is None:
            return
        request = wire.decode(body, _request, peer, REQUEST_BYTES_MAX)
        digest = Digest(request.digest)
        is_here = self._store.has(digest)
        total = self._store.size(digest) if is_here else 0
        if request.offset > total:
            raise RemoteViolation(peer, f"offset {request.offset} in a blob of {total} bytes", code="bad_offset")
        await write_all(stream, frame(wire.encode(BlobAnswer(is_here, total))))
        if not is_here:
            return
        with self._store.path(digest).open("rb") as file:
            file.seek(request.offset)
            while piece := file.read(READ_BYTES):
                await write_all(stream, piece)
                self._counts["blob_bytes_sent"] += len(piece)
        self._counts["blobs_served"] += 1
