"""What a router remembers about statements: which it has seen, and which it can still hand out."""

from __future__ import annotations

from collections import OrderedDict, deque

from protocol.gossip.rpc import Envelope
from protocol.units import Micros


class Seen:
    """Identifiers for `life` µs, at most `size_max`: the oldest go first."""

    __slots__ = ("_at", "_life", "_size_max")

    def __init__(self, life: Micros, size_max: int) -> None:
        self._life = life
        self._size_max = size_max
        self._at: OrderedDict[bytes, Micros] = OrderedDict()

    def __contains__(self, name: bytes) -> bool:
        return name in self._at

    def __len__(self) -> int:
        return len(self._at)

    def add(self, name: bytes, now: Micros) -> bool:
        """Remember it; False when it was known."""
        if name in self._at:
            return False
        self._at[name] = now
        if len(self._at) > self._size_max:
            self._at.popitem(last=False)
        return True

    def forget(self, name: bytes) -> None:
        """As if it had never come: nobody could say whether it is right."""
        self._at.pop(name, None)

    def age(self, name: bytes, now: Micros) -> Micros:
        """µs since it came first; of one that is not known, as if it had come a life ago."""
        return Micros(now - self._at.get(name, now - self._life))

    def expire(self, now: Micros) -> None:
        """Forget what is too old."""
        at, limit = self._at, now - self._life
        while at and next(iter(at.values())) <= limit:
            at.popitem(last=False)


class History:
    """Statements of the last `beats` heartbeats by identifier, and who asked for them how often."""

    __slots__ = ("_asked", "_bytes", "_bytes_max", "_messages", "_slots")

    def __init__(self, beats: int, bytes_max: int) -> None:
        self._messages: dict[bytes, Envelope] = {}
        self._slots: deque[list[bytes]] = deque([[] for _ in range(beats)], maxlen=beats)
        """Identifiers by heartbeat, newest first."""
        self._asked: dict[bytes, dict[object, int]] = {}
        self._bytes = 0
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, name: bytes, envelope: Envelope) -> None:
        """Keep a statement; when all together are too large, the oldest heartbeat is given up first."""
        if name in self._messages:
            return
        self._messages[name] = envelope
        self._slots[0].append(name)
        self._bytes += len(envelope.data)
        for slot in reversed(self._slots):
            while self._bytes > self._bytes_max and slot:
                self._drop(slot.pop(0))

    def get(self, name: bytes) -> Envelope | None:
        """A statement that is still here."""
        return self._messages.get(name)

    def ask(self, name: bytes, peer: object, repeats_max: int) -> Envelope | None:
        """A statement for somebody who wants it, unless he had it so often."""
        envelope = self._messages.get(name)
        if envelope is None:
            return None
        asked = self._asked.setdefault(name, {})
        asked[peer] = asked.get(peer, 0) + 1
        return envelope if asked[peer] <= repeats_max else None

    def window(self, topic: str, beats: int) -> list[bytes]:
        """Identifiers of a topic from the newest heartbeats."""
        slots = list(self._slots)[:beats]
        return [name for slot in slots for name in slot if self._messages[name].topic == topic]

    def shift(self) -> None:
        """A heartbeat has passed: the oldest is forgotten."""
        for name in self._slots[-1]:
            self._drop(name)
        self._slots.appendleft([])

    def _drop(self, name: bytes) -> None:
        envelope = self._messages.pop(name)
        self._bytes -= len(envelope.data)
        self._asked.pop(name, None)
