"""What waits to be sent on a connection: control frames first, then one frame of each stream in turn."""

from __future__ import annotations

from collections import deque

from protocol.overlay import yamux_limits as limits
from protocol.overlay.yamux_frames import FRAME_BYTES, HEADER, WIRE_VERSION, Flag, Kind, header
from protocol.overlay.yamux_stream import Stream


class Outbox:
    """The queues of one session."""

    def __init__(self) -> None:
        self.control = bytearray()
        self.waiting = 0
        """Bytes of data in all queues."""
        self._turns: deque[Stream] = deque()

    def __bool__(self) -> bool:
        return bool(self.control or self._turns)

    def say(self, kind: Kind, flags: int, stream: int, value: int) -> None:
        """Queue a control frame."""
        self.control += header(kind, flags, stream, value)

    def add(self, stream: Stream, data: memoryview) -> int:
        """Queue what credit and room allow of the data; how much that is."""
        room = max(
            min(limits.QUEUE_BYTES_MAX - stream.waiting, limits.QUEUES_BYTES_MAX - self.waiting),
            0 if stream.waiting else limits.SMALL_BYTES,
        )
        size = min(len(data), stream.credit_out, room)
        if size <= 0:
            return 0
        if not stream.outbox:
            self._turns.append(stream)
        for at in range(0, size, FRAME_BYTES):
            stream.outbox.append(data[at : min(at + FRAME_BYTES, size)])
        stream.waiting += size
        stream.credit_out -= size
        self.waiting += size
        return size

    def has_room(self, stream: Stream) -> bool:
        """Whether `add` would take a byte."""
        if not stream.credit_out:
            return False
        if not stream.waiting:
            return True
        return stream.waiting < limits.QUEUE_BYTES_MAX and self.waiting < limits.QUEUES_BYTES_MAX

    def drop(self, stream: Stream) -> None:
        """Forget what waits of a stream."""
        if stream.outbox:
            self.waiting -= stream.waiting
            self._turns.remove(stream)
            stream.outbox.clear()
            stream.waiting = 0

    def gather(self, limit: int) -> tuple[bytes, list[Stream]]:
        """About `limit` bytes for the wire, and the streams whose last byte is among them."""
        parts: list[bytes | memoryview] = []
        done: list[Stream] = []
        size = len(self.control)
        if size:
            parts.append(bytes(self.control))
            self.control.clear()
        turns = self._turns
        while turns and size < limit:
            stream = turns.popleft()
            piece = stream.outbox.popleft()
            length = len(piece)
            parts.append(HEADER.pack(WIRE_VERSION, Kind.DATA, 0, stream.id, length))
            parts.append(piece)
            size += length
            stream.waiting -= length
            self.waiting -= length
            if stream.outbox:
                turns.append(stream)
            elif stream.has_finished:
                parts.append(header(Kind.CREDIT, Flag.FINISH, stream.id, 0))
                done.append(stream)
        return b"".join(parts), done
