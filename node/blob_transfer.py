"""One blob on its way here: asked from one source after another, resumed, hashed, kept or thrown away.

The request names the digest and the offset; the answer is the blob's size and then its bytes. Only the hash is trusted.
A source whose bytes alone do not hash to the digest lied; where several contributed, the next round starts afresh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio
from libp2p.abc import INetStream
from msgspec import Struct

from node.blobs import BlobStore
from node.streams import FrameReader, frame, read_some, reset, write_all
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.jobspec import Bytes32, NonNegative
from protocol.units import KIB, Digest, PeerId

STALL_S: Final = 10.0
"""Seconds without a byte after which the next source is asked."""

ROUNDS: Final = 3
"""How often all sources are asked before a fetch fails."""

REQUEST_BYTES_MAX: Final = 1 * KIB
"""A request or an answer has about 60 bytes."""


class BlobRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="blob_request"):
    """Send this blob from this byte on."""

    digest: Bytes32
    offset: NonNegative


class BlobAnswer(Struct, frozen=True, forbid_unknown_fields=True, tag="blob_answer"):
    """Its size in bytes, then the bytes from the offset on; `is_here` False: ask somebody else."""

    is_here: bool
    total: NonNegative


request_decoder: Final = wire.decoder(BlobRequest)
answer_decoder: Final = wire.decoder(BlobAnswer)


@contextmanager
def no_longer_than(seconds: float, peer: PeerId) -> Iterator[None]:
    """Unavailable when the block takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise Unavailable(f"{peer_text(peer)} sent nothing for {seconds:g} s", code="stalled") from None


class Transfer:
    """Brings one blob into the store. Bytes that came stay for the next attempt, here or after a restart."""

    def __init__(
        self,
        store: BlobStore,
        digest: Digest,
        size_max: int,
        open_stream: Callable[[PeerId], Awaitable[INetStream]],
        counts: Counter[str],
        punish: Callable[[RemoteViolation], Awaitable[None]],
    ) -> None:
        self._store = store
        self._digest = digest
        self._size_max = size_max
        self._open_stream = open_stream
        self._counts = counts
        self._punish = punish
        self._incoming = store.incoming(digest)
        self._reasons: dict[PeerId, str] = {}
        self._liars: set[PeerId] = set()
        self._is_mixture_bad = False
        """Bytes of several sources did not fit together: from now on every source has to deliver the whole blob."""

    async def run(self, sources: Sequence[PeerId]) -> None:
        """Ask all sources, `ROUNDS` times at most. Unavailable with their reasons; Refused when it is too large."""
        try:
            await self._incoming.resume(self._size_max)
            for _ in range(ROUNDS):
                for source in sources:
                    if source not in self._liars and await self._is_done_by(source):
                        self._counts["blobs_fetched"] += 1
                        return
        finally:
            self._incoming.close()
        said = "; ".join(f"{peer_text(peer)}: {reason}" for peer, reason in self._reasons.items())
        raise Unavailable(
            f"blob {self._digest.hex()} could not be fetched: {said or 'there is no source'}", code="no_source"
        )

    async def _is_done_by(self, source: PeerId) -> bool:
        """True when the blob is complete with what this source gave."""
        if self._is_mixture_bad:
            self._incoming.restart()
        started = self._incoming.offset
        try:
            await self._ask(source)
            if await self._incoming.finish():
                return True
            if started == 0:
                raise RemoteViolation(source, f"wrong bytes for blob {self._digest.hex()}", code="wrong_blob")
            self._is_mixture_bad = True
            self._reasons[source] = f"the bytes from {started} on do not fit those before"
        except Unavailable as error:
            self._reasons[source] = error.detail
        except RemoteViolation as violation:
            self._liars.add(source)
            self._reasons[source] = violation.rule
            await self._punish(violation)
        return False

    async def _ask(self, source: PeerId) -> None:
        """Take what one source has, from where we are to the end of the blob."""
        stream = await self._open_stream(source)
        try:
            await write_all(stream, frame(wire.encode(BlobRequest(self._digest, self._incoming.offset))))
            reader = FrameReader(stream, source, REQUEST_BYTES_MAX)
            with no_longer_than(STALL_S, source):
                head = await reader.read()
            if head is None:
                raise Unavailable("it closed the stream instead of answering", code="no_blob")
            answer = wire.decode(head, answer_decoder, source, REQUEST_BYTES_MAX)
            if not answer.is_here:
                raise Unavailable("it does not have the blob", code="no_blob")
            if answer.total > self._size_max:
                raise Refused(
                    f"blob {self._digest.hex()} has {answer.total} bytes, {self._size_max} are allowed",
                    code="blob_too_large",
                    numbers={"size": answer.total, "size_max": self._size_max},
                )
            if answer.total < self._incoming.offset:
                self._is_mixture_bad = True
                raise Unavailable(f"it has {answer.total} bytes, {self._incoming.offset} came already", code="no_blob")
            with self._store.space(answer.total - self._incoming.offset):
                await self._take(stream, reader.rest(), answer.total, source)
        finally:
            await reset(stream)

    async def _take(self, stream: INetStream, piece: bytes, total: int, source: PeerId) -> None:
        while True:
            if self._incoming.offset + len(piece) > total:
                raise RemoteViolation(source, f"more bytes than the {total} it announced", code="wrong_blob")
            self._incoming.write(piece)
            self._counts["blob_bytes_received"] += len(piece)
            if self._incoming.offset == total:
                return
            with no_longer_than(STALL_S, source):
                piece = await read_some(stream)
            if not piece:
                raise Unavailable(f"it stopped at {self._incoming.offset} of {total} bytes", code="interrupted")
