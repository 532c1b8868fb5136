"""Heads of volumes between peers: offered to holders, who keep the newest with its catalogue, and asked for by owners.

One question and one answer on a stream of its own, `/shoal/<network>/volume/1`. Spec: specs/29-volumes.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import msgspec
import trio
from msgspec import Meta, Struct

from node.blobs import BlobStore
from node.libp2p_rim import remote_of, rim
from node.store import RecordStore
from node.streams import FrameReader, frame, reset, write_all
from protocol import wire
from protocol.completions import Fetched
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.operations import Key
from protocol.units import Digest, Micros, PeerId
from protocol.wire import Signed
from storage.volumes import HEADS_PER_OWNER, HeadBook, head_decoder

if TYPE_CHECKING:
    from libp2p.abc import INetStream

ANSWERED_MAX: Final = 16
"""Questions answered at a time; others wait their turn."""

ASK_S: Final = 20.0
"""Seconds for a question: a holder fetches the catalogue, 1 MiB at most, before it answers."""

RECORD_PREFIX: Final = "head/"

log: Final = logging.getLogger("shoal.volumes")


class OfferHead(Struct, frozen=True, forbid_unknown_fields=True, tag="offer_head"):
    """Keep this head and its catalogue, which the asker has. Answer: `Heads` with what is known afterwards."""

    statement: Signed


class AskHeads(Struct, frozen=True, forbid_unknown_fields=True, tag="ask_heads"):
    """Which heads of this owner do you keep? Answer: `Heads`."""

    owner: Key


class Heads(Struct, frozen=True, forbid_unknown_fields=True, tag="heads"):
    """What is kept. `code` and `detail` say why an offer was not taken; empty when it was."""

    heads: Annotated[tuple[Signed, ...], Meta(max_length=HEADS_PER_OWNER)] = ()
    code: Annotated[str, Meta(max_length=64)] = ""
    detail: Annotated[str, Meta(max_length=256)] = ""


class Kept(Struct, frozen=True):
    """A head on disk."""

    statement: Signed
    seen: int


_questions: Final[msgspec.msgpack.Decoder[OfferHead | AskHeads]] = msgspec.msgpack.Decoder(OfferHead | AskHeads)
_answers: Final = wire.decoder(Heads)
_kept: Final = wire.decoder(Kept)


class Way(Protocol):
    """What is needed of the transport."""

    async def open_stream(self, peer: PeerId, protocol: str) -> INetStream: ...

    def serve_streams(self, protocol: str, handle: Callable[[INetStream], Awaitable[None]]) -> None: ...

    async def punish(self, violation: RemoteViolation) -> None: ...

    def connected(self) -> list[PeerId]: ...

    async def fetch(
        self, digest: Digest, size_max: int, sources: Sequence[PeerId], is_output: bool = False, job: bytes = b""
    ) -> Fetched: ...


class HeadKeeper:
    """Keeps heads for others, and finds those of our own at others."""

    def __init__(
        self, network: str, way: Way, blobs: BlobStore, records: RecordStore, now: Callable[[], Micros], me: PeerId
    ) -> None:
        self.protocol = f"/shoal/{network}/volume/1"
        self._network = network
        self._way = way
        self._blobs = blobs
        self._records = records
        self._now = now
        self._me = me
        self._book = HeadBook(network)
        self._slots = trio.Semaphore(ANSWERED_MAX)

    def serve(self) -> None:
        """Begin to answer, with what an earlier run of this node kept."""
        for _, value in self._records.scan(RECORD_PREFIX):
            kept = wire.decode(value, _kept, self._me)
            self._book.offer(self._me, kept.statement, Micros(kept.seen))
        self._way.serve_streams(self.protocol, self._serve)

    def sweep(self) -> None:
        """Forget heads that nobody offered for long."""
        for owner, head in self._book.expired(self._now()):
            self._records.put(_key(owner, head.volume), None)
            self._blobs.remove(Digest(head.catalogue))

    async def offer(self, peer: PeerId, statement: Signed) -> None:
        """Have a peer keep a head of ours. Refused as `HeadBook.offer` says; Unavailable when it does not answer."""
        answer = await self._ask(peer, OfferHead(statement))
        if answer.code:
            raise Refused(f"{peer_text(peer)}: {answer.detail}", code=answer.code)

    async def ask(self, peer: PeerId, owner: PeerId) -> tuple[Signed, ...]:
        """Heads of one owner at a peer; what is not signed by that owner is a violation."""
        answer = await self._ask(peer, AskHeads(owner))
        for statement in answer.heads:
            if statement.signer != owner:
                raise RemoteViolation(peer, "it answers with somebody else's heads", code="other_owner")
            wire.open_signed(statement, self._network, "volume", head_decoder, peer)
        return answer.heads

    async def _ask(self, peer: PeerId, question: OfferHead | AskHeads) -> Heads:
        with trio.move_on_after(ASK_S):
            stream = await self._way.open_stream(peer, self.protocol)
            try:
                await write_all(stream, frame(wire.encode(question)))
                body = await FrameReader(stream, peer, wire.MESSAGE_BYTES_MAX).read()
            finally:
                with trio.CancelScope(shield=True):
                    await reset(stream)
            if body is None:
                raise Unavailable(f"{peer_text(peer)} ended the stream without an answer", code="no_answer")
            return wire.decode(body, _answers, peer)
        raise Unavailable(f"{peer_text(peer)} did not answer within {ASK_S:g} s", code="no_answer")

    async def _serve(self, stream: INetStream) -> None:
        peer = remote_of(stream)
        try:
            with trio.move_on_after(ASK_S):
                body = await FrameReader(stream, peer).read()
                if body is not None:
                    async with self._slots:
                        answer = await self._answer(peer, wire.decode(body, _questions, peer))
                    await write_all(stream, frame(wire.encode(answer)))
                    with rim("close"):
                        await stream.close()
                    return
        except RemoteViolation as violation:
            await self._way.punish(violation)
        except Unavailable as error:
            log.debug("a question about volumes ended: %s", error.detail)
        with trio.CancelScope(shield=True):
            await reset(stream)

    async def _answer(self, peer: PeerId, question: OfferHead | AskHeads) -> Heads:
        if isinstance(question, AskHeads):
            return Heads(self._book.of(PeerId(question.owner)))
        try:
            await self._take(peer, question.statement)
        except (Refused, Unavailable) as error:
            return Heads((), error.code[:64], error.detail[:256])
        return Heads((question.statement,))

    async def _take(self, peer: PeerId, statement: Signed) -> None:
        """The catalogue first: a head whose catalogue nobody has would hide an older one that can be opened."""
        now, owner = self._now(), PeerId(statement.signer)
        head, _ = self._book.require(peer, statement)
        if not head.is_removed:
            await self._way.fetch(Digest(head.catalogue), head.catalogue_bytes, [peer])
        before = self._book.catalogue_of(owner, head.volume)
        self._book.offer(peer, statement, now)
        self._records.put(_key(owner, head.volume), wire.encode(Kept(statement, now)))
        if before is not None and before != head.catalogue:
            self._blobs.remove(before)


def _key(owner: PeerId, volume: bytes) -> str:
    return f"{RECORD_PREFIX}{owner.hex()}/{volume.hex()}"
