"""Records over a channel, in a worker thread: messages and bulk bytes, sealed and opened in buffers used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct, msgpack

from node.bulk.channel import Channel
from protocol import wire
from protocol.bulk.handshake import Met
from protocol.bulk.records import (
    CONTROL,
    CONTROL_BYTES_MAX,
    DATA,
    HEADER_BYTES,
    TAG_BYTES,
    Header,
    Kind,
    Opener,
    Sealer,
)
from protocol.errors import RemoteViolation, Unavailable

T = TypeVar("T")
AROUND: Final = HEADER_BYTES + TAG_BYTES


class Link:
    """One authenticated connection. Used by one thread at a time."""

    def __init__(self, channel: Channel, met: Met, scope: frozenset[bytes] = frozenset()) -> None:
        self.channel = channel
        self.met = met
        self.scope = scope or met.ticket.digests
        """Blobs that may be asked for on it."""
        self._sealer = Sealer(met.cipher, met.key_out)
        self._opener = Opener(met.cipher, met.key_in)
        self._out = memoryview(bytearray(AROUND + CONTROL_BYTES_MAX))
        self._in = memoryview(bytearray(AROUND + CONTROL_BYTES_MAX))

    def say(self, message: Struct, is_last: bool = False) -> None:
        """Send one message."""
        body = wire.encode(message)
        self._out[HEADER_BYTES : HEADER_BYTES + len(body)] = body
        self._send(len(body), CONTROL, is_last)

    def hear(self, using: msgpack.Decoder[T]) -> T:
        """The next message. RemoteViolation when it is none of those expected; Unavailable when nothing comes."""
        header = self._header()
        if header.kind != CONTROL:
            raise self._unexpected("bulk bytes instead of a message")
        return wire.decode(bytes(self._body(header.size, None)), using, self.met.peer, CONTROL_BYTES_MAX)

    def send_data(self, size: int, fill: Callable[[memoryview], int]) -> None:
        """Send `size` bytes, at most `channel.record_bytes`, that `fill` writes into the record's own buffer."""
        self._out = _grown(self._out, AROUND + size)
        if fill(self._out[HEADER_BYTES : HEADER_BYTES + size]) != size:
            raise Unavailable("the file became shorter while it was read", code="no_blob")
        self._send(size, DATA, False)

    def receive_data(self, into: memoryview, using: msgpack.Decoder[T]) -> T | None:
        """Fill `into` with data records. A message instead, before the first one, is returned; else None."""
        taken = 0
        while taken < len(into):
            header = self._header()
            if header.kind == CONTROL and taken == 0:
                return wire.decode(bytes(self._body(header.size, None)), using, self.met.peer, CONTROL_BYTES_MAX)
            if header.kind != DATA or not 0 < header.size <= len(into) - taken:
                raise self._unexpected(f"a record of {header.size} bytes where {len(into) - taken} are missing")
            self._body(header.size, into[taken : taken + header.size])
            taken += header.size
        return None

    def _send(self, size: int, kind: Kind, is_last: bool) -> None:
        self.channel.send(self._out[: self._sealer.seal(self._out, size, kind, is_last)])

    def _header(self) -> Header:
        self.channel.receive(self._in[:HEADER_BYTES])
        return self._opener.announced(self._in[:HEADER_BYTES])

    def _body(self, size: int, into: memoryview | None) -> memoryview:
        """Receive and open the body that was announced."""
        if len(self._in) < AROUND + size:
            header = bytes(self._in[:HEADER_BYTES])
            self._in = _grown(self._in, AROUND + size)
            self._in[:HEADER_BYTES] = header
        body = self._in[HEADER_BYTES : AROUND + size]
        self.channel.receive(body)
        target = body[:size] if into is None else into
        self._opener.open(self._in[:HEADER_BYTES], body, target)
        return target

    def _unexpected(self, what: str) -> RemoteViolation:
        return RemoteViolation(self.met.peer, what, code="bulk_order")


def _grown(buffer: memoryview, size: int) -> memoryview:
    """A buffer of at least `size` bytes: this one, or a new one."""
    return buffer if len(buffer) >= size else memoryview(bytearray(size))
