"""Sessions with peers: Hello first, then messages; who is up, who went down, and who is shown the door.

Either side opens one stream for what it says. A peer is up when its Hello was read and matched, and down when its last
connection ended; what was said and not acknowledged by then is said again on the next connection.
Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import trio
from libp2p.abc import INetStream

from node.arrivals import Arrival, PeerDown, PeerUp, Received
from node.dialer import Dialer
from node.libp2p_rim import HANDSHAKE_S, remote_address, remote_of
from node.links import Links, LinkSettings
from node.streams import FrameReader, frame, reset, write_all
from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation, Unavailable
from protocol.greetings import Ack, Goodbye, Hello, Skip
from protocol.identity import peer_text
from protocol.messages import Message, message_decoder
from protocol.overlay.resume import SESSION_BYTES, Heard, Outbox, resumed
from protocol.units import PeerId

PROTOCOL_VERSION: Final = 5
"""Version of the direct protocol; it is part of the protocol's name and of Hello."""

VIOLATIONS_MAX: Final = 3
"""Invalid gossip is forgiven this often, a wrong direct message never: gossip was somebody else's words first."""

GOODBYE_S: Final = 1.0
"""Time for goodbyes at shutdown: nobody waits longer for a peer that does not read."""

FAULTY_MAX: Final = 4_096
"""Peers whose faults are remembered; the one that was the first to have any is forgiven first."""

SESSIONS_MAX: Final = 4_096
"""Sessions of others that are remembered; a peer of a forgotten one repeats what it has no acknowledgement for."""

log: Final = logging.getLogger("shoal.transport")

Greeted = Callable[[PeerId, Hello, INetStream], None]
"""Hears about every Hello: from whom, what it says, and the stream that it came on."""


