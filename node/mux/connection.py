"""A muxed connection: the tasks that move bytes between a session and what carries them, in libp2p's clothes.

One task reads, and hands what came to the session at once. Whatever has something to say seals and sends it in its own
task while the carrier takes it; else one writer sends, and what is said meanwhile goes out together. Nothing polls.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from libp2p.abc import IMuxedConn, INetConn, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

from node.mux.carriers import carrier_for
from node.mux.stream import MuxedStream
from protocol.errors import RemoteViolation, ShoalError, Unavailable
from protocol.overlay.yamux import Session
from protocol.overlay.yamux_events import Answered, Event, Gone, Left, Opened, Readable, Writable
from protocol.overlay.yamux_frames import Reason
from protocol.units import SECOND, Micros, PeerId

SEND_BYTES: Final = 256 * 1024
"""Bytes sealed and sent in one go: as long a heartbeat waits behind bulk."""

KEY_BYTES: Final = 32
"""An Ed25519 key, at the end of a peer's id."""

CLOSE_S: Final = 1.0
"""Time for what is queued, and the goodbye, when a connection closes."""

BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, BaseLibp2pError, EOFError, Unavailable)
"""What a carrier raises when the connection is gone."""

log: Final = logging.getLogger("shoal.mux")


class Connection(IMuxedConn):
    """One muxed connection. `start` runs it until either side ends it."""

    def __init__(
        self,
        secured_conn: ISecureConn,
        peer_id: ID,
        is_initiator: bool | None = None,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.secured_conn = secured_conn
        self.peer_id = peer_id
        self.on_close = on_close
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.event_shutting_down = trio.Event()
        self.violation: RemoteViolation | None = None
        self.round_trip: Micros | None = None
        self._is_initiator = secured_conn.is_initiator if is_initiator is None else is_initiator
        peer = PeerId(peer_id.to_bytes()[-KEY_BYTES:])
        self.session = Session(peer, _now(), is_initiator=self._is_initiator)
        self._carrier = carrier_for(secured_conn, peer)
        self._streams: dict[int, MuxedStream] = {}
        self._arrived: deque[MuxedStream] = deque()
        self._arrival = trio.Event()
        self._place = trio.Event()
        self._crowded: set[MuxedStream] = set()
        self._is_flushing = False
        self._work = trio.Event()
        self._drained = trio.Event()
        self._has_told = False

    # libp2p's interface

    @property
    def is_initiator(self) -> bool:
        return self._is_initiator

    @property
    def is_established(self) -> bool:
        return self.event_started.is_set() and not self.session.is_over

    @property
    def is_closed(self) -> bool:
        return self.event_closed.is_set()

    async def start(self) -> None:
        """Run the connection; returns when it is over and everything of it is closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive)
                self.event_started.set()
                await self.event_shutting_down.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._give_up()
            with trio.CancelScope(shield=True):
                await self._close_carrier()
        await self._tell()

    async def open_stream(self) -> MuxedStream:
        """A new stream; waits for a place while too many are open. MuxedConnUnavailable when the connection is over."""
        while not self.session.is_over and self.session.places.is_full:
            await self._place.wait()
        try:
            state = self.session.open()
        except Unavailable as error:
            raise MuxedConnUnavailable(error.detail) from error
        stream = self._streams[state.id] = MuxedStream(self, state)
        self.pump()
        return stream

    async def accept_stream(self) -> MuxedStream:
        """The next stream that the peer opened. MuxedConnUnavailable when the connection is over."""
        while not self._arrived:
            if self.session.is_over:
                raise MuxedConnUnavailable("the connection is over")
            await self._arrival.wait()
        return self._arrived.popleft()

    async def close(self) -> None:
        """Say goodbye and close; what was written before is sent, for `CLOSE_S`. Runs even when cancelled."""
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_S, shield=True):
            while not self.session.is_over and self._is_flushing:
                await self._drained.wait()
        self._give_up()
        with trio.CancelScope(shield=True):
            await self._close_carrier()
        await self._tell()

    def get_transport_addresses(self) -> list[Multiaddr]:
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.secured_conn.get_remote_address()

    def rtt(self) -> float:
        """Seconds of the last ping's round trip; 0 before the first."""
        return (self.round_trip or 0) / SECOND

    # Between session and carrier

    def pump(self) -> None:
        """Send what the session has to say, and act on what happened to its streams."""
        while not self._is_flushing and self.session.outbox:
            try:
                is_sent = self._carrier.send_now(self.session.data_to_send(SEND_BYTES))
            except Unavailable:
                self._give_up()
                return
            if not is_sent:
                self._is_flushing = True
                self._work.set()
            if self._crowded:
                self._offer_room()
        self._act(self.session.events())

    def wants_room(self, stream: MuxedStream) -> None:
        """Wake this stream's writer when the queues get shorter."""
        self._crowded.add(stream)

    async def _read(self) -> None:
        try:
            while True:
                pieces = await self._carrier.receive()
                if not pieces:
                    break
                now = _now()
                for piece in pieces:
                    events = self.session.receive(piece, now)
                    if events:
                        self._act(events)
                self.pump()
                if self.session.is_over:
                    break
        except RemoteViolation as violation:
            self.violation = violation
            log.info("%s: %s", violation.peer, violation.rule)
            self.session.leave(Reason.PROTOCOL)
        except BROKEN as error:
            log.debug("connection lost: %r", error)
        self._give_up()

    async def _write(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work = trio.Event()
                await self._carrier.flush()
                self._is_flushing = False
                self.pump()
                if not self._is_flushing:
                    self._drained.set()
                    self._drained = trio.Event()
        except BROKEN as error:
            log.debug("connection lost: %r", error)
        self._give_up()

    async def _keep_alive(self) -> None:
        try:
            while not self.session.is_over:
                await trio.sleep_until(self.session.pulse.next_tick / SECOND)
                self.session.tick(_now())
                self.pump()
        except ShoalError as error:
            log.info("%s: %s", self.peer_id, error.detail)
        self._give_up()

    def _act(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Readable(state):
                    stream = self._streams.get(state.id)
                    if stream is not None:
                        stream.wake_reader()
                case Writable(state):
                    stream = self._streams.get(state.id)
                    if stream is not None:
                        stream.wake_writer()
                case Opened(state):
                    stream = self._streams[state.id] = MuxedStream(self, state)
                    self._arrived.append(stream)
                    self._arrival.set()
                    self._arrival = trio.Event()
                case Gone(state):
                    self._forget(state.id)
                case Answered(round_trip):
                    self.round_trip = round_trip
                case Left():
                    self._give_up()

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.wake_reader()
            stream.wake_writer()
            self._crowded.discard(stream)
            if stream in self._arrived and not stream.state.buffered:
                self._arrived.remove(stream)  # Opened and reset at once: no task is started for it.
        self._free_place()

    def _free_place(self) -> None:
        self._place.set()
        self._place = trio.Event()

    def _offer_room(self) -> None:
        for stream in [stream for stream in self._crowded if self.session.outbox.has_room(stream.state)]:
            self._crowded.discard(stream)
            stream.wake_writer()

    def _give_up(self) -> None:
        """End the session, tell the peer if the carrier takes it now, wake everybody who waits."""
        if self.event_shutting_down.is_set():
            return
        self.session.leave()
        self.event_shutting_down.set()
        goodbye = self.session.data_to_send(SEND_BYTES)
        if goodbye and not self._is_flushing:
            try:
                self._carrier.send_now(goodbye)
            except Unavailable:
                log.debug("no goodbye: the key is used up")
        self._act(self.session.events())
        for event in (self._arrival, self._place, self._drained):
            event.set()

    async def _close_carrier(self) -> None:
        if self.event_closed.is_set():
            return
        self.event_closed.set()
        try:
            with trio.move_on_after(CLOSE_S):
                if not self._is_flushing:
                    await self._carrier.flush()
        except BROKEN as error:
            log.debug("no goodbye: %r", error)
        try:
            with trio.move_on_after(CLOSE_S):
                await self.secured_conn.close()
        except BROKEN as error:
            log.debug("closed already: %r", error)

    async def _tell(self) -> None:
        if not self._has_told:
            self._has_told = True
            if self.on_close is not None:
                await self.on_close()


def violation_of(connection: INetConn) -> RemoteViolation | None:
    """The rule that the peer broke on a connection of libp2p's network, if that is why it ended."""
    muxed = connection.muxed_conn
    return muxed.violation if isinstance(muxed, Connection) else None


def _now() -> Micros:
    return Micros(int(trio.current_time() * SECOND))
