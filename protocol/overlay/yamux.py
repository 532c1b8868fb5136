"""A session of yamux: many streams over one reliable, ordered connection. It does no I/O and knows no clock.

    events = session.receive(data, now)      what the peer sent; RemoteViolation when it broke a rule
    taken = session.write(stream, view)      how much of it there was room for
    data = session.read(stream, size)        what is there
    data = session.data_to_send(limit)       for the wire, empty when there is nothing
    session.tick(now)                        at session.next_tick; Unavailable when the peer is gone
    events = session.events()                what the other calls brought about

A peer that sends beyond a window breaks a rule, and `yamux_limits` bounds what it can make us hold. Credit is given
back when half a window was read. After a violation or `leave` the session is over: what `data_to_send` then gives tells
the peer why. Spec: specs/18-multiplexer.md.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import RemoteViolation, Unavailable
from protocol.overlay.yamux_conduct import Conduct
from protocol.overlay.yamux_events import Answered, Event, Gone, Left, Opened, Readable, Writable
from protocol.overlay.yamux_frames import CREDIT_MAX, HEADER, HEADER_BYTES, WIRE_VERSION, Flag, Kind, Reason
from protocol.overlay.yamux_outbox import Outbox
from protocol.overlay.yamux_places import Places
from protocol.overlay.yamux_pulse import Pulse
from protocol.overlay.yamux_stream import Phase, Stream
from protocol.units import Micros, PeerId

_DATA: Final = int(Kind.DATA)
_CREDIT: Final = int(Kind.CREDIT)
_OPEN: Final = int(Flag.OPEN)
_ENDING: Final = int(Flag.FINISH | Flag.RESET)


class Session:
    """One end of a connection; the initiator's streams have odd numbers."""

    def __init__(self, peer: PeerId, now: Micros, *, is_initiator: bool) -> None:
        self.is_over = False
        self.places = Places(is_initiator=is_initiator)
        self.outbox = Outbox()
        self.pulse = Pulse(now)
        self._conduct = Conduct(peer, now)
        self._events: list[Event] = []
        self._partial = bytearray()
        self._body: Stream | None = None
        self._body_left = 0
        self._body_flags = 0

    def open(self) -> Stream:
        """A stream of ours. Unavailable when the session is over or `OUTBOUND_MAX` are open."""
        if self.is_over:
            raise Unavailable("the connection is over", code="connection_over")
        stream = self.places.open()
        self.outbox.say(Kind.CREDIT, Flag.OPEN, stream.id, 0)
        return stream

    def write(self, stream: Stream, data: memoryview) -> int:
        """Queue as much of `data` as credit and queues allow; the bytes must not change afterwards."""
        if stream.phase is not Phase.OPEN or stream.has_finished:
            return 0
        return self.outbox.add(stream, data)

    def read(self, stream: Stream, size: int) -> bytes:
        """At most `size` bytes that came; gives credit back at half a window. Works when the stream ended as well."""
        data = stream.take(size)
        if stream.phase is Phase.OPEN:
            if stream.has_ended:
                self._settle(stream)
            elif 2 * stream.consumed >= stream.window:
                credit = stream.consumed + self.places.widen(stream)
                stream.consumed = 0
                stream.credit_in += credit
                self.outbox.say(Kind.CREDIT, 0, stream.id, credit)
        return data

    def finish(self, stream: Stream) -> None:
        """Nothing more is written; what was written arrives."""
        if stream.phase is not Phase.OPEN or stream.has_finished:
            return
        stream.has_finished = True
        if not stream.outbox:
            self.outbox.say(Kind.CREDIT, Flag.FINISH, stream.id, 0)
            stream.has_sent_finish = True
            self._settle(stream)

    def release(self, stream: Stream) -> None:
        """We are done with it. When the peer never finishes, streams that are released later push it out."""
        self.finish(stream)
        if stream.phase is not Phase.OPEN:
            return
        stream.is_released = True
        self._settle(stream)
        oldest = self.places.linger(stream)
        if oldest is not None:
            self.reset(oldest)

    def reset(self, stream: Stream) -> None:
        """Give a stream up, both ways."""
        if stream.phase is Phase.OPEN:
            self.outbox.say(Kind.CREDIT, Flag.RESET, stream.id, 0)
            self._end(stream, Phase.RESET)

    def leave(self, reason: Reason = Reason.NORMAL) -> None:
        """End the session. Every stream is reset, what is queued is dropped, what came can be read."""
        if not self.is_over:
            self._close()
            self.outbox.say(Kind.LEAVE, 0, 0, reason)

    def ping(self, now: Micros) -> None:
        """Ask for a sign of life."""
        if not self.is_over:
            self.outbox.say(Kind.PING, Flag.OPEN, 0, self.pulse.ask(now))

    def tick(self, now: Micros) -> None:
        """Ping when it is time. Unavailable when the peer said nothing for `SILENCE` after a ping."""
        number = None if self.is_over else self.pulse.tick(now)
        if number is not None:
            self.outbox.say(Kind.PING, Flag.OPEN, 0, number)

    def data_to_send(self, limit: int) -> bytes:
        """Control frames, then about `limit` bytes of data, one frame of each stream in turn."""
        data, done = self.outbox.gather(limit)
        for stream in done:
            stream.has_sent_finish = True
            self._settle(stream)
        return data

    def events(self) -> list[Event]:
        """What happened since this was last asked."""
        events, self._events = self._events, []
        return events

    def receive(self, data: bytes, now: Micros) -> list[Event]:
        """Events, in order. RemoteViolation when a rule was broken; then the session is over."""
        if not self.is_over:
            self.pulse.heard_at = now
            try:
                self._parse(data, now)
                self._conduct.unread(len(self.outbox.control))
            except RemoteViolation:
                self.leave(Reason.PROTOCOL)
                raise
        return self.events()

    def _parse(self, data: bytes, now: Micros) -> None:
        view = memoryview(data)
        at, end = 0, len(data)
        while at < end and not self.is_over:
            if self._body_left:
                at += self._take_body(view[at : at + self._body_left], end, now)
                continue
            if self._partial or end - at < HEADER_BYTES:
                piece = view[at : at + HEADER_BYTES - len(self._partial)]
                self._partial += piece
                at += len(piece)
                if len(self._partial) < HEADER_BYTES:
                    return
                version, kind, flags, number, value = HEADER.unpack(self._partial)
                self._partial.clear()
            else:
                version, kind, flags, number, value = HEADER.unpack_from(data, at)
                at += HEADER_BYTES
            if version != WIRE_VERSION:
                raise self._conduct.broken(f"yamux version {version}", "mux_version")
            if kind == _DATA:
                self._on_data(flags, number, value, now)
            elif kind == _CREDIT:
                self._on_credit(flags, number, value, now)
            else:
                self._on_session(kind, flags, value, now)

    def _on_data(self, flags: int, number: int, size: int, now: Micros) -> None:
        stream = self._accept(number, now) if flags & _OPEN else self.places.find(number)
        if stream is None:
            self._check_late(number, size)
        elif size > stream.credit_in or (size and stream.has_ended):
            raise self._conduct.broken(f"{size} bytes on a stream with a window of {stream.credit_in}", "mux_window")
        if not size and (stream is None or not flags):
            self._conduct.idle(now)
        if size:
            self._body, self._body_left, self._body_flags = stream, size, flags
        elif stream is not None and flags & _ENDING:
            self._on_ending(stream, flags, now)

    def _take_body(self, piece: memoryview, whole: int, now: Micros) -> int:
        size = len(piece)
        self._body_left -= size
        stream = self._body
        if stream is None:
            return size
        if stream.phase is Phase.OPEN:
            stream.put(piece, whole)
            self._events.append(Readable(stream))
        else:
            self.places.spend(stream.id, size)
        if not self._body_left:
            self._body = None
            if self._body_flags & _ENDING:
                self._on_ending(stream, self._body_flags, now)
        return size

    def _on_credit(self, flags: int, number: int, size: int, now: Micros) -> None:
        stream = self._accept(number, now) if flags & _OPEN else self.places.find(number)
        if stream is None:
            self._check_late(number, 0)
            self._conduct.idle(now)
            return
        if size:
            stream.credit_out += size
            if stream.credit_out > CREDIT_MAX:
                raise self._conduct.broken(f"credit of {stream.credit_out} bytes", "mux_credit")
            self._events.append(Writable(stream))
        elif not flags:
            self._conduct.idle(now)
        if flags & _ENDING:
            self._on_ending(stream, flags, now)

    def _accept(self, number: int, now: Micros) -> Stream | None:
        if self.places.find(number) is not None or not self.places.may_be_opened(number):
            raise self._conduct.broken(f"it opens stream {number}, which is not its to open", "mux_stream_number")
        stream = self.places.accept(number)
        if stream is not None:
            self.outbox.say(Kind.CREDIT, Flag.ACCEPT, number, 0)
            self._events.append(Opened(stream))
            return stream
        self._conduct.reset(now)
        self.outbox.say(Kind.CREDIT, Flag.RESET, number, 0)
        return None

    def _on_ending(self, stream: Stream, flags: int, now: Micros) -> None:
        if stream.phase is not Phase.OPEN:
            return
        if flags & Flag.RESET:
            if not stream.is_ours:
                self._conduct.reset(now)
            self._end(stream, Phase.RESET)
        elif not stream.has_ended:
            stream.has_ended = True
            self._events.append(Readable(stream))
            self._settle(stream)
        else:
            self._conduct.idle(now)

    def _on_session(self, kind: int, flags: int, value: int, now: Micros) -> None:
        if kind == Kind.PING and flags & _OPEN:
            self._conduct.ping(now)
            self.outbox.say(Kind.PING, Flag.ACCEPT, 0, value)
        elif kind == Kind.PING:
            self._conduct.idle(now)
            round_trip = self.pulse.answered(value, now)
            if round_trip is not None:
                self._events.append(Answered(round_trip))
        elif kind == Kind.LEAVE:
            self._close()
            self._events.append(Left(value))
        else:
            raise self._conduct.broken(f"frame of type {kind}", "mux_kind")

    def _check_late(self, number: int, size: int) -> None:
        """A frame for a stream that is not open: it ended, and the frame was on its way, within the window it had."""
        if not self.places.was_known(number):
            raise self._conduct.broken(f"a frame for stream {number}, which was never opened", "mux_unknown_stream")
        if size and not self.places.spend(number, size):
            raise self._conduct.broken(f"{size} bytes for stream {number}, which ended", "mux_ended_stream")

    def _settle(self, stream: Stream) -> None:
        """Both halves are finished: the place is free once what came was read, or nobody wants it."""
        if stream.has_ended and stream.has_sent_finish and (stream.is_released or not stream.buffered):
            self._end(stream, Phase.ENDED)

    def _end(self, stream: Stream, phase: Phase) -> None:
        if stream.phase is not Phase.OPEN:
            return
        self.outbox.drop(stream)
        stream.phase = phase
        if phase is Phase.RESET and not stream.has_ended and not self.is_over:
            stream.drop()
        self.places.free(stream)
        self._events.append(Gone(stream))

    def _close(self) -> None:
        self.is_over = True
        for stream in self.places.open_streams():
            self._end(stream, Phase.RESET)