@dataclass(slots=True)
class _Reader:
    """The one inbound stream of a peer that is being read."""

    scope: trio.CancelScope
    done: trio.Event


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
        self._heard: dict[PeerId, Heard] = {}
        self._readers: dict[PeerId, _Reader] = {}
        self.capabilities: tuple[str, ...] = ()
        """What our next Hello says that we can do for others."""
        self.greeted: list[Greeted] = []
        self.departed: list[Callable[[PeerId], None]] = []
        """Hear about every peer whose last connection ended."""
        self.links = Links(nursery, LinkSettings(self._open, dialer.backoff, dialer.dice.randbytes, queue_max), counts)
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

    def renew(self, peer: PeerId) -> None:
        """Greet a peer again, on the best path that there is now."""
        self.links.to(peer).renew()

    async def connected(self, peer: PeerId) -> None:
        """A connection was opened, by whichever side: introduce ourselves, and expect the same."""
        if self._book.is_forbidden(peer):
            await self._dialer.disconnect(peer)
            return
        link = self.links.known(peer)
        if link is None:
            self.links.to(peer)
        else:
            link.recover()
        if peer in self._up and len(self._dialer.paths(peer)) > 1 and not self._dialer.is_relayed(peer):
            self.renew(peer)  # A path without a relay is there: what is said goes that way from now on.
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
            link = self.links.known(peer)
            if link is not None:
                link.recover()
            return
        self.links.reopen(peer)
        for hear in self.departed:
            hear(peer)
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
            await self._read(peer, stream)
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
        while len(self._faults) > FAULTY_MAX:
            del self._faults[next(iter(self._faults))]
        log.warning("%s broke a rule (%s): %s", peer_text(violation.peer), violation.code, violation.rule)
        if self._faults[violation.peer] >= VIOLATIONS_MAX:
            del self._faults[violation.peer]
            self._book.forbid(violation.peer)
            await self._dialer.disconnect(violation.peer)

    async def goodbye(self) -> None:
        """Tell everyone who is up, and give them a moment to read it."""
        await self.links.say_last(list(self._up), wire.encode(Goodbye("shutdown")), GOODBYE_S)

    async def _read(self, peer: PeerId, stream: INetStream) -> None:
        frames = FrameReader(stream, peer)
        with trio.move_on_after(HANDSHAKE_S) as deadline:
            first = await frames.read()
        if deadline.cancelled_caught or first is None:
            return
        hello = wire.decode(first, message_decoder, peer)
        if not isinstance(hello, Hello):
            raise RemoteViolation(peer, f"the first message is {type(hello).__name__}, not Hello", code="no_hello")
        if not await self._is_welcome(peer, hello):
            return
        for hear in self.greeted:
            hear(peer, hello, stream)
        reader = await self._replace_reader(peer)
        try:
            with reader.scope:
                await self._listen(peer, hello, frames)
        finally:
            reader.done.set()
            if self._readers.get(peer) is reader:
                del self._readers[peer]

    async def _replace_reader(self, peer: PeerId) -> _Reader:
        """A new stream of a peer ends the old one, whose last message is dealt with before the first of the new."""
        reader = _Reader(trio.CancelScope(), trio.Event())
        earlier = self._readers.get(peer)
        self._readers[peer] = reader
        if earlier is not None:
            earlier.scope.cancel()
            await earlier.done.wait()
        return reader

    async def _listen(self, peer: PeerId, hello: Hello, frames: FrameReader) -> None:
        """The messages of one stream, until it ends or the peer says goodbye."""
        heard = self._resume(peer, hello)
        number = hello.first
        while (body := await frames.read()) is not None:
            match wire.decode(body, message_decoder, peer):
                case Ack(session, count):
                    link = self.links.known(peer)
                    if link is not None and not link.outbox.acknowledge(session, count):
                        raise RemoteViolation(peer, f"it heard {count} messages, fewer were sent", code="bad_ack")
                case Skip(target):
                    if target < number:
                        raise RemoteViolation(peer, f"message {number} is next, not {target}", code="bad_skip")
                    self._counts["messages_missed"] += max(0, target - 1 - heard.count)
                    number = target
                case Goodbye(reason):
                    log.info("%s said goodbye: %s", peer_text(peer), reason)
                    await self._dialer.disconnect(peer)
                    return
                case Hello():
                    raise RemoteViolation(peer, "a second Hello on one stream", code="second_hello")
                case message:
                    await self._take(peer, heard, number, message)
                    number += 1

    async def _take(self, peer: PeerId, heard: Heard, number: int, message: Message) -> None:
        """Deliver a message unless an earlier stream brought it, and say so now and then."""
        if number <= heard.count:
            self._counts["messages_repeated"] += 1
            return
        self._counts["messages_received"] += 1
        await self._deliver(Received(peer, message))
        heard.take(number)
        link = self.links.to(peer)
        link.acknowledge(heard.session, heard.count, heard.is_ack_urgent)
        if heard.is_ack_urgent:
            heard.acked = heard.count

    def _resume(self, peer: PeerId, hello: Hello) -> Heard:
        heard, lost = resumed(self._heard.pop(peer, None), hello.session, hello.first)
        self._heard[peer] = heard
        self._counts["messages_missed"] += lost
        while len(self._heard) > SESSIONS_MAX:
            del self._heard[next(iter(self._heard))]
        return heard

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
            stream = await self._open(peer, Outbox(bytes(SESSION_BYTES), 1))
            await write_all(stream, frame(wire.encode(Goodbye(reason))))
        except Unavailable as error:
            log.debug("no goodbye to %s: %s", peer_text(peer), error.detail)
        self._book.forbid(peer)
        await self._dialer.disconnect(peer)

    async def _open(self, peer: PeerId, outbox: Outbox) -> INetStream:
        """A stream on which our Hello is written. Nobody is dialled only to be greeted."""
        if not len(outbox) and not self._dialer.is_connected(peer):
            raise Unavailable(f"{peer_text(peer)} is gone, and there is nothing to say to it", code="not_connected")
        try:
            await self._dialer.search(peer)
            stream = await self._dialer.open_stream(peer, self.protocol)
        except Unavailable as error:
            if error.code == "foreign_network":
                self._counts["foreign_peers"] += 1
                log.warning("%s", error.detail)
                await self._dialer.disconnect(peer)
            raise
        hello = msgspec.structs.replace(
            self._hello,
            capabilities=self.capabilities,
            observed=remote_address(stream),
            session=outbox.session,
            first=outbox.first,
        )
        await write_all(stream, frame(wire.encode(hello)))
        return stream

    def _announce_change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
