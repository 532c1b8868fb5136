"""Who has a place on a connection: the open streams by number, the ones that linger, and the ones that ended lately."""

from __future__ import annotations

from protocol.errors import Unavailable
from protocol.overlay import yamux_limits as limits
from protocol.overlay.yamux_stream import Phase, Stream


class Places:
    """The streams of one session. Numbers of the initiator are odd."""

    def __init__(self, *, is_initiator: bool) -> None:
        self.inbound = 0
        self.outbound = 0
        self.grown = 0
        """Bytes by which all windows together are wider than at the start."""
        self._next = 1 if is_initiator else 2
        self._theirs = 0 if is_initiator else 1
        self._highest = 0
        self._streams: dict[int, Stream] = {}
        self._lingering: dict[int, Stream] = {}
        self._ended: dict[int, int] = {}
        """What the peer may still send on a stream that ended, oldest first."""

    def open(self) -> Stream:
        """A stream of ours. Unavailable when there is no place, or no number."""
        if self.is_full:
            raise Unavailable(f"{limits.OUTBOUND_MAX} streams to this peer are open", code="streams_full")
        if self._next > 0xFFFF_FFFF:
            raise Unavailable("this connection has no numbers left for streams", code="streams_used_up")
        stream = self._streams[self._next] = Stream(self._next, is_ours=True)
        self._next += 2
        self.outbound += 1
        return stream

    @property
    def is_full(self) -> bool:
        """Whether we must wait for a place."""
        return self.outbound >= limits.OUTBOUND_MAX

    def may_be_opened(self, number: int) -> bool:
        """Whether the peer may open this one: its own kind of number, and not in use lately."""
        return number > 0 and number % 2 == self._theirs and number not in self._ended

    def accept(self, number: int) -> Stream | None:
        """A stream of the peer; None when it has no place left."""
        self._highest = max(self._highest, number)
        if self.inbound >= limits.INBOUND_MAX:
            self._remember(number, limits.WINDOW_START_BYTES)
            return None
        stream = self._streams[number] = Stream(number, is_ours=False)
        self.inbound += 1
        return stream

    def find(self, number: int) -> Stream | None:
        """An open stream."""
        return self._streams.get(number)

    def was_known(self, number: int) -> bool:
        """Whether it was open once."""
        return 0 < number <= self._highest if number % 2 == self._theirs else 0 < number < self._next

    def spend(self, number: int, size: int) -> bool:
        """Late data of a stream that ended; False when that is more than was on its way."""
        left = self._ended.get(number, 0) - size
        if left < 0:
            return False
        self._ended[number] = left
        return True

    def linger(self, stream: Stream) -> Stream | None:
        """We are done with a stream, the peer is not; the one that lingers longest, when they are too many."""
        if stream.id in self._lingering or stream.id not in self._streams:
            return None
        self._lingering[stream.id] = stream
        self._give_back(stream)
        return next(iter(self._lingering.values())) if len(self._lingering) > limits.LINGERING_MAX else None

    def free(self, stream: Stream) -> None:
        """A stream ended."""
        if self._streams.pop(stream.id, None) is None:
            return
        if self._lingering.pop(stream.id, None) is None:
            self._give_back(stream)
        self.grown -= stream.window - limits.WINDOW_START_BYTES
        self._remember(stream.id, stream.credit_in if stream.phase is Phase.RESET else 0)

    def is_lingering(self, stream: Stream) -> bool:
        """Whether it counts no more as one of ours or theirs."""
        return stream.id in self._lingering

    def widen(self, stream: Stream) -> int:
        """The bytes by which a window grows now: doubled while its reader keeps up and the pool has them."""
        if 2 * stream.buffered >= stream.window:
            return 0
        size = min(stream.window, limits.WINDOW_MAX_BYTES - stream.window, limits.GROWTH_BYTES_MAX - self.grown)
        self.grown += size
        stream.window += size
        return size

    def open_streams(self) -> list[Stream]:
        """All of them, now."""
        return list(self._streams.values())

    @property
    def buffered(self) -> int:
        """Bytes that came and were not read, of all open streams."""
        return sum(stream.buffered for stream in self._streams.values())

    def _give_back(self, stream: Stream) -> None:
        if stream.is_ours:
            self.outbound -= 1
        else:
            self.inbound -= 1

    def _remember(self, number: int, credit: int) -> None:
        self._ended[number] = credit
        if len(self._ended) > limits.FORGOTTEN_MAX:
            del self._ended[next(iter(self._ended))]
