"""How to reach a holder with data: straight to its data port, else through a libp2p stream; and what worked last time.

A connection that ended cleanly is kept for a moment, because the next file of an output asks the same holder.
"""

from __future__ import annotations

import logging
import socket
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from node.addresses import is_dialable
from node.bulk.channel import SocketChannel, StreamChannel
from node.bulk.link import Link
from node.bulk.meeting import Parlour, receive_frame, send_frame
from node.bulk.tally import Tally
from node.dialer import Dialer
from node.streams import FrameReader, reset, write_all
from protocol.bulk.handshake import HANDSHAKE_BYTES_MAX
from protocol.errors import Unavailable
from protocol.units import PeerId

DIRECT_S: Final = 1.5
"""Deadline for reaching a data address; then the stream is taken."""

STAGGER_S: Final = 0.1
"""Head start of an address before the next one is tried beside it."""

AVOID_S: Final = 60.0
"""How long a data port that could not be reached is not tried again."""

IDLE_S: Final = 3.0
"""How long a connection waits for its next use; its holder waits longer."""

IDLE_MAX: Final = 32
"""Connections that wait."""

REMEMBERED_MAX: Final = 4_096
"""Peers whose data port is known not to answer."""

log: Final = logging.getLogger("shoal.bulk")


class Routes:
    """Opens links to holders."""

    def __init__(self, protocol: str, dialer: Dialer, parlour: Parlour, tally: Tally) -> None:
        self._protocol = protocol
        self._dialer = dialer
        self._parlour = parlour
        self._tally = tally
        self._avoid: OrderedDict[PeerId, float] = OrderedDict()
        """Peers whose data port did not answer, until when."""
        self._idle: list[tuple[Link, float]] = []

    async def open(self, holder: PeerId, secret: bytes, addresses: Sequence[str], scope: frozenset[bytes]) -> Link:
        """A new link under a ticket for `scope`; Unavailable when neither way leads there."""
        if self._is_worth_trying(holder):
            try:
                link = await self._direct(holder, secret, addresses, scope)
            except Unavailable as error:
                log.info("the data port of a holder is out of reach (%s): a stream is used", error.detail)
                self._remember(holder)
            else:
                self._tally.add("bulk_connections_direct")
                return link
        link = await self._through_stream(holder, secret, scope)
        self._tally.add("bulk_connections_stream")
        return link

    def idle(self, holder: PeerId, digest: bytes) -> Link | None:
        """A link to a holder that waits and may ask for this blob; it is taken."""
        place = self._place(holder, digest)
        return None if place is None else self._idle.pop(place)[0]

    def has_idle(self, holder: PeerId, digest: bytes) -> bool:
        """Whether there is one."""
        return self._place(holder, digest) is not None

    def spare(self, holder: PeerId) -> list[Link]:
        """The links to a holder that wait, for closing: none of them covers what is wanted now, and a holder bounds
        how many a peer has."""
        found = [link for link, _ in self._idle if link.met.peer == holder]
        self._idle = [(link, until) for link, until in self._idle if link.met.peer != holder]
        return found

    def keep(self, link: Link) -> Link | None:
        """Let a link wait for its next use; the one that has to be closed for it, if any."""
        self._idle.append((link, trio.current_time() + IDLE_S))
        return self._idle.pop(0)[0] if len(self._idle) > IDLE_MAX else None

    def expired(self) -> list[Link]:
        """Links that waited too long, for closing."""
        now = trio.current_time()
        late = [link for link, until in self._idle if until <= now]
        self._idle = [(link, until) for link, until in self._idle if until > now]
        return late

    async def close(self) -> None:
        """Leave nothing open."""
        for link, _ in self._idle:
            await link.channel.close()
        self._idle.clear()

    def _place(self, holder: PeerId, digest: bytes) -> int | None:
        now = trio.current_time()
        places = (
            place
            for place, (link, until) in enumerate(self._idle)
            if link.met.peer == holder and until > now and digest in link.scope
        )
        return next(places, None)

    def _is_worth_trying(self, holder: PeerId) -> bool:
        return self._avoid.get(holder, 0.0) <= trio.current_time()

    def _remember(self, holder: PeerId) -> None:
        self._avoid.pop(holder, None)
        self._avoid[holder] = trio.current_time() + AVOID_S
        while len(self._avoid) > REMEMBERED_MAX:
            self._avoid.popitem(last=False)

    async def _direct(self, holder: PeerId, secret: bytes, addresses: Sequence[str], scope: frozenset[bytes]) -> Link:
        connected = await connect(self._in_order(holder, addresses))
        with connected:
            met = await self._parlour.as_fetcher(
                holder, secret, partial(send_frame, connected), partial(receive_frame, connected)
            )
            return Link(SocketChannel(socket.socket(fileno=connected.detach())), met, scope)

    def _in_order(self, holder: PeerId, addresses: Sequence[str]) -> list[tuple[str, int]]:
        """Hosts and ports, those hosts first where the peer's control plane is known to be."""
        known = {text.split("/")[2] for text in self._dialer.book.of(holder)}
        given = [text.split("/") for text in addresses if is_dialable(text) and text.startswith(("/ip4/", "/ip6/"))]
        given.sort(key=lambda parts: parts[2] not in known)
        return [(parts[2], int(parts[4])) for parts in given]

    async def _through_stream(self, holder: PeerId, secret: bytes, scope: frozenset[bytes]) -> Link:
        stream = await self._dialer.open_stream(holder, self._protocol)
        frames = FrameReader(stream, holder, HANDSHAKE_BYTES_MAX)
        try:
            send, receive = partial(write_all, stream), partial(next_frame, frames)
            met = await self._parlour.as_fetcher(holder, secret, send, receive)
        except BaseException:
            await reset(stream)
            raise
        return Link(StreamChannel(stream, frames.rest()), met, scope)


async def next_frame(frames: FrameReader) -> bytes:
    """One message of a handshake from a stream; Unavailable when it ends."""
    body = await frames.read()
    if body is None:
        raise Unavailable("it closed the stream during the handshake", code="interrupted")
    return body


async def connect(targets: Sequence[tuple[str, int]]) -> trio.socket.SocketType:
    """The first connection that stands, later addresses starting a little later; Unavailable after `DIRECT_S`."""
    won: list[trio.socket.SocketType] = []
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + DIRECT_S
        for place, (host, port) in enumerate(targets):
            nursery.start_soon(_try, host, port, place * STAGGER_S, won, nursery.cancel_scope)
    for loser in won[1:]:
        loser.close()
    if not won:
        raise Unavailable(f"no answer from {len(targets)} data addresses", code="unreachable")
    return won[0]


async def _try(host: str, port: int, delay: float, won: list[trio.socket.SocketType], race: trio.CancelScope) -> None:
    await trio.sleep(delay)
    made = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        await made.connect((host, port))
    except OSError:
        made.close()
        return
    except trio.Cancelled:
        made.close()
        raise
    won.append(made)
    race.cancel()
