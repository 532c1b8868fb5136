"""A session of yamux: many streams over one reliable, ordered connection. It does no I/O and knows no clock.

    events = session.receive(data, now)      what the peer sent; RemoteViolation when it broke a rule
    session.write(stream, view)              how much of it was taken
    session.read(stream, size)               what is there
    data = session.data_to_send(limit)       for the wire, empty when there is nothing
    events = session.tick(now)               at session.next_tick; Unavailable when the peer is gone

A peer that sends beyond the window breaks a rule; what it can make us hold is bounded by `yamux_limits`. Credit is given
back when half a window was read. Streams take turns, one frame each, and control frames go first. After a violation or
`leave` the session is over: `data_to_send` still says so to the peer. Spec: specs/18-multiplexer.md.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from protocol.errors import RemoteViolation, Unavailable
from protocol.overlay import yamux_limits as limits
from protocol.overlay.yamux_events import Answered, Event, Gone, Left, Opened, Readable, Writable
from protocol.overlay.yamux_frames import (
    CREDIT_MAX,
    FRAME_BYTES,
    HEADER,
    HEADER_BYTES,
    WIRE_VERSION,
    Flag,
    Kind,
    Reason,
    header,
)
from protocol.overlay.yamux_limits import Meter
from protocol.overlay.yamux_places import Places
from protocol.overlay.yamux_stream import Phase, Stream
from protocol.units import Micros, PeerId

_DATA: Final = int(Kind.DATA)
_CREDIT: Final = int(Kind.CREDIT)
_OPEN: Final = int(Flag.OPEN)
_ENDING: Final = int(Flag.FINISH | Flag.RESET)


class Session:
    """One end. `is_initiator` numbers its streams oddly."""

    def __init__(self, peer: PeerId, now: Micros, *, is_initiator: bool) -> None:
        self.is_over = False
        self.next_tick = Micros(now + limits.KEEPALIVE)
        self.places = Places(is_initiator=is_initiator)
        self._peer = peer
        self._control = bytearray()
        self._turns: deque[Stream] = deque()
        self._waiting = 0
        self._partial = bytearray()
        self._body_left = 0
        self._body: Stream | None = None
        self._body_flags = 0
        self._pings = Meter(limits.PINGS, now)
        self._resets = Meter(limits.RESETS, now)
        self._idle_frames = Meter(limits.IDLE_FRAMES, now)
        self._ping_number = 0
        self._ping_at: Micros | None = None
        self._heard_at = now

    # What we do

    def open(self) -> Stream:
        """A stream of ours. Unavailable when the session is over or `OUTBOUND_MAX` are open."""
        if self.is_over:
            raise Unavailable("the connection is over", code="connection_over")
        stream = self.places.open()
        self._control += header(Kind.CREDIT, Flag.OPEN, stream.id, 0)
        return stream

    def write(self, stream: Stream, data: memoryview) -> int:
        """Queue as much of `data` as credit and queues allow; the bytes must not change afterwards."""
        if stream.phase is not Phase.OPEN or stream.has_finished:
            return 0
        room = max(
            min(limits.QUEUE_BYTES_MAX - stream.waiting, limits.QUEUES_BYTES_MAX - self._waiting),
            0 if stream.waiting else limits.SMALL_BYTES,
        )
        size = min(len(data), stream.credit_out, room)
        if size <= 0:
            return 0
        if not stream.outbox:
            self._turns.append(stream)
        if size <= FRAME_BYTES:
            stream.outbox.append(data[:size])
        else:
            for at in range(0, size, FRAME_BYTES):
                stream.outbox.append(data[at : min(at + FRAME_BYTES, size)])
        stream.waiting += size
        stream.credit_out -= size
        self._waiting += size
        return size

    def read(self, stream: Stream, size: int) -> bytes:
        """At most `size` bytes that came; gives credit back at half a window. Works on ended streams as well."""
        data = stream.take(size)
        if 2 * stream.consumed >= stream.window and not stream.has_ended and stream.phase is not Phase.RESET:
            credit = stream.consumed + self.places.widen(stream)
            stream.consumed = 0
            stream.credit_in += credit
            self._control += header(Kind.CREDIT, 0, stream.id, credit)
        return data

    def finish(self, stream: Stream) -> list[Event]:
        """Nothing more is written; what was written arrives."""
        if stream.phase is not Phase.OPEN or stream.has_finished:
            return []
        stream.has_finished = True
        if stream.outbox:
            return []
        return self._send_finish(stream)

    def release(self, stream: Stream) -> list[Event]:
        """We are done with it: finish, and when the peer does not in time, others of its kind push it out."""
        events = self.finish(stream)
        if stream.phase is Phase.OPEN and not stream.outbox:
            oldest = self.places.linger(stream)
            if oldest is not None:
                events += self.reset(oldest)
        return events

    def reset(self, stream: Stream) -> list[Event]:
        """Give a stream up, both ways."""
        if stream.phase in (Phase.RESET, Phase.ENDED):
            return []
        self._control += header(Kind.CREDIT, Flag.RESET, stream.id, 0)
        return [self._end(stream, Phase.RESET)]

    def leave(self, reason: Reason = Reason.NORMAL) -> list[Event]:
        """End the session; every stream that is open is reset. What is queued is dropped."""
        if self.is_over:
            return []
        self.is_over = True
        events: list[Event] = [self._end(stream, Phase.RESET) for stream in self.places.open_streams()]
        self._turns.clear()
        self._control += header(Kind.LEAVE, 0, 0, reason)
        return events

    def data_to_send(self, limit: int) -> bytes:
        """Control frames, then about `limit` bytes of data, one frame of each stream in turn."""
        parts: list[bytes | memoryview] = []
        size = len(self._control)
        if size:
            parts.append(bytes(self._control))
            self._control.clear()
        turns = self._turns
        while turns and size < limit:
            stream = turns.popleft()
            piece = stream.outbox.popleft()
            length = len(piece)
            parts.append(HEADER.pack(WIRE_VERSION, _DATA, 0, stream.id, length))
            parts.append(piece)
            size += length
            stream.waiting -= length
            self._waiting -= length
            if stream.outbox:
                turns.append(stream)
            elif stream.has_finished:
                parts.append(header(Kind.CREDIT, Flag.FINISH, stream.id, 0))
                stream.has_sent_finish = True
                if stream.has_ended:
                    self._end(stream, Phase.ENDED)
        return b"".join(parts)

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` would give any."""
        return bool(self._control or self._turns)

    def has_room(self, stream: Stream) -> bool:
        """Whether `write` would take a byte."""
        if not stream.credit_out:
            return False
        return not stream.waiting or (stream.waiting < limits.QUEUE_BYTES_MAX and self._waiting < limits.QUEUES_BYTES_MAX)

    def tick(self, now: Micros) -> list[Event]:
        """Ping when it is time. Unavailable when the peer said nothing for `SILENCE` after a ping."""
        if now < self.next_tick or self.is_over:
            return []
        if self._ping_at is not None and self._heard_at < self._ping_at:
            raise Unavailable(f"no sign of life for {limits.SILENCE // 1_000_000} s after a ping", code="silent")
        if self._ping_at is not None and now < self._ping_at + limits.KEEPALIVE:
            self.next_tick = Micros(self._ping_at + limits.KEEPALIVE)
            return []
        self._ping_number = (self._ping_number + 1) % CREDIT_MAX
        self._ping_at = now
        self._control += header(Kind.PING, Flag.OPEN, 0, self._ping_number)
        self.next_tick = Micros(now + limits.SILENCE)
        return []

    # What the peer does

    def receive(self, data: bytes, now: Micros) -> list[Event]:
        """Events, in order. RemoteViolation when a rule was broken; then the session is over."""
        events: list[Event] = []
        if self.is_over:
            return events
        self._heard_at = now
        try:
            self._parse(data, now, events)
            if len(self._control) > limits.CONTROL_BYTES_MAX:
                raise self._broken("it does not read our answers", "mux_unread")
        except RemoteViolation:
            self.leave(Reason.PROTOCOL)
            raise
        return events

    def _parse(self, data: bytes, now: Micros, events: list[Event]) -> None:
        view = memoryview(data)
        at, end = 0, len(data)
        while at < end and not self.is_over:
            if self._body_left:
                at += self._take_body(view[at : at + self._body_left], end, events)
                continue
            if self._partial or end - at < HEADER_BYTES:
                missing = HEADER_BYTES - len(self._partial)
                self._partial += view[at : at + missing]
                at += missing
                if len(self._partial) < HEADER_BYTES:
                    return
                fields = HEADER.unpack(self._partial)
                self._partial.clear()
            else:
                fields = HEADER.unpack_from(data, at)
                at += HEADER_BYTES
            version, kind, flags, number, value = fields
            if version != WIRE_VERSION:
                raise self._broken(f"yamux version {version}", "mux_version")
            if kind == _DATA or kind == _CREDIT:
                self._on_stream(kind, flags, number, value, now, events)
            else:
                self._on_session(kind, flags, value, now, events)

    def _on_stream(self, kind: int, flags: int, number: int, value: int, now: Micros, events: list[Event]) -> None:
        stream = self.places.find(number)
        if flags & _OPEN:
            stream = self._accept(number, stream, now, events)
        if kind == _CREDIT:
            self._on_credit(stream, flags, number, value, now, events)
            return
        if not value and not flags:
            self._count_idle(now)
        if stream is None:
            self._on_late_data(number, value, now)
        elif value > stream.credit_in or (value and stream.has_ended):
            raise self._broken(f"{value} bytes on a stream with a window of {stream.credit_in}", "mux_window")
        if value:
            self._body, self._body_left, self._body_flags = stream, value, flags
        elif stream is not None:
            self._on_flags(stream, flags, now, events)

    def _on_credit(
        self, stream: Stream | None, flags: int, number: int, value: int, now: Micros, events: list[Event]
    ) -> None:
        if stream is None:
            if not self.places.was_known(number):
                raise self._broken(f"a frame for stream {number}, which was never opened", "mux_unknown_stream")
            self._count_idle(now)
            return
        if value:
            stream.credit_out += value
            if stream.credit_out > CREDIT_MAX:
                raise self._broken(f"credit of {stream.credit_out} bytes", "mux_credit")
            events.append(Writable(stream))
        elif not flags:
            self._count_idle(now)
        if flags & _ENDING:
            self._on_flags(stream, flags, now, events)

    def _take_body(self, piece: memoryview, whole: int, events: list[Event]) -> int:
        size = len(piece)
        self._body_left -= size
        stream = self._body
        if stream is None:
            return size
        if stream.phase is Phase.RESET:
            self.places.spend(stream.id, size)
        elif stream.phase is Phase.LINGERING:
            stream.credit_in -= size
        else:
            stream.put(piece, whole)
            events.append(Readable(stream))
        if not self._body_left:
            self._body = None
            if self._body_flags & _ENDING:
                self._on_flags(stream, self._body_flags, self._heard_at, events)
        return size

    def _accept(self, number: int, known: Stream | None, now: Micros, events: list[Event]) -> Stream | None:
        if known is not None or not self.places.may_be_opened(number):
            raise self._broken(f"it opens stream {number}, which is not its to open", "mux_stream_number")
        stream = self.places.accept(number)
        if stream is None:
            if not self._resets.take(now):
                raise self._broken("it opens too many streams", "mux_flood")
            self._control += header(Kind.CREDIT, Flag.RESET, number, 0)
            return None
        self._control += header(Kind.CREDIT, Flag.ACCEPT, number, 0)
        events.append(Opened(stream))
        return stream

    def _on_flags(self, stream: Stream, flags: int, now: Micros, events: list[Event]) -> None:
        if stream.phase in (Phase.RESET, Phase.ENDED):
            return
        if flags & Flag.RESET:
            if not stream.is_ours and not self._resets.take(now):
                raise self._broken("it resets too many streams", "mux_flood")
            events.append(self._end(stream, Phase.RESET))
        elif flags & Flag.FINISH:
            stream.has_ended = True
            events.append(Readable(stream))
            if stream.has_sent_finish:
                events.append(self._end(stream, Phase.ENDED))

    def _on_late_data(self, number: int, size: int, now: Micros) -> None:
        """Data for a stream that ended: on its way when we reset it, and within the window it had."""
        self._count_idle(now)
        if not self.places.was_known(number):
            raise self._broken(f"data for stream {number}, which was never opened", "mux_unknown_stream")
        if not self.places.spend(number, size):
            raise self._broken(f"data for stream {number}, which ended", "mux_ended_stream")

    def _on_session(self, kind: int, flags: int, value: int, now: Micros, events: list[Event]) -> None:
        if kind == Kind.PING and flags & _OPEN:
            if not self._pings.take(now):
                raise self._broken("too many pings", "mux_flood")
            self._control += header(Kind.PING, Flag.ACCEPT, 0, value)
        elif kind == Kind.PING:
            self._count_idle(now)
            if self._ping_at is not None and value == self._ping_number:
                events.append(Answered(Micros(now - self._ping_at)))
                self.next_tick = Micros(self._ping_at + limits.KEEPALIVE)
                self._ping_at = None
        elif kind == Kind.LEAVE:
            self.is_over = True
            events += [self._end(stream, Phase.RESET) for stream in self.places.open_streams()]
            self._turns.clear()
            events.append(Left(value))
        else:
            raise self._broken(f"frame of type {kind}", "mux_kind")

    # Bookkeeping

    def _send_finish(self, stream: Stream) -> list[Event]:
        self._control += header(Kind.CREDIT, Flag.FINISH, stream.id, 0)
        stream.has_sent_finish = True
        return [self._end(stream, Phase.ENDED)] if stream.has_ended else []

    def _end(self, stream: Stream, phase: Phase) -> Event:
        if stream.outbox:
            self._waiting -= stream.waiting
            self._turns.remove(stream)
        if phase is Phase.RESET:
            keep = stream.has_ended or self.is_over
            stream.outbox.clear()
            stream.waiting = 0
            if not keep:
                stream.drop()
        stream.phase = phase
        self.places.free(stream)
        return Gone(stream)

    def _count_idle(self, now: Micros) -> None:
        if not self._idle_frames.take(now):
            raise self._broken("too many frames that do nothing", "mux_flood")

    def _broken(self, rule: str, code: str) -> RemoteViolation:
        return RemoteViolation(self._peer, rule, code=code)
