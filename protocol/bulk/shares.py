"""Fair shares of one direction of the link: a rate cap for the node, one for each job, and weights between jobs.

Sans-IO deficit round robin over two levels of token buckets: those who want to move bytes queue here and are let go in
an order and at a pace that keeps every promise. Spec: specs/19-bulk.md.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import LocalError
from protocol.units import KIB, SECOND, Micros

BURST_US: Final = Micros(100_000)
"""A bucket holds what its rate gives in this time, µs: short enough for a cap that is felt as one."""

QUANTUM_BYTES: Final = 64 * KIB
"""What one round gives to a job of weight 1."""

WEIGHT_MAX: Final = 1_000
"""Shares of one job."""

SAVED_MAX: Final = 1_024
"""Jobs whose unused part of a round is remembered while they have nothing queued."""


class TokenBucket:
    """Bytes that may move now. May go into debt by one piece, so that large pieces pass through small buckets."""

    def __init__(self, rate: int, now: Micros) -> None:
        if rate <= 0:
            raise LocalError(f"a rate is positive, not {rate} bytes per second", code="bad_rate")
        self.rate = rate
        """Bytes per second."""
        self._level = rate * BURST_US
        """Bytes times microseconds, so that integers are exact."""
        self._filled = now

    def is_open(self, now: Micros) -> bool:
        """Whether a piece may go now."""
        self._fill(now)
        return self._level > 0

    def take(self, size: int, now: Micros) -> None:
        """A piece of `size` bytes goes."""
        self._fill(now)
        self._level -= size * SECOND

    def opens(self, now: Micros) -> Micros:
        """When a piece may go: now, or later."""
        self._fill(now)
        return now if self._level > 0 else Micros(now - self._level // self.rate + 1)

    def _fill(self, now: Micros) -> None:
        if now > self._filled:
            most = self.rate * BURST_US
            self._level = min(most, self._level + self.rate * (now - self._filled))
            self._filled = now


@dataclass(slots=True)
class _Flow:
    """One job in one direction."""

    weight: int
    bucket: TokenBucket | None
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    """(number, bytes) of pieces that wait."""
    deficit: int = 0


class FairShares:
    """Lets pieces of several jobs go. With no cap at all, everything goes at once: the link itself is the cap then."""

    def __init__(self, rate: int | None, now: Micros) -> None:
        self._bucket = None if rate is None else TokenBucket(rate, now)
        self._flows: OrderedDict[bytes, _Flow] = OrderedDict()
        """Jobs in the order of their turns; the first one is served."""
        self._settings: dict[bytes, tuple[int, TokenBucket | None]] = {}
        self._saved: dict[bytes, int] = {}
        """What jobs that have nothing queued at the moment had saved; the oldest is forgotten first."""
        self._numbers = 0

    def set_job(self, job: bytes, weight: int, rate: int | None, now: Micros) -> None:
        """A job's weight and its own cap in bytes per second; without this it has weight 1 and no cap."""
        if not 1 <= weight <= WEIGHT_MAX:
            raise LocalError(f"a weight is between 1 and {WEIGHT_MAX}, not {weight}", code="bad_weight")
        self._settings[job] = (weight, None if rate is None else TokenBucket(rate, now))
        if job in self._flows:
            self._flows[job].weight, self._flows[job].bucket = self._settings[job]

    def forget_job(self, job: bytes) -> None:
        """A job is over."""
        self._settings.pop(job, None)

    def submit(self, job: bytes, size: int) -> int:
        """A piece of `size` bytes wants to go; its number comes out of `tick` when it may."""
        if job not in self._flows:
            self._flows[job] = _Flow(*self._settings.get(job, (1, None)), deficit=self._saved.pop(job, 0))
        self._numbers += 1
        self._flows[job].queue.append((self._numbers, size))
        return self._numbers

    def numbers(self) -> list[int]:
        """All pieces that wait."""
        return [number for flow in self._flows.values() for number, _ in flow.queue]

    def withdraw(self, number: int) -> None:
        """A piece does not want to go any more."""
        for job, flow in list(self._flows.items()):
            flow.queue = deque(piece for piece in flow.queue if piece[0] != number)
            if not flow.queue:
                del self._flows[job]

    def tick(self, now: Micros) -> list[int]:
        """The numbers of all pieces that may go now, in their order."""
        gone: list[int] = []
        while self._flows and (self._bucket is None or self._bucket.is_open(now)):
            number = self._serve(now)
            if number is None:
                break
            gone.append(number)
        return gone

    def wake(self, now: Micros) -> Micros | None:
        """When `tick` is due again; None while nobody waits."""
        if not self._flows:
            return None
        own = [now if flow.bucket is None else flow.bucket.opens(now) for flow in self._flows.values()]
        return Micros(max(min(own), now if self._bucket is None else self._bucket.opens(now)))

    def _serve(self, now: Micros) -> int | None:
        """Let one piece go, of the job whose turn it is; None when every job waits for its own cap."""
        for _ in range(len(self._flows)):
            job, flow = next(iter(self._flows.items()))
            if flow.bucket is None or flow.bucket.is_open(now):
                return self._let_go(job, flow, now)
            self._flows.move_to_end(job)
        return None

    def _let_go(self, job: bytes, flow: _Flow, now: Micros) -> int:
        """The first piece of the first job in turn that has saved enough for its own."""
        while flow.deficit < flow.queue[0][1]:
            flow.deficit += flow.weight * QUANTUM_BYTES
            if flow.deficit < flow.queue[0][1]:
                self._flows.move_to_end(job)
                job, flow = self._first_open(now)
        number, size = flow.queue.popleft()
        flow.deficit -= size
        for bucket in (self._bucket, flow.bucket):
            if bucket is not None:
                bucket.take(size, now)
        if not flow.queue:
            del self._flows[job]
            self._saved[job] = flow.deficit
            while len(self._saved) > SAVED_MAX:
                del self._saved[next(iter(self._saved))]
        elif flow.deficit < flow.queue[0][1]:
            self._flows.move_to_end(job)
        return number

    def _first_open(self, now: Micros) -> tuple[bytes, _Flow]:
        """The first job in turn whose own cap lets it go; there is one."""
        while True:
            job, flow = next(iter(self._flows.items()))
            if flow.bucket is None or flow.bucket.is_open(now):
                return job, flow
            self._flows.move_to_end(job)
