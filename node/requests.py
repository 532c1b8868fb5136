"""One question, one answer, on a stream of its own: for what is neither a machine's message nor bulk.

    requests.serve("find", find_decoder, answer)
    reply = await requests.ask(peer, "find", Find(…), found_decoder)

A frame there, a frame back: a byte that says how it went, then the reply, or why there is none.
Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal, TypeVar

import msgspec
import trio
from libp2p.abc import INetStream
from msgspec import Meta, Struct

from node.dialer import Dialer
from node.libp2p_rim import remote_of, rim
from node.streams import FrameReader, frame, reset, write_all
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.units import PeerId

ANSWERED_MAX: Final = 128
"""Questions answered at a time, of all peers together."""

READ_MAX: Final = 1_024
"""Questions that are being read at a time, 64 KiB each at most; the longest under way gives its place to one more."""

ANSWERED_PER_PEER_MAX: Final = 8
"""Questions of one peer answered at a time; one more ends its stream."""

ASK_S: Final = 10.0
"""Deadline of a question unless the asker says otherwise, and of reading one."""

GOOD: Final = b"\0"
DECLINED: Final = b"\1"

log: Final = logging.getLogger("shoal.transport")

Q = TypeVar("Q", bound=Struct)
R = TypeVar("R")
Text = Annotated[str, Meta(max_length=512)]
Answer = Callable[[PeerId, Q], Awaitable[Struct]]


class Declined(Struct, frozen=True, forbid_unknown_fields=True, tag="declined"):
    """Why there is no reply; the asker gets the same error."""

    kind: Literal["refused", "unavailable"]
    code: Annotated[str, Meta(max_length=64)]
    detail: Text
    fix: Text = ""


_declined: Final = wire.decoder(Declined)


class Requests:
    """Asks peers, and answers them. `punish` hears about peers that send rubbish."""

    def __init__(
        self,
        network: str,
        dialer: Dialer,
        punish: Callable[[RemoteViolation], Awaitable[None]],
        register: Callable[[str, Callable[[INetStream], Awaitable[None]]], None],
        counts: Counter[str],
    ) -> None:
        self._network = network
        self._dialer = dialer
        self._punish = punish
        self._register = register
        self._counts = counts
        self._slots = trio.Semaphore(ANSWERED_MAX)
        self._reading: dict[int, trio.CancelScope] = {}
        self._numbers = 0
        self._served: Counter[PeerId] = Counter()

    def protocol(self, name: str) -> str:
        """The protocol's full name on this network."""
        return f"/shoal/{self._network}/{name}/1"

    def serve(self, name: str, request: msgspec.msgpack.Decoder[Q], answer: Answer[Q]) -> None:
        """Answer questions called `name`. `answer` may raise Refused or Unavailable: the asker gets the same."""

        async def handle(stream: INetStream) -> None:
            await self._handle(stream, name, request, answer)

        self._register(self.protocol(name), handle)

    async def ask(
        self,
        peer: PeerId,
        name: str,
        request: Struct,
        reply: msgspec.msgpack.Decoder[R],
        seconds: float = ASK_S,
    ) -> R:
        """The reply of a peer. Unavailable: not in time; Refused: it says no; RemoteViolation: rubbish."""
        self._counts["requests_sent"] += 1
        with trio.move_on_after(seconds):
            stream = await self._dialer.open_stream(peer, self.protocol(name))
            try:
                await write_all(stream, frame(wire.encode(request)))
                body = await FrameReader(stream, peer, wire.MESSAGE_BYTES_MAX + 1).read()
                return _opened(body, peer, name, reply)
            finally:
                await reset(stream)
        raise Unavailable(f"{peer_text(peer)} did not answer {name!r} within {seconds:g} s", code="no_answer")

    async def _handle(
        self, stream: INetStream, name: str, request: msgspec.msgpack.Decoder[Q], answer: Answer[Q]
    ) -> None:
        try:
            peer = remote_of(stream)
            if self._dialer.book.is_forbidden(peer) or self._served[peer] >= ANSWERED_PER_PEER_MAX:
                raise Refused(f"{ANSWERED_PER_PEER_MAX} questions at a time", code="too_many_requests")
        except Refused:
            await reset(stream)
            return
        self._served[peer] += 1
        try:
            body = await self._read(stream, peer)
            if body is not None:
                async with self._slots:  # Only whole questions take a place: whoever is slow keeps nobody waiting.
                    await self._answer(stream, peer, wire.decode(body, request, peer), answer)
            with rim("close"):
                await stream.close()
        except RemoteViolation as violation:
            await reset(stream)
            await self._punish(violation)
        except Unavailable as error:
            log.debug("question %r of %s ended: %s", name, peer_text(peer), error.detail)
            await reset(stream)
        finally:
            self._served[peer] -= 1
            if not self._served[peer]:
                del self._served[peer]

    async def _read(self, stream: INetStream, peer: PeerId) -> bytes | None:
        """A question; None when it does not come in time, or others need the place."""
        while len(self._reading) >= READ_MAX:
            self._reading.pop(next(iter(self._reading))).cancel()
            self._counts["requests_evicted"] += 1
        self._numbers += 1
        number = self._numbers
        with trio.move_on_after(ASK_S) as scope:
            self._reading[number] = scope
            try:
                return await FrameReader(stream, peer).read()
            finally:
                self._reading.pop(number, None)
        return None

    async def _answer(self, stream: INetStream, peer: PeerId, question: Q, answer: Answer[Q]) -> None:
        self._counts["requests_answered"] += 1
        try:
            reply = GOOD + wire.encode(await answer(peer, question))
        except (Refused, Unavailable) as error:
            kind: Literal["refused", "unavailable"] = "refused" if isinstance(error, Refused) else "unavailable"
            declined = Declined(kind, error.code[:64], error.detail[:512], error.fix[:512])
            reply = DECLINED + wire.encode(declined)
        await write_all(stream, frame(reply))


def _opened(body: bytes | None, peer: PeerId, name: str, reply: msgspec.msgpack.Decoder[R]) -> R:
    """The reply inside a frame, or the error that stands in its place."""
    if not body:
        raise Unavailable(f"{peer_text(peer)} ended the stream instead of answering {name!r}", code="no_answer")
    if body[:1] == GOOD:
        return wire.decode(body[1:], reply, peer)
    if body[:1] != DECLINED:
        raise RemoteViolation(peer, f"an answer begins with {body[0]}, 0 and 1 are known", code="malformed")
    declined = wire.decode(body[1:], _declined, peer)
    kind = Refused if declined.kind == "refused" else Unavailable
    raise kind(declined.detail, code=declined.code, fix=declined.fix)
