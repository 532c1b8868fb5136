"""Sessions with peers: Hello first, then messages; who is up, who went down, and who is shown the door.

Either side opens one stream for what it says. A peer is up when its Hello was read and matched, and down when its last
connection ended. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from libp2p.abc import INetStream

from node.addresses import Dialer
from node.arrivals import Arrival, PeerDown, PeerUp, Received
from node.libp2p_rim import HANDSHAKE_S, remote_of
from node.links import Links
from node.streams import FrameReader, frame, reset, write_all
from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.messages import Goodbye, Hello, Message, message_decoder
from protocol.units import PeerId

PROTOCOL_VERSION: Final = 1
"""Version of the direct protocol; it is part of the protocol's name and of Hello."""

VIOLATIONS_MAX: Final = 3
"""Invalid gossip is forgiven this often, a wrong direct message never: gossip was somebody else's words first."""

GOODBYE_S: Final = 1.0
"""Time for goodbyes at shutdown: nobody waits longer for a peer that does not read."""

log: Final = logging.getLogger("shoal.transport")


class Sessions:
    """Links, greetings and presence. Runs inside the transport's nursery."""

    def __init__(
        self,
        hello: Hello,
        dialer: Dialer,
        nursery: trio.Nursery,
        deliver: Callable[[Arrival], Awaitable[None]],
        counts: Counter[str],
        queue_max: int,
    ) -> None:
        self._hello = hello
        self._dialer = dialer
        self._book = dialer.book
        self._deliver = deliver
        self._counts = counts
        self._up: dict[PeerId, Hello] = {}
        self._faults: Counter[PeerId] = Counter()
        self.links = Links(nursery, self._open, dialer.backoff, counts, queue_max)
        self.changed = trio.Event()
        """Set and replaced whenever a peer goes up or down."""

    @property
    def protocol(self) -> str:
        """The name of the direct protocol on this network."""
        return f"/shoal/{self._hello.network}/{PROTOCOL_VERSION}"

    @property
    def up(self) -> dict[PeerId, Hello]:
        """Peers that are up, and how they introduced themselves."""
        return self._up

    def send(self, peer: PeerId, message: Message) -> None:
        """Queue a message for a peer; LocalError when it is larger than the protocol allows."""
        body = wire.encode(message)
        if len(body) > wire.MESSAGE_BYTES_MAX:
            raise LocalError(
                f"{type(message).__name__} of {len(body)} bytes, at most {wire.MESSAGE_BYTES_MAX} can be sent",
                code="over_limit",
                fix="Send it in parts, or as a blob.",
            )
        self._counts["messages_sent"] += 1
        self.links.to(peer).put(body)

    async def connected(self, peer: PeerId) -> None:
        """A connection was opened, by whichever side: introduce ourselves, and expect the same."""
        if self._book.is_forbidden(peer):
            await self._dialer.disconnect(peer)
            return
        self.links.to(peer).retry()
        with trio.move_on_after(HANDSHAKE_S):
            while peer not in self._up and self._dialer.is_connected(peer):
                await self.changed.wait()
        if peer not in self._up and self._dialer.is_connected(peer):
            self._counts["silent_peers"] += 1
            log.info("%s said no Hello within %s s and is disconnected", peer_text(peer), HANDSHAKE_S)
            await self._dialer.disconnect(peer)

    async def disconnected(self, peer: PeerId) -> None:
        """A connection ended; the peer is down when it was the last one."""
        if self._dialer.is_connected(peer):
            return
        self.links.disconnected(peer)
        if self._up.pop(peer, None) is not None:
            self._announce_change()
            await self._deliver(PeerDown(peer))

    async def accept(self, stream: INetStream) -> None:
        """Read one inbound stream to its end. A peer that breaks a rule loses the stream and the connection."""
        try:
            peer = remote_of(stream)
        except Refused:
            await reset(stream)  # A libp2p peer with another kind of key: not one of us.
            return
        if self._book.is_forbidden(peer):
            await reset(stream)
            return
        try:
            await self._read(peer, FrameReader(stream, peer))
        except RemoteViolation as violation:
            await self.punish(violation, faults=VIOLATIONS_MAX)
        except Unavailable as error:
            log.debug("stream from %s ended: %s", peer_text(peer), error.detail)
        finally:
            await reset(stream)

    async def punish(self, violation: RemoteViolation, faults: int = 1) -> None:
        """Count a peer's faults; at `VIOLATIONS_MAX` it is shut out for a while."""
        self._counts["violations"] += 1
        self._faults[violation.peer] += faults
        log.warning("%s broke a rule (%s): %s", peer_text(violation.peer), violation.code, violation.rule)
        if self._faults[violation.peer] >= VIOLATIONS_MAX:
            del self._faults[violation.peer]
            self._book.forbid(violation.peer)
            await self._dialer.disconnect(violation.peer)

    async def goodbye(self) -> None:
        """Tell everyone who is up, and give them a moment to read it."""
        await self.links.say_last(list(self._up), wire.encode(Goodbye("shutdown")), GOODBYE_S)

    async def _read(self, peer: PeerId, frames: FrameReader) -> None:
        with trio.move_on_after(HANDSHAKE_S) as deadline:
            first = await frames.read()
        if deadline.cancelled_caught or first is None:
            return
        hello = wire.decode(first, message_decoder, peer)
        if not isinstance(hello, Hello):
            raise RemoteViolation(peer, f"the first message is {type(hello).__name__}, not Hello", code="no_hello")
        if not await self._is_welcome(peer, hello):
            return
        while (body := await frames.read()) is not None:
            message = wire.decode(body, message_decoder, peer)
            self._counts["messages_received"] += 1
            if isinstance(message, Goodbye):
                log.info("%s said goodbye: %s", peer_text(peer), message.reason)
                await self._dialer.disconnect(peer)
                return
            if isinstance(message, Hello):
                raise RemoteViolation(peer, "a second Hello on one stream", code="second_hello")
            await self._deliver(Received(peer, message))

    async def _is_welcome(self, peer: PeerId, hello: Hello) -> bool:
        """Same network, same version: the peer is up. Otherwise say why, and close."""
        ours = (self._hello.network, self._hello.version)
        if (hello.network, hello.version) != ours:
            reason = f"you: {hello.network}/{hello.version}, here: {ours[0]}/{ours[1]}"[:128]
            self._counts["foreign_peers"] += 1
            log.warning("%s is of another network or version: %s", peer_text(peer), reason)
            await self._turn_away(peer, reason)
            return False
        is_new = peer not in self._up
        self._up[peer] = hello
        if is_new:
            self._announce_change()
            await self._deliver(PeerUp(peer))
        return True

    async def _turn_away(self, peer: PeerId, reason: str) -> None:
        try:
            stream = await self._open(peer)
            await write_all(stream, frame(wire.encode(Goodbye(reason))))
        except Unavailable as error:
            log.debug("no goodbye to %s: %s", peer_text(peer), error.detail)
        self._book.forbid(peer)
        await self._dialer.disconnect(peer)

    async def _open(self, peer: PeerId) -> INetStream:
        """A stream on which our Hello is written."""
        try:
            stream = await self._dialer.open_stream(peer, self.protocol)
        except Unavailable as error:
            if error.code == "foreign_network":
                self._counts["foreign_peers"] += 1
                log.warning("%s", error.detail)
                await self._dialer.disconnect(peer)
            raise
        await write_all(stream, frame(wire.encode(self._hello)))
        return stream

    def _announce_change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
