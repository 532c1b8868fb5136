"""Fair shares of one direction of the link: a rate cap for the node, one for each job, and weights between jobs.

Sans-IO start-time fair queueing over two levels of token buckets: those who want to move bytes queue here and are let
go in an order and at a pace that keeps every promise. Spec: specs/19-bulk.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import LocalError
from protocol.units import SECOND, Micros

BURST_US: Final = Micros(100_000)
"""A bucket holds what its rate gives in this time, µs: short enough for a cap that is felt as one."""

WEIGHT_MAX: Final = 1_000
"""Shares of one job."""


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
class _Piece:
    """Bytes that wait for their turn."""

    number: int
    size: int
    start: int
    """Virtual time at which it would begin if every job had its share of the link."""


@dataclass(slots=True)
class _Flow:
    """One job in one direction."""

    weight: int
    bucket: TokenBucket | None
    finish: int = 0
    """Virtual time at which its last piece would end."""
    queue: deque[_Piece] = field(default_factory=deque)

    def is_open(self, now: Micros) -> bool:
        return self.bucket is None or self.bucket.is_open(now)


class FairShares:
    """Lets pieces of several jobs go. With no cap at all, everything goes at once: the link itself is the cap then."""

    def __init__(self, rate: int | None, now: Micros) -> None:
        self._bucket = None if rate is None else TokenBucket(rate, now)
        self._flows: dict[bytes, _Flow] = {}
        self._settings: dict[bytes, tuple[int, TokenBucket | None]] = {}
        self._numbers = 0
        self._virtual = 0
        """The start of the piece that went last."""

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
            self._flows[job] = _Flow(*self._settings.get(job, (1, None)))
        flow = self._flows[job]
        self._numbers += 1
        start = max(self._virtual, flow.finish)
        flow.finish = start + size * WEIGHT_MAX // flow.weight
        flow.queue.append(_Piece(self._numbers, size, start))
        return self._numbers

    def numbers(self) -> list[int]:
        """All pieces that wait."""
        return [piece.number for flow in self._flows.values() for piece in flow.queue]

    def withdraw(self, number: int) -> None:
        """A piece does not want to go any more."""
        for flow in self._flows.values():
            flow.queue = deque(piece for piece in flow.queue if piece.number != number)

    def tick(self, now: Micros) -> list[int]:
        """The numbers of all pieces that may go now, in their order."""
        gone: list[int] = []
        while self._bucket is None or self._bucket.is_open(now):
            ready = [flow for flow in self._flows.values() if flow.queue and flow.is_open(now)]
            if not ready:
                break
            flow = min(ready, key=lambda one: (one.queue[0].start, one.queue[0].number))
            piece = flow.queue.popleft()
            self._virtual = max(self._virtual, piece.start)
            for bucket in (self._bucket, flow.bucket):
                if bucket is not None:
                    bucket.take(piece.size, now)
            gone.append(piece.number)
        self._forget()
        return gone

    def wake(self, now: Micros) -> Micros | None:
        """When `tick` is due again; None while nobody waits."""
        waiting = [flow for flow in self._flows.values() if flow.queue]
        if not waiting:
            return None
        own = [now if flow.bucket is None else flow.bucket.opens(now) for flow in waiting]
        return Micros(max(min(own), now if self._bucket is None else self._bucket.opens(now)))

    def _forget(self) -> None:
        """Drop jobs that have nothing queued and no more than their share behind them."""
        for job in [job for job, flow in self._flows.items() if not flow.queue and flow.finish <= self._virtual]:
            del self._flows[job]
